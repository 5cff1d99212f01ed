"""The container engine of a host: whose it is, what state it is in, and what daemon.json makes of it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from pyinfra.api import FactBase

from ojai.facts.docker import DOCKER, REJECTED
from ojai.facts.files import SHARED

#: Where dockerd reads its configuration unless it is told otherwise.
DAEMON = "/etc/docker/daemon.json"
#: What the unit of a service calls.
CLIENT = "/usr/bin/docker"
#: Packages that have an engine. Any other that has ``dockerd`` counts too.
PACKAGES = ("docker.io", "docker-ce", "moby-engine")
#: Units without which docker.service does not start.
NEEDED = ("docker.service", "docker.socket", "containerd.service")

#: Whose it is. Every path is printed as it is called and as it ends, with the package that has it (or -).
_OWNER = r"""
export LC_ALL=C
PATH="$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
owner() {
  [ -n "$1" ] || { echo -; return; }
  found=$(dpkg-query -S "$1" "$(readlink -f "$1")" 2>/dev/null | sed -n 's/^\([^:, ]*\)[:,].*/\1/p' | head -n 1)
  echo "${found:--}"
}
program() { say program "$1 $2 $(readlink -f "$2") $(owner "$2")"; }
for name in docker dockerd containerd; do binary=$(command -v "$name") && program "$name" "$binary"; done
[ -x %CLIENT% ] && program client %CLIENT%
has=$(owner "$(command -v dockerd)")
dpkg-query -W -f '${db:Status-Status}\t${Package} ${Version}\n' %PACKAGES% "$has" 2>/dev/null |
  sed -n 's/^installed\t/engine\t/p' | sort -u
cat /var/lib/ojai/added/packages /var/lib/ojai/added/dependencies 2>/dev/null |
  while IFS= read -r name; do say noted "$name"; done
:
""".replace("%CLIENT%", CLIENT).replace("%PACKAGES%", " ".join(PACKAGES))

#: What state it is in.
_STATE = r"""
if [ -e /snap/docker/current ]; then
  state=$(systemctl is-enabled snap.docker.dockerd.service 2>/dev/null)
  say docker_snap "${state:-installed}"
