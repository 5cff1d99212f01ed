"""What somebody set up by hand: kernel parameters, caches, servers. A key or token in any of it stays on the host."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ojai.facts.docker import DOCKER, MASK_JSON, SECRET_NAME
from ojai.facts.ledger import OwnUnits
from ojai.facts.sysctl import FILES, Boot, SysctlBoot

#: Folders that the guides make in a home.
PLACES = (".cache/huggingface", ".cache/vllm", ".cache/tunableop", "models", "workspace")

#: Cuts off the value of what is secret by its name, in words, and credentials in URLs.
_MASK_WORDS = (
    rf"""sed -E 's/([A-Za-z0-9_]*{SECRET_NAME})=("[^"]*"|\x27[^\x27]*\x27|[^ ";]*)/\1=/Ig; """
    r"""s/(--[a-z-]*(key|token|password)[ =]+)[^ ]+/\1/Ig; s|//[^/@ "]*@|//|g'"""
)

SCRIPT = r"""
tab=$(printf '\t')
say owner_sysctl_service "$(systemctl is-enabled systemd-sysctl.service 2>/dev/null)"
{ %SYSCTL_FILES%; } | grep -E '^# /(.*/sysctl\.d/.*|etc/sysctl)\.conf$|^[^#;]*=' |
  while IFS= read -r line; do
    say owner_sysctl "$line"
    case $line in '# /'*) [ ! -L "${line#??}" ] || say owner_link "${line#??}";; esac
  done

# Weights by the layout of the hub's client: a snapshot is links to blobs, each made when its file is all there.
snapshot_state() {
  [ -z "$(find "$1" -xtype l -print -quit)" ] || { echo broken; return; }
  [ -n "$(find -L "$1" -type f -size +0 \( -name '*.safetensors' -o -name '*.gguf' -o -name '*.bin' \) \
    -print -quit)" ] || { echo partial; return; }
  set -- "$1" "$1"/*.index.json
  [ -e "$2" ] || [ -z "$(find "$1" -name '*-of-*.safetensors' -print -quit)" ] || { echo partial; return; }
  for shard in $(grep -ho '"[^"/]*\.safetensors"' "$1"/*.index.json 2>/dev/null | tr -d '"' | sort -u); do
    [ -s "$1/$shard" ] || { echo partial; return; }
  done
  echo complete
}
weights() { # a folder as ~/.cache/huggingface
  [ ! -s "$1/token" ] || say owner_token "$1"
  for repo in "$1"/hub/models--*; do
    [ -d "$repo" ] || continue
    state=partial
    main=$(cat "$repo/refs/main" 2>/dev/null) # the revision that is loaded
    snapshot=$repo/snapshots/$main
    [ -n "$main" ] || for snapshot in "$repo"/snapshots/*; do :; done
    [ ! -d "$snapshot" ] || state=$(snapshot_state "$snapshot")
    say owner_weights "$1$tab${repo##*/}$tab$state"
  done
}
folder() { # account name path
  real=$(readlink -m "$3")
  if [ -d "$3" ]; then owner=$(stat -L -c %U "$3"); else owner=; fi
  say owner_folder "$1$tab$2$tab$3$tab${real:-$3}$tab$owner"
}
homes=$(getent passwd | awk -F: '($3 >= 1000 && $3 != 65534) || $3 == 0 { print $1 ":" $6 }')
printf '%s\n' "$homes" | while IFS=: read -r account home; do
  [ -d "$home" ] || continue
  for name in .cache/huggingface .cache/vllm .cache/tunableop models workspace; do
    { [ -e "$home/$name" ] || [ -L "$home/$name" ]; } && folder "$account" "${name##*/}" "$home/$name"
  done
  weights "$home/.cache/huggingface"
  for csv in "$home"/.cache/tunableop/*.csv; do [ ! -f "$csv" ] || say owner_tuned "$csv"; done
done
# What is only mounted later (nofail, network, a disk that is not plugged in).
findmnt --fstab --noheadings --raw --output TARGET 2>/dev/null | while IFS= read -r target; do
  case $target in /*) mountpoint -q "$target" || say owner_unmounted "$target";; esac
done
for each in %CACHES%; do
  folder '' "${each%%=*}" "${each#*=}"
  case $each in # and a level below and above: that one may be meant
    huggingface=*) for where in "${each#*=}" "${each#*=}/huggingface"; do weights "$where"; done
      case $each in */hub) where=${each%/hub}; weights "${where#*=}";; esac;;
  esac
done

for entry in /etc/apt/preferences /etc/apt/preferences.d/*; do
  [ ! -f "$entry" ] || awk -v file="$entry" 'BEGIN { RS = ""; FS = "\n" } /[Rr][Oo][Cc][Mm]|radeon|[Aa][Mm][Dd]/ {
    package = pin = priority = ""
    for (i = 1; i <= NF; i++) {
      if ($i ~ /^Package:/) package = substr($i, 9); if ($i ~ /^Pin:/) pin = substr($i, 5)
      if ($i ~ /^Pin-Priority:/) priority = substr($i, 14)
    }
    gsub(/\t/, " ", package); gsub(/\t/, " ", pin)
    print file "\t" package "\t" pin "\t" priority + 0
  }' "$entry" | while IFS= read -r line; do say owner_pin "$line"; done
done
{ %OWN_UNITS%; } | while IFS= read -r unit; do
  since=$(systemctl show -p ExecMainStartTimestamp --value --timestamp=us+utc "$unit" 2>/dev/null)
  say owner_ours "$unit $([ -z "$since" ] || date -d "$since" +%s)"
done
# What the adoption of an earlier run has recorded.
cat /var/lib/ojai/added/caches 2>/dev/null | while IFS= read -r line; do say owner_adopted_cache "$line"; done
if command -v docker >/dev/null; then
  for id in $(%DOCKER% ps --all --quiet --no-trunc 2>/dev/null); do
    %DOCKER% container inspect "$id" --format '{"id": {{json .Id}}, "name": {{json .Name}}, '\
'"image": {{json .Config.Image}}, "image_id": {{json .Image}}, "argv": {{json .Config.Cmd}}, '\
'"entrypoint": {{json .Config.Entrypoint}}, "environment": {{json .Config.Env}}, "labels": {{json .Config.Labels}}, '\
'"network": {{json .HostConfig.NetworkMode}}, "published": {{json .HostConfig.PortBindings}}, '\
'"removes": {{json .HostConfig.AutoRemove}}, "restart": {{json .HostConfig.RestartPolicy.Name}}, '\
'"status": {{json .State.Status}}, "created": {{json .Created}}, "started": {{json .State.StartedAt}}, '\
'"mounts": {{json .Mounts}}}' 2>/dev/null | tr '\t' ' ' | %MASK_JSON% | while IFS= read -r line; do
      say owner_container "$line"; done
    %DOCKER% container inspect "$id" --format '{{range .Mounts}}{{.Source}}{{println}}{{end}}' 2>/dev/null |
      while IFS= read -r source; do
        for home in "$source" "$source/huggingface"; do [ ! -d "$home/hub" ] || weights "$home"; done
        for csv in "$source"/*.csv "$source"/tunableop/*.csv; do
          [ ! -f "$csv" ] || ! grep -q '^Validator,' "$csv" || say owner_tuned "$csv"; done
      done
    image=$(%DOCKER% container inspect --format '{{.Image}}' "$id" 2>/dev/null)
    say owner_image "$image $(%DOCKER% image inspect --format '{{join .RepoDigests " "}}' "$image" 2>/dev/null)"
  done
fi
# Lines of: (account,) name, state, active, folder, file, and last the command as `systemctl show` prints it.
runs_server() { # key
  while IFS= read -r line; do
    exec=${line##*"$tab"}
    program=$(printf '%s\n' "$exec" | sed -n 's/.*argv\[\]=\([^;]*\) ;.*/\1/p')
    words=$program
    for word in $program; do # a script is read too
      [ -f "$word" ] || continue
      case $word in
        *.sh | *.yaml | *.yml) ;;
        *) [ "$(head -c 2 "$word" 2>/dev/null)" = '#!' ] || continue;;
      esac
      words="$words $(head -c 16384 "$word" | grep -v '^[[:space:]]*#' | tr '\n\t' '  ' | sed 's/\\/ /g')"
    done
    case $words in
      *docker* | *podman* | *vllm*)
        printf '%s\t%s\n' "${line%"$tab"*}" "$words" | %MASK_WORDS% |
          while IFS= read -r text; do say "$1" "$text"; done;;
    esac
  done
}
# Units of an account's own systemd, which only that one can be asked about.
printf '%s\n' "$homes" | while IFS=: read -r account home; do
  for file in "$home"/.config/systemd/user/*.service; do
    [ -f "$file" ] || continue
    name=${file##*/} state=disabled active=inactive
    for each in "${file%/*}"/*.wants/"$name"; do [ ! -L "$each" ] || state=enabled; done
    for each in /sys/fs/cgroup/user.slice/user-"$(id -u "$account" 2>/dev/null)".slice/user@*/*/"$name"; do
      [ ! -d "$each" ] || active=active
    done
    [ "$state $active" != 'disabled inactive' ] || continue
    cat "$file" "$file".d/*.conf 2>/dev/null | sed -e ':more; /\\$/ { N; s/\\\n/ /; t more }' -e "s|%h|$home|g" |
      tr '\t' ' ' | awk -v OFS='\t' -v file="$file" -v start="$account$tab$name$tab$state$tab$active" '
        /^ExecStart=/ { sub(/^ExecStart=[-+!@:]*/, ""); exec = exec " argv[]=" $0 " ;" }
        /^WorkingDirectory=/ { sub(/^WorkingDirectory=[-]?/, ""); folder = $0 }
        END { print start, folder, file, exec }'
  done
done | runs_server owner_user_unit
unit_files
units=$({ printf '%s\n' "$unit_files" | awk '$1 ~ /\.service$/ && $2 ~ /^enabled(-runtime)?$/ { print $1 }'
  systemctl list-units --type=service --state=active,activating,failed --no-legend --plain 2>/dev/null; } |
  awk '$1 !~ /@\.service$/ { print $1 }' | sort -u)
[ -z "$units" ] || printf '%s\n' "$units" |
  xargs systemctl show -p Id,FragmentPath,UnitFileState,ActiveState,ExecStart,WorkingDirectory 2>/dev/null |
  awk 'BEGIN { RS = ""; FS = "\n" } {
    id = path = state = active = exec = folder = ""
    for (i = 1; i <= NF; i++) {
      value = $i; sub(/^[A-Za-z]*=/, "", value)
      if ($i ~ /^Id=/) id = value; if ($i ~ /^FragmentPath=/) path = value; if ($i ~ /^UnitFileState=/) state = value
      if ($i ~ /^ActiveState=/) active = value; if ($i ~ /^WorkingDirectory=/) folder = value
      if ($i ~ /^ExecStart=/) exec = exec " " value
    }
    # What a package of the distribution brings is not an owner of a model server.
    if (path ~ /^\/(etc|run|usr\/local)\//) {
      gsub(/\t/, " ", exec); print id "\t" state "\t" active "\t" folder "\t" path "\t" exec
    }
  }' | runs_server owner_unit
:
""".replace("%OWN_UNITS%", OwnUnits().command("/var/lib/ojai/added"))
SCRIPT = SCRIPT.replace("%SYSCTL_FILES%", FILES)
SCRIPT = SCRIPT.replace("%DOCKER%", DOCKER).replace("%MASK_JSON%", MASK_JSON).replace("%MASK_WORDS%", _MASK_WORDS)

