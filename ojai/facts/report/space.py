"""Where a host keeps what a deploy brings (images, weights, packages, kernels), and how much room is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

#: How much of each model is in the Hugging Face cache. A download that was cut off leaves its folder too. A file is in
#: the snapshot once it is complete; whether an `.incomplete` one is resumed is up to the hub's library.
#: `snapshot_state` is the owner's section's, which comes before.
_MODELS = r"""
for folder in %MODELS%; do
  most=0; whole=; can=yes
  set -- "$folder" # of a plain folder's own files
  if [ -d "$folder/blobs" ] || [ -d "$folder/snapshots" ]; then
    set -- "$folder"/snapshots/*
  else # GGUF files, say, are for another engine
    token=$(find -L "$folder" -maxdepth 1 -type f -name '*token*' -print -quit 2>/dev/null)
    shard=$(find -L "$folder" -maxdepth 1 -type f -size +0 \( -name '*.safetensors' -o -name '*.bin' \) \
      -print -quit 2>/dev/null)
    [ -s "$folder/config.json" ] && [ "$token" ] && [ "$shard" ] || can=
  fi
  for snapshot in "$@"; do
    [ -d "$snapshot" ] || continue
    size=$(find -L "$snapshot" -type f -printf '%s\n' 2>/dev/null | awk '{sum += $1} END {printf "%.0f", sum}')
    [ "$size" -le "$most" ] || most=$size
    [ "$(snapshot_state "$snapshot")" != complete ] || whole=$can
  done
  [ "$most" = 0 ] || say weights "$folder $most"
  [ -z "$whole" ] || say model "$folder"
done
"""

#: Appended to the report's script. The daemon knows where images go. Where it does not answer, they go under
#: containerd's root (containerd's image store) or Docker's data root; which one, a new engine decides, so both count.
SCRIPT = (
    _MODELS
    + r"""
room() {
  say room "$1 $(free "$1")"
}
for place in /boot /opt /tmp /var/cache/apt; do room "$place"; done
said=$(cat /etc/docker/daemon.json 2>/dev/null | tr '\n\t\r' '   ')
docker_root=$(printf '%s' "$said" | sed -n 's/.*"data-root" *: *"\([^"]*\)".*/\1/p')
containerd_root=$(sed -n "/^ *\[/q; s/^ *root *= *[\"']\([^\"']*\)[\"'].*/\1/p" /etc/containerd/config.toml 2>/dev/null)
: "${docker_root:=/var/lib/docker}" "${containerd_root:=/var/lib/containerd}"
daemon=$(timeout 20 docker info --format '{{.DockerRootDir}} {{json .DriverStatus}}' 2>/dev/null)
case $daemon in
  /*io.containerd.snapshotter*) stores=containerd;;
  /*) stores=docker docker_root=${daemon%% *};;
  *)
    say image_store_guessed yes
    case $(printf '%s' "$said" | sed -n 's/.*"containerd-snapshotter" *: *\([a-z]*\).*/\1/p') in
      true) stores=containerd;;
      false) stores=docker;;
      *) stores='containerd docker'; set -- "$docker_root"/image/*/imagedb; [ ! -d "$1" ] || stores=docker;;
    esac;;
esac
for store in $stores; do
  [ "$store" = docker ] && place=$docker_root || place=$containerd_root
  say image_store "$store $place"; room "$place"
done
for image in /boot/vmlinuz-*; do [ ! -e "$image" ] || say boot_kernel "${image#/boot/vmlinuz-}"; done
say boot_sizes "$(find /boot -maxdepth 1 -type f \( -name 'initrd.img-*' -o -name 'vmlinuz-*' \) -printf '%s %f\n' \
  2>/dev/null | sort -n |
  awk '{sub(/[.-].*/, "", $2); most[$2] = $1} END {if (NR) printf "%.0f", most["initrd"] + most["vmlinuz"]}')"
dpkg-query -W -f '${db:Status-Status}\t${Package}\n' 'rocm*' 'migraphx*' 2>/dev/null |
  sed -n 's/^installed\t/rocm_package\t/p'
:
"""
)


@dataclass(frozen=True)
class Space:
    """Places on file systems; empty or None for what the host did not say."""

    #: folder -> (free bytes, mount point)
    rooms: dict[str, tuple[int, str]] = field(default_factory=dict)
    #: folders of which df named no number
    unknown: tuple[str, ...] = ()
    #: where images go: ``docker`` (its data root) or ``containerd`` -> folder; both where that is not known
    stores: dict[str, str] = field(default_factory=dict)
    #: the daemon did not answer
    guessed: bool = False
    #: model folder -> bytes of its largest snapshot
    weights: dict[str, int] = field(default_factory=dict)
    #: releases of the kernels in /boot
    kernels: tuple[str, ...] = ()
    #: the largest kernel image and the largest initramfs in /boot, together (bytes)
    boot_sizes: int | None = None
    #: installed packages of ROCm, as far as their name says so
    rocm_packages: tuple[str, ...] = ()


def rooms(entries: Sequence[str]) -> tuple[dict[str, tuple[int, str]], tuple[str, ...]]:
    """Folder -> (free bytes, mount point) of "folder free mount" entries, and the folders without a number."""
    read = [entry.split(" ", 2) for entry in entries]
    known = {words[0]: (int(words[1]), words[2]) for words in read if len(words) == 3 and words[1].isdigit()}
    return known, tuple(words[0] for words in read if words[0] not in known)


def read(every: Mapping[str, Sequence[str]]) -> Space:
    """Read the script's keys; `disk` is the report's own key for the folders that it was asked about."""
    found, unknown = rooms(every.get("room", ()))
    sizes = every.get("boot_sizes", ())
    weights = [entry.rsplit(" ", 1) for entry in every.get("weights", ())]
    return Space(
        rooms=found,
        unknown=(*unknown, *rooms(every.get("disk", ()))[1]),
        stores=dict(entry.split(" ", 1) for entry in every.get("image_store", ())),
        guessed="image_store_guessed" in every,
        weights={folder: int(size) for folder, size in weights},
        kernels=tuple(every.get("boot_kernel", ())),
        boot_sizes=int(sizes[0]) if sizes else None,
        rocm_packages=tuple(every.get("rocm_package", ())),
    )
