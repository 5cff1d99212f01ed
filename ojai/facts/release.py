"""The releases that are saved on a host, and what it has now."""

from __future__ import annotations

import base64
import shlex
from dataclasses import dataclass, field, replace

from pyinfra.api import FactBase

from ojai.facts import script
from ojai.facts.docker import DOCKER
from ojai.paths import env_file, unit_file
from ojai.releases import (
    FOLDER,
    PENDING_ROLLBACK,
    REPOSITORY,
    SLOTS,
    Contents,
    Release,
    Slot,
    digest_of,
    from_json,
    tag,
)


@dataclass(frozen=True)
class Releases:
    """The releases on a host.

    + kept: those that are intact: every file is what ``release.json`` says, and only root can read it
    + now: what the services that were asked about consist of at this moment
    + tags: tag of a release -> its image
    + pending: the ``kept`` of the release that an interrupted rollback was to restore, else empty
    + lost: ids of saved releases' images that the host does not have (any more) -> the store in which Docker does not
      look any more and that still has it, ``overlay2`` or ``containerd``; empty where none has it
    """

    kept: dict[Slot, Release] = field(default_factory=dict)
    now: dict[str, Contents] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pending: str = ""
    lost: dict[str, str] = field(default_factory=dict)

    def held(self, slot: Slot) -> bool:
        """Whether every image of a release has its tag: without one it can be pruned."""
        services = self.kept[slot].services
        return all(self.tags.get(tag(r.serving.name, slot)) == r.contents.image_id for r in services)


#: Owner and mode of the folder of a release, its parent, and the files in it.
_CLOSED = {"root:700", "root:600"}

# Sums of the files, never their content: environment files hold secrets.
_RELEASES = r"""
printf 'going\t%s\n' "$(cat "$pending" 2>/dev/null)"
for slot in %SLOTS%; do
  cd "$folder/$slot" 2>/dev/null || continue
  rights=$(stat -c %U:%a .. . ./*.unit ./*.env 2>/dev/null | sort -u | tr '\n' ' ')
  printf 'slot\t%s\t%s\t%s\n' "$slot" "$rights" "$(base64 -w 0 release.json 2>/dev/null)"
  sha256sum ./*.unit ./*.env 2>/dev/null | sed "s/^/sum\t$slot\t/"
  cd /
done
%DOCKER% image ls --no-trunc --format 'tag\t{{.Repository}}:{{.Tag}}\t{{.ID}}' %REPOSITORY% 2>/dev/null
# Images of one store are out of sight when Docker uses the other.
if now_in=$(%DOCKER% info --format '{{.DockerRootDir}} {{json .DriverStatus}}' 2>/dev/null); then
  root=${now_in%% *}
  grep -oh '"image_id": *"sha256:[0-9a-f]*"' "$folder"/*/release.json 2>/dev/null | grep -o '[0-9a-f]\{64\}' | sort -u |
    while read -r id; do
      ! %DOCKER% image inspect "sha256:$id" >/dev/null 2>&1 || continue
      case $now_in in
        *io.containerd.snapshotter*) other=overlay2 left=$(ls "$root"/image/*/imagedb/content/*/"$id" 2>/dev/null);;
        *) other=containerd left=$(ls %BLOBS%/"$id" 2>/dev/null);;
      esac
      printf 'lost\tsha256:%s\t%s\n' "$id" "${left:+$other}"
    done
fi

# service, unit file, environment file, image
now() {
  printf 'now\t%s\t%s\t%s\t%s\t%s\n' "$1" "$(sha256sum "$2" 2>/dev/null)" "$(sha256sum "$3" 2>/dev/null)" "$4" \
    "$(%DOCKER% image inspect --format '{{.Id}}{{range .RepoDigests}} {{.}}{{end}}' "$4" 2>/dev/null)"
}
"""
for _mark, _text in {
    "%DOCKER%": DOCKER,
    "%SLOTS%": " ".join(SLOTS),
    "%REPOSITORY%": REPOSITORY,
    "%BLOBS%": "/var/lib/containerd/io.containerd.content.v1.content/blobs/sha256",
}.items():
    _RELEASES = _RELEASES.replace(_mark, _text)


class ReleaseState(FactBase[Releases]):
    """The :class:`Releases` on a host.

    + services: (name, image) of the services whose present state is read
    """

    @staticmethod
    def default() -> Releases:
        """No release, no service."""
        return Releases()

    def command(self, services: tuple[tuple[str, str], ...]) -> str:
        """A tab-separated line for each slot, file, tag and service."""
        now = [shlex.join(["now", name, unit_file(name), env_file(name), image]) for name, image in services]
        return script("\n".join([_RELEASES, *now, ":"]), folder=FOLDER, pending=PENDING_ROLLBACK)

    def process(self, output: list[str]) -> Releases:
        """Read the lines."""
        slots: dict[str, tuple[str, Release | None]] = {}
        sums: dict[tuple[str, str], str] = {}
        now: dict[str, Contents] = {}
        tags: dict[str, str] = {}
        lost: dict[str, str] = {}
        pending = ""
        for line in output:
            match line.split("\t"):
                case ["going", since]:
                    pending = since
                case ["slot", slot, rights, text]:
                    slots[slot] = rights, from_json(base64.b64decode(text))
                case ["sum", slot, rest]:
                    digest, _, file = rest.partition("  ./")
                    sums[slot, file] = digest
                case ["tag", name, image_id]:
                    tags[name] = image_id
                case ["lost", image_id, store]:
                    lost[image_id] = store
                case ["now", name, unit, env, image, found]:
                    image_id, *digests = found.split() or [""]
                    contents = Contents(image_id=image_id, digest=digest_of(image, digests))
                    now[name] = replace(contents, unit=unit.split(" ")[0], env=env.split(" ")[0])
        kept: dict[Slot, Release] = {}
        for slot in SLOTS:
            rights, release = slots.get(slot, ("", None))
            if release and set(rights.split()) <= _CLOSED and _whole(release, slot, sums):
                kept[slot] = release
        return Releases(kept=kept, now=now, tags=tags, pending=pending, lost=lost)


def _whole(release: Release, slot: Slot, sums: dict[tuple[str, str], str]) -> bool:
    expected = {}
    for released in release.services:
        expected[slot, f"{released.serving.name}.unit"] = released.contents.unit
        expected[slot, f"{released.serving.name}.env"] = released.contents.env
    return expected == {key: value for key, value in sums.items() if key[0] == slot}