#: ``complete``; ``partial``: a download that is not all there; ``broken``: links into blobs that are not there.
WeightsState = Literal["complete", "partial", "broken"]


_STATES: dict[str, WeightsState] = {"complete": "complete", "broken": "broken"}


@dataclass(frozen=True)
class Folder:
    """A folder that the guides make, or that the inventory names.

    + account: whose home it is in, empty for one that the inventory names
    + name: as the engine's mounts have it, such as ``huggingface``
    + path, real: as it was found, and without links
    + owner: its owner's name, empty where nothing is there (a link into nowhere)
    """

    account: str
    name: str
    path: str
    real: str
    owner: str


@dataclass(frozen=True)
class Weights:
    """A model in a folder of the hub's client; ``repository`` as that names it, ``models--ORG--NAME``."""

    folder: str
    repository: str
    state: WeightsState


@dataclass(frozen=True)
class Pin:
    """A stanza of apt's preferences that names AMD or ROCm."""

    file: str
    package: str
    pin: str
    priority: int


@dataclass(frozen=True)
class Container:
    """A container, running or not; values of secret variables and options are cut off.

    + argv: what follows the image's name on the command line
    + environment: variable -> value
    + network: ``host``, ``bridge`` …
    + published: host ports
    + removes: it goes when it stops (``--rm``)
    + restart: name of its restart policy, ``no`` without one
    + created, started: as Docker writes times
    + mounts: path in the container -> path on the host
    """

    id: str
    name: str
    image: str = ""
    image_id: str = ""
    argv: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    network: str = ""
    published: tuple[int, ...] = ()
    removes: bool = False
    restart: str = "no"
    status: str = ""
    created: str = ""
    started: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    mounts: dict[str, str] = field(default_factory=dict)

    @property
    def up(self) -> bool:
        """Whether it runs, paused or not."""
        return self.status in ("running", "paused", "restarting")

    @property
    def words(self) -> list[str]:
        """Its command in words, those of ``bash -c`` too."""
        return " ".join((*self.entrypoint, *self.argv)).split()

    @property
    def port(self) -> int | None:
        """The port that its arguments name."""
        return _option(self.words, "--port")

    @property
    def ports(self) -> tuple[int, ...]:
        """The host's ports that it uses."""
        return (self.port,) if self.network == "host" and self.port else self.published

    @property
    def compose(self) -> str:
        """Project and service, where compose made it."""
        project, service = (self.labels.get(f"com.docker.compose.{name}", "") for name in ("project", "service"))
        return f"{project}/{service}" if project else ""

    def folder(self, inside: str) -> str | None:
        """The host's folder that the container has at the path ``inside``."""
        for path in sorted(self.mounts, key=len, reverse=True):
            if inside == path or inside.startswith(f"{path.rstrip('/')}/"):
                return self.mounts[path].rstrip("/") + inside[len(path.rstrip("/")) :]
        return None


