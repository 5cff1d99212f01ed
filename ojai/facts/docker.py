"""What the Docker Engine reports: images, containers, the daemon itself."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import Any

from pyinfra.api import FactBase

from ojai.facts import script

#: The client as facts call it: a daemon that hangs is no reason to wait forever.
DOCKER = "timeout 20 docker"

#: Shell function ``rejected FILE``: why dockerd would not start with this configuration and its unit's options. Nothing
#: if it would, or if there is no dockerd that can say so (23.0 is the first). With userns-remap it is not asked: it
#: would create the user that it maps to.
REJECTED = r"""
rejected() {
  PATH="$PATH:/usr/local/sbin:/usr/sbin"
  command -v dockerd >/dev/null && ! grep -q userns-remap "$1" || return 0
  pid=$(systemctl show docker.service -p MainPID --value 2>/dev/null)
  if [ "${pid:-0}" -gt 0 ] && [ -r "/proc/$pid/cmdline" ] && ! grep -q userns-remap "/proc/$pid/cmdline"; then
    said=$(xargs -0 -a "/proc/$pid/cmdline" sh -c 'exec timeout 20 "$@" --validate "--config-file=$0"' "$1" 2>&1)
  else
    said=$(timeout 20 dockerd --validate "--config-file=$1" 2>&1)
  fi && return 0
  case $said in *"unknown flag"*) ;; *) printf '%s\n' "$said" | tail -n 1 ;; esac
}
"""

#: Seconds that Docker may take to create a unit's container.
CREATION = 120


@dataclass(frozen=True)
class Image:
    """``id`` is the image id (``sha256:…``), ``digests`` are its registry digests (``name@sha256:…``)."""

    id: str
    digests: tuple[str, ...]

    @property
    def key(self) -> str:
        """Twelve hex digits that change with the image: the directory name of caches that depend on it."""
        digest = self.digests[0].rsplit("@", 1)[-1] if self.digests else self.id
        return digest.removeprefix("sha256:")[:12]


class DockerImage(FactBase[Image | None]):
    """The local :class:`Image` called ``reference``; None without one, or without Docker."""

    def command(self, reference: str) -> str:
        """``docker image inspect``; its failure is an answer too."""
        return f"{DOCKER} image inspect --format '{{{{json .}}}}' {shlex.quote(reference)} 2>/dev/null || true"

    def process(self, output: list[str]) -> Image | None:
        """Read the JSON. Docker prints an empty line for an image that does not exist."""
        text = "".join(output).strip()
        if not text:
            return None
        found = json.loads(text)
        return Image(id=found["Id"], digests=tuple(found.get("RepoDigests") or ()))


@dataclass(frozen=True)
class ContainerState:
    """A container.

    + image, argv: image name and arguments that it was created with
    + image_retagged: that name is another image by now
    + paused: it is paused
    + auto_remove: it was created with ``--rm``
    + created: when (seconds since 1970)
    + stale_mounts: host directories that were replaced after they were mounted
    """

    image: str
    argv: tuple[str, ...] = ()
    image_retagged: bool = False
    paused: bool = False
    auto_remove: bool = False
    created: float | None = None
    stale_mounts: tuple[str, ...] = ()

    def created_by_unit(self, started: float | None) -> bool:
        """Whether the ``docker run --rm`` of a unit that started at ``started`` created it."""
        since = started or 0.0
        return self.created is None or (self.auto_remove and since - 1 <= self.created <= since + CREATION)


#: Not the whole configuration: it has the environment, and with -vvv an answer is shown.
_CONTAINER = r"""
shown=$(%DOCKER% container inspect "$container" --format \
  'Container={"Image": {{json .Config.Image}}, "Cmd": {{json .Config.Cmd}}}
Name={{.Config.Image}}
Runs={{.State.Status}} {{.Image}} {{.HostConfig.AutoRemove}} {{.Created}}
{{range .Mounts}}Mount={{$.State.Pid}} {{.Destination}} {{.Source}}{{println}}{{end}}' 2>/dev/null)
[ -n "$shown" ] || exit 0
printf '%s\n' "$shown"
image=$(printf '%s\n' "$shown" | sed -n 's/^Name=//p')
printf 'Has=%s\n' "$(%DOCKER% image inspect --format '{{.Id}}' "$image" 2>/dev/null)"
printf '%s\n' "$shown" | sed -n 's/^Mount=//p' | while read -r pid inside outside; do
  [ "$(stat -L -c %d:%i "/proc/$pid/root$inside" 2>/dev/null)" = "$(stat -L -c %d:%i "$outside" 2>/dev/null)" ] ||
    echo "Stale=$outside"
done
made=$(printf '%s\n' "$shown" | sed -n 's/^Runs=[^ ]* [^ ]* [^ ]* //p')
[ -z "$made" ] || printf 'Made=%s\n' "$(date -d "$made" +%s.%6N)"
""".replace("%DOCKER%", DOCKER)


#: How the name of a variable ends whose value is secret.
SECRET_NAME = "(TOKEN|KEY|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|(^|[^A-Za-z])(PASS|PAT)|[_-](PWD|AUTH))"
#: A value in a command line that a shell reads, as JSON has it.
_WORD = r"""(\\"([^"\\]|\\[^"])*\\"|\x27[^\x27"]*\x27|[^-"\x27 ;&|\\][^" ;&|\\]*)"""

#: Cuts off the value of what is secret by its name, and passwords in addresses; an engine may take several keys.
MASK_JSON = (
    r"""sed -E ':more; s/("--[a-z-]*(key|token|password)"(,"")*),"([^"\\-]|\\.)([^"\\]|\\.)*"/\1,""/I; t more; """
    rf"""s/"([^"= ]*{SECRET_NAME})=([^"\\]|\\.)*"/"\1="/Ig; """
    rf"""s/(--[a-z-]*(key|token|password))([ =]+{_WORD})+/\1 /Ig; """
    rf"""s/([A-Za-z0-9_]*{SECRET_NAME})={_WORD}/\1=/Ig; s|//[^/@ "]*@|//:@|g'"""
)

_RUNNING = rf"""
ids=$({DOCKER} ps --quiet --no-trunc 2>/dev/null) || exit 0
for id in $ids; do
  {DOCKER} container inspect --format '{{{{json .}}}}' "$id"
  {DOCKER} image inspect --format '{{{{json .}}}}' "$({DOCKER} container inspect --format '{{{{.Image}}}}' "$id")"
done 2>/dev/null | {MASK_JSON}
"""


class DockerContainer(FactBase[ContainerState | None]):
    """The :class:`ContainerState` of the container of this name; None without one."""

    def command(self, container: str) -> str:
        """``Key=value`` lines; the mounts are compared with what is at their paths now."""
        return script(_CONTAINER, container=container)

    def process(self, output: list[str]) -> ContainerState | None:
        """Read the lines."""
        values = dict(line.split("=", 1) for line in output if "=" in line)
        if not values.get("Container"):
            return None
        config = json.loads(values["Container"])
        status, image_id, removes = (*values.get("Runs", "").split(), "", "", "")[:3]
        return ContainerState(
            image=config["Image"],
            argv=tuple(config["Cmd"] or ()),
            image_retagged=bool(image_id and values.get("Has") != image_id),
            paused=status == "paused",
            auto_remove=removes == "true",
            created=float(values["Made"]) if values.get("Made") else None,
            stale_mounts=tuple(line.removeprefix("Stale=") for line in output if line.startswith("Stale=")),
        )


class RunningContainers(FactBase[list[dict[str, Any]]]):
    """What ``docker inspect`` says of every running container and of its image; secrets stay on the host."""

    def command(self) -> str:
        """An object a line."""
        return script(_RUNNING)

    def process(self, output: list[str]) -> list[dict[str, Any]]:
        """Read the lines."""
        return [json.loads(line) for line in output if line.startswith("{")]

    @staticmethod
    def default() -> list[dict[str, Any]]:
        """No container."""
        return []


@dataclass(frozen=True)
class Pulled:
    """Our record of one image.

    + id: its id when the pull had ended and was on disk, empty without a record
    + begun: a pull was started and never recorded as complete
    + booted: the host has rebooted since, so data may be lost
    """

    id: str = ""
    begun: bool = False
    booted: bool = False


class PulledImage(FactBase[Pulled]):
    """What the record in ``file`` says about the image that was pulled as ``reference``: :class:`Pulled`."""

    @staticmethod
    def default() -> Pulled:
        """No record."""
        return Pulled()

    def command(self, file: str, reference: str) -> str:
        """Each line is a reference, a blank, and the id; or ``pulling:`` and the boot in which the pull started."""
        return (
            "cat /proc/sys/kernel/random/boot_id; "
            f"awk -v name={shlex.quote(reference)} '$1 == name {{print $2}}' {shlex.quote(file)} 2>/dev/null || true"
        )

    def process(self, output: list[str]) -> Pulled:
        """This boot's id, then the record; its last line counts."""
        boot, *notes = (line.strip() for line in output)
        word, _, since = (notes[-1] if notes else "").partition(":")
        if word == "pulling":
            return Pulled(begun=True, booted=since != boot)
        return Pulled(id=notes[-1] if notes else "")


@dataclass(frozen=True)
class Daemon:
    """The Docker daemon.

    + there: Docker is installed
    + answers: the daemon answers within 20 seconds
    + mirrors: its registry mirrors, as it prints them (with a trailing slash)
    + overrides: drop-ins of its unit
    + proxies: its proxies for http and for https, and what it reaches without them
    """

    there: bool = False
    answers: bool = False
    mirrors: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()


class DockerDaemon(FactBase[Daemon]):
    """The :class:`Daemon` as it runs, whatever its configuration file says."""

    @staticmethod
    def default() -> Daemon:
        """No Docker."""
        return Daemon()

    def command(self) -> str:
        """``docker info``, and the drop-ins that systemd knows."""
        return (
            "! command -v docker >/dev/null || { echo there; systemctl show docker.service -p DropInPaths; "
            f"{DOCKER} info --format '{{{{json .ServerVersion}}}} {{{{json .RegistryConfig.Mirrors}}}} "
            "{{json .HTTPProxy}} {{json .HTTPSProxy}} {{json .NoProxy}}' 2>/dev/null "
            "| grep '^\"..*\" ' || true; }"
        )

    def process(self, output: list[str]) -> Daemon:
        """Read ``there``, the drop-ins, and a line of JSON values if the daemon answers."""
        overrides: tuple[str, ...] = ()
        for line in output:
            if line.startswith("DropInPaths="):
                overrides = tuple(line.removeprefix("DropInPaths=").split())
            elif line.startswith('"'):
                mirrors, *proxies = (json.loads(word) for word in line.split(" ")[1:])
                return Daemon(True, True, tuple(mirrors or ()), overrides, tuple(proxies))
        return Daemon(there="there" in output, overrides=overrides)
