"""A systemd service: what it is, what it was started from, and what its container really runs."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from decimal import Decimal

from pyinfra.api import FactBase

from ojai.facts.docker import DOCKER

#: Seconds that the engine may take to make a unit's container.
MAKING = 120


@dataclass(frozen=True)
class Service:
    """``active``, ``sub``, ``enabled``: as systemd names them. ``stale``: it was started before one of its inputs
    was changed. ``reload``: the unit on disk is newer than what systemd has loaded. ``overrides``: its drop-ins.
    ``age``: seconds since its main process was started, None when it never was. Of its container, where there is
    one: ``image`` and ``argv`` as it was given them, ``image_retagged``: that name is another image's by now,
    ``paused``, ``unmanaged``: the unit did not make it, ``stale_mounts``: folders that have been replaced since."""

    active: str = "inactive"
    sub: str = "dead"
    enabled: str = "disabled"
    reload: bool = False
    stale: bool = False
    image: str | None = None
    argv: tuple[str, ...] | None = None
    overrides: tuple[str, ...] = ()
    age: float | None = None
    image_retagged: bool = False
    paused: bool = False
    unmanaged: bool = False
    stale_mounts: tuple[str, ...] = ()


class ServiceState(FactBase[Service]):
    """:class:`Service` for a unit; ``inputs`` are the files it reads at start, ``container`` its container's name."""

    @staticmethod
    def default() -> Service:
        """Unknown to systemd."""
        return Service()

    def command(self, unit: str, inputs: tuple[str, ...] = (), container: str | None = None) -> str:
        """systemd's properties, the newest change time of the inputs, and the container's own command."""
        name = shlex.quote(unit)
        script = (
            f"systemctl show {name} -p ActiveState,SubState,UnitFileState,NeedDaemonReload,DropInPaths; "
            f"since=$(LC_ALL=C systemctl show {name} -p ExecMainStartTimestamp --value --timestamp=us+utc); "
            '[ -z "$since" ] || printf "Since=%s\\n" "$(LC_ALL=C date -d "$since" +%s.%6N)"; '
            'printf "Now=%s\\n" "$(date +%s.%6N)"; '
        )
        if inputs:
            newest = f"LC_ALL=C stat -c %.6Y {shlex.join(inputs)} 2>/dev/null | sort -n | tail -n 1"
            script += f'printf "Inputs=%s\\n" "$({newest})"; '
        if container:
            shape = (
                "Container={{json .Config}}{{println}}Name={{.Config.Image}}{{println}}"
                "Runs={{.State.Status}} {{.Image}} {{.HostConfig.AutoRemove}} {{.Created}}{{println}}"
                "{{range .Mounts}}Mount={{$.State.Pid}} {{.Destination}} {{.Source}}{{println}}{{end}}"
            )
            script += (
                f"shown=$({DOCKER} container inspect {shlex.quote(container)} --format '{shape}' 2>/dev/null); "
                'printf "%s\\n" "$shown"; '
                'name=$(printf "%s\\n" "$shown" | sed -n "s/^Name=//p"); '
                f"printf 'Has=%s\\n' \"$({DOCKER} image inspect --format '{{{{.Id}}}}' \"$name\" 2>/dev/null)\"; "
                'printf "%s\\n" "$shown" | sed -n "s/^Mount=//p" | while read -r pid inside outside; do '
                'test "$(stat -L -c %d:%i "/proc/$pid/root$inside" 2>/dev/null)" = '
                '"$(stat -L -c %d:%i "$outside" 2>/dev/null)" || echo "Strange=$outside"; done; '
                'made=$(printf "%s\\n" "$shown" | sed -n "s/^Runs=[^ ]* [^ ]* [^ ]* //p"); '
                'test -z "$made" || printf "Made=%s\\n" "$(date -d "$made" +%s.%6N)"; '
            )
        return script

    def process(self, output: list[str]) -> Service:
        """Read the ``Key=value`` lines."""
        values = dict(line.split("=", 1) for line in output if "=" in line)
        config = json.loads(values["Container"]) if values.get("Container") else None
        since, changed, made = (Decimal(values.get(key) or 0) for key in ("Since", "Inputs", "Made"))
        status, image_id, removes = (*values.get("Runs", "").split(), "", "", "")[:3]
        # The unit's own `docker run` makes it at once, and with --rm.
        own = removes == "true" and since - 1 <= made <= since + MAKING
        return Service(
            active=values.get("ActiveState", "inactive"),
            sub=values.get("SubState", "dead"),
            enabled=values.get("UnitFileState") or "disabled",
            reload=values.get("NeedDaemonReload") == "yes",
            stale=bool(since and changed > since),
            image=config["Image"] if config else None,
            argv=tuple(config["Cmd"] or ()) if config else None,
            overrides=tuple(values.get("DropInPaths", "").split()),
            age=float(Decimal(values["Now"]) - since) if since and values.get("Now") else None,
            image_retagged=bool(image_id and values.get("Has") != image_id),
            paused=status == "paused",
            unmanaged=bool(status and made and not own),
            stale_mounts=tuple(line.removeprefix("Strange=") for line in output if line.startswith("Strange=")),
        )