@dataclass(frozen=True)
class Unit:
    """A systemd service of the owner's that runs a container or vLLM.

    + enabled, active: as systemd names them
    + folder: its working directory
    + path: its file
    + words: its command, with the text of the scripts that it names; secrets are cut off
    + account: whose own systemd it is a unit of, empty for the system's
    """

    name: str
    enabled: str = ""
    active: str = ""
    folder: str = ""
    path: str = ""
    words: str = ""
    account: str = ""

    def names(self, word: str) -> bool:
        """Whether ``word`` is in its command as a word of its own."""
        return bool(re.search(rf"(?<![\w.-]){re.escape(word)}(?![\w.-])", self.words))


@dataclass(frozen=True)
class Owner:
    """What the owner has; empty for what the host did not say.

    + sysctl: what the next boot sets
    + links: its files that are links, as Ubuntu's own to /etc/sysctl.conf
    + folders, weights: caches
    + tokens: folders of the hub's client that have a token
    + tuned: TunableOp's files
    + unmounted: mount points of fstab where nothing is mounted now
    + pins: apt's stanzas about AMD
    + containers, units: servers, ours too
    + images: id -> registry digests, of the containers' images
    + ours: units of ours -> when each started (seconds since 1970), None for one that did not
    + adopted: cache -> folder, as an earlier adoption recorded them
    """

    sysctl: Boot = field(default_factory=Boot)
    links: tuple[str, ...] = ()
    folders: tuple[Folder, ...] = ()
    weights: tuple[Weights, ...] = ()
    tokens: tuple[str, ...] = ()
    tuned: tuple[str, ...] = ()
    unmounted: tuple[str, ...] = ()
    pins: tuple[Pin, ...] = ()
    containers: tuple[Container, ...] = ()
    units: tuple[Unit, ...] = ()
    images: dict[str, tuple[str, ...]] = field(default_factory=dict)
    ours: dict[str, int | None] = field(default_factory=dict)
    adopted: dict[str, str] = field(default_factory=dict)