fi
for unit in %NEEDED%; do
  say docker_unit "$unit $(systemctl show "$unit" -p LoadState --value 2>/dev/null) \
$(systemctl show "$unit" -p ActiveState --value 2>/dev/null) \
$(systemctl show "$unit" -p UnitFileState --value 2>/dev/null)"
done
if command -v docker >/dev/null; then
  say docker_client "$(%DOCKER% --version 2>/dev/null | head -n 1)"
  server=$(%DOCKER% info --format '{"version":{{json .ServerVersion}},"root":{{json .DockerRootDir}},
"driver":{{json .Driver}},"status":{{json .DriverStatus}},
"security":{{json .SecurityOptions}}}' 2>/dev/null | tr -d '\n')
  say docker_server "$server"
  case $server in *io.containerd.snapshotter*)
    say unseen_images "$(docker_root=$(%DOCKER% info --format '{{.DockerRootDir}}' 2>/dev/null)
      find "$docker_root"/image/*/imagedb/content/sha256 -type f 2>/dev/null | wc -l)"
  esac
fi
%SHARED%
%REJECTED%
pid=$(systemctl show docker.service -p MainPID --value 2>/dev/null)
[ "${pid:-0}" -gt 0 ] && tr '\0' '\n' < "/proc/$pid/cmdline" 2>/dev/null |
  while IFS= read -r word; do say docker_word "$word"; done
say daemon_json_unsafe "$(unsafe %DAEMON%)"
[ -f %DAEMON% ] && { say daemon_json "$(base64 -w 0 %DAEMON%)"; say daemon_json_rejected "$(rejected %DAEMON%)"; }
[ -f "%NOTED%" ] && say daemon_json_noted yes
:
"""

SCRIPT = _OWNER + _STATE
for _mark, _text in {
    "%NEEDED%": " ".join(NEEDED),
    "%DOCKER%": DOCKER,
    "%SHARED%": SHARED,
    "%REJECTED%": REJECTED,
    "%DAEMON%": DAEMON,
    "%NOTED%": f"/var/lib/ojai/added/json{DAEMON.replace('/', '-')}",
}.items():
    SCRIPT = SCRIPT.replace(_mark, _text)


@dataclass(frozen=True)
class Program:
    """A program: its ``path``, where that ends (``real``), and the ``package`` that has it, empty without one."""

    path: str
    real: str
    package: str = ""


@dataclass(frozen=True)
class Unit:
    """A unit as systemd names it: ``load``, ``active``, ``enabled``."""

    load: str = ""
    active: str = ""
    enabled: str = ""


@dataclass(frozen=True)
class Server:
    """The daemon that answers root's client.

    + root: the folder of its data
    + containerd_store: images are in containerd's store
    + security: its security options, such as ``name=userns`` or ``name=rootless``
    """

    version: str
    root: str = ""
    driver: str = ""
    containerd_store: bool = False
    security: tuple[str, ...] = ()


@dataclass(frozen=True)
class Engine:
    """The container engine.

    + packages: packages that have an engine, with their versions
    + noted: packages that ojai installed, or that came with those
    + docker, dockerd, containerd: the programs that root finds
    + client: the client that a service's unit calls
    + snap: how the daemon of Docker's snap is enabled; empty without that snap
    + units: those that Docker needs, by name
    + client_version: as the client says it
    + server: the daemon, None if none answers
    + unseen_images: images in the store of before, where a daemon does not look that keeps them in containerd's
    + words: the command line of the daemon that runs
    + daemon_json: the text of daemon.json, None without that file
    + daemon_json_unsafe: why root must not write there
    + daemon_json_rejected: why dockerd does not read it
    + daemon_json_noted: something of ours is in it
    """

    packages: Mapping[str, str] = field(default_factory=dict)
    noted: tuple[str, ...] = ()
    docker: Program | None = None
    dockerd: Program | None = None
    containerd: Program | None = None
    client: Program | None = None
    snap: str = ""
    units: Mapping[str, Unit] = field(default_factory=dict)
    client_version: str = ""
    server: Server | None = None
    unseen_images: int = 0
    words: tuple[str, ...] = ()
    daemon_json: str | None = field(default=None, repr=False)
    daemon_json_unsafe: str = ""
    daemon_json_rejected: str = ""
    daemon_json_noted: bool = False

    @property
    def there(self) -> bool:
        """Whether the host has an engine; that of a snap is none that a service could use."""
        return bool(self.packages or self.dockerd)

    @property
    def ours(self) -> bool:
        """Whether the engine is ours to install, change and remove: ojai installed it, or there is none."""
        return not self.there or any(name in self.noted for name in self.packages)

    @property
    def name(self) -> str:
        """The engine in a few words."""
        named = [f"{package} {version}" for package, version in self.packages.items()]
        return ", ".join(named) or (self.dockerd.path if self.dockerd else "none")


def _server(text: str) -> Server | None:
    try:
        found = json.loads(text or "{}")
        if not found.get("version"):
            return None
        return Server(
            version=found["version"],
            root=found.get("root") or "",
            driver=found.get("driver") or "",
            containerd_store="io.containerd.snapshotter" in json.dumps(found.get("status")),
            security=tuple(found.get("security") or ()),
        )
    except (ValueError, AttributeError, TypeError):
        return None  # another program called docker


def read(every: Mapping[str, list[str]]) -> Engine:
    """The engine, from the answers by their keys."""

    def one(key: str) -> str:
        return every.get(key, [""])[0]

    programs = {}
    for line in every.get("program", []):
        name, path, real, package = [*line.split(" "), "", "", ""][:4]
        programs[name] = Program(path, real, "" if package == "-" else package)
    units = {}
    for line in every.get("docker_unit", []):
        name, load, active, enabled = [*line.split(" "), "", "", ""][:4]
        units[name] = Unit(load, active, enabled)
    text = every.get("daemon_json")
    return Engine(
        packages=dict(line.split(" ", 1) for line in every.get("engine", [])),
        noted=tuple(every.get("noted", [])),
        snap=one("docker_snap"),
        units=units,
        client_version=one("docker_client"),
        server=_server(one("docker_server")),
        unseen_images=int(one("unseen_images") or 0),
        words=tuple(every.get("docker_word", [])),
        daemon_json=base64.b64decode(text[0]).decode(errors="surrogateescape") if text else None,
        daemon_json_unsafe=one("daemon_json_unsafe"),
        daemon_json_rejected=one("daemon_json_rejected"),
        daemon_json_noted=bool(one("daemon_json_noted")),
        **programs,
    )


class EngineOwner(FactBase[Engine]):
    """The :class:`Engine` without its state: whose it is."""

    @staticmethod
    def default() -> Engine:
        """None, so it is ours to install."""
        return Engine()

    def command(self) -> str:
        """The part of the report that says it."""
        return 'say() { printf "%s\\t%s\\n" "$1" "$2"; }\n' + _OWNER.strip()

    def process(self, output: list[str]) -> Engine:
        """Read the lines."""
        every: dict[str, list[str]] = {}
        for line in output:
            key, _, value = line.partition("\t")
            every.setdefault(key, []).append(value)
        return read(every)