@dataclass(frozen=True)
class Endpoint:
    """``health``: HTTP status of /health, 0 when nothing answers. ``models``: ids that /v1/models names.
    ``locked``: /v1 wants an API key, so that no model can be asked for from here. ``others``: processes that listen
    on the port and are not in the service's container, as ``pid name``."""

    health: int = 0
    models: tuple[str, ...] = ()
    locked: bool = False
    others: tuple[str, ...] = ()

    def serves(self, model: str) -> bool:
        """Whether the server is healthy, ours, and names ``model``; behind a key, health must do."""
        return self.health == 200 and not self.others and (self.locked or model in self.models)


class ServerEndpoint(FactBase[Endpoint]):
    """:class:`Endpoint` of the inference server on a port of one of the host's own addresses."""

    @staticmethod
    def default() -> Endpoint:
        """Nothing answers."""
        return Endpoint()

    def command(self, port: int, container: str, address: str = "127.0.0.1") -> str:
        """Two requests with short bounds, and who listens. An API key guards /v1 only: /health answers without."""
        base = shlex.quote(f"http://{address}:{port:d}")
        return (
            f"id=$({DOCKER} container inspect --format '{{{{.Id}}}}' {shlex.quote(container)} 2>/dev/null); "
            f"for pid in $(ss -ltnpH 'sport = :{port:d}' | grep -o 'pid=[0-9]*' | cut -d= -f2 | sort -u); do "
            'grep -q "${id:-none}" "/proc/$pid/cgroup" 2>/dev/null || '
            'printf "other=%s %s\\n" "$pid" "$(cat "/proc/$pid/comm" 2>/dev/null)"; done; '
            f"printf 'health=%s\\n' \"$(curl -s -o /dev/null -m 5 -w '%{{http_code}}' {base}/health)\"; "
            f"printf 'models=%s\\n' \"$(curl -s -m 5 -w ' %{{http_code}}' {base}/v1/models | tr '\\n' ' ')\"; :"
        )

    def process(self, output: list[str]) -> Endpoint:
        """Read both answers; what is no JSON names no model."""
        values = dict(line.split("=", 1) for line in output if "=" in line)
        listing, _, status = (values.get("models") or " 0").strip().rpartition(" ")
        try:
            models = tuple(model["id"] for model in json.loads(listing or "{}").get("data", []))
        except (ValueError, KeyError, TypeError, AttributeError):
            models = ()
        others = tuple(line.removeprefix("other=").strip() for line in output if line.startswith("other="))
        return Endpoint(int(values.get("health") or 0), models, locked=status == "401", others=others)