def _option(argv: Sequence[str], flag: str) -> int | None:
    """The number that the option ``flag`` of a command line has: its last one counts."""
    found = None
    for position, word in enumerate(argv):
        name, equals, value = word.partition("=")
        value = value if equals else next(iter(argv[position + 1 : position + 2]), "")
        if name == flag and value.isdigit():
            found = int(value)
    return found


def _container(entry: str) -> Container | None:
    try:
        value: dict[str, Any] = json.loads(entry)
        bindings = [one for many in (value["published"] or {}).values() for one in many or ()]
        return Container(
            id=value["id"],
            name=value["name"].lstrip("/"),
            image=value["image"],
            image_id=value["image_id"],
            argv=tuple(value["argv"] or ()),
            entrypoint=tuple(value["entrypoint"] or ()),
            environment=dict(each.partition("=")[::2] for each in value["environment"] or ()),
            network=value["network"],
            published=tuple(int(one["HostPort"]) for one in bindings if str(one.get("HostPort", "")).isdigit()),
            removes=value["removes"],
            restart=value["restart"] or "no",
            status=value["status"],
            created=value["created"],
            started=value["started"],
            labels=value["labels"] or {},
            mounts={mount["Destination"]: mount["Source"] for mount in value["mounts"] or () if mount.get("Source")},
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _split(every: Mapping[str, Sequence[str]], key: str, parts: int) -> list[list[str]]:
    found = [entry.split("\t", parts - 1) for entry in every.get(key, ())]
    return [words for words in found if len(words) == parts]


def read(every: Mapping[str, Sequence[str]]) -> Owner:
    """Read the script's keys."""
    containers = [found for entry in every.get("owner_container", ()) if (found := _container(entry))]
    units = [Unit(*words) for words in _split(every, "owner_unit", 6)]
    users = [Unit(*words[1:], *words[:1]) for words in _split(every, "owner_user_unit", 7)]
    images = [entry.split() for entry in every.get("owner_image", ()) if entry.split()]
    ours = [(*entry.split(), "")[:2] for entry in every.get("owner_ours", ()) if entry.split()]
    folders = dict.fromkeys(Folder(*words) for words in _split(every, "owner_folder", 5))
    weights = dict.fromkeys(
        Weights(folder, repository, _STATES.get(state, "partial"))
        for folder, repository, state in _split(every, "owner_weights", 3)
    )
    service = every.get("owner_sysctl_service", ("",))[0]
    return Owner(
        sysctl=SysctlBoot().process([f"service {service}", *every.get("owner_sysctl", ())]),
        links=tuple(every.get("owner_link", ())),
        folders=tuple(folders),
        weights=tuple(weights),
        tokens=tuple(dict.fromkeys(every.get("owner_token", ()))),
        tuned=tuple(dict.fromkeys(every.get("owner_tuned", ()))),
        unmounted=tuple(every.get("owner_unmounted", ())),
        pins=tuple(
            Pin(file, package.strip(), pin.strip(), int(priority))
            for file, package, pin, priority in _split(every, "owner_pin", 4)
            if re.fullmatch(r"-?\d+", priority)
        ),
        containers=tuple(containers),
        units=(*(unit for unit in units if unit.name not in {name for name, _ in ours}), *users),
        images={words[0]: tuple(words[1:]) for words in images},
        ours={name: int(started) if started else None for name, started in ours},
        adopted=dict(entry.split("=", 1) for entry in every.get("owner_adopted_cache", ()) if "=" in entry),
    )
