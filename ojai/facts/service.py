"""A systemd service: what it is, what it was started from, and what its container really runs."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from decimal import Decimal

from pyinfra.api import FactBase


@dataclass(frozen=True)
class Service:
    """``active``, ``sub``, ``enabled``: as systemd names them. ``stale``: it was started before one of its inputs
    was changed. ``reload``: the unit on disk is newer than what systemd has loaded. ``overrides``: its drop-ins.
    ``age``: seconds since its main process was started, None when it never was. Of its container, where there is
    one: ``image`` and ``argv`` as it was given them, ``moved``: that name is another image's by now, ``paused``."""

    active: str = "inactive"
    sub: str = "dead"
    enabled: str = "disabled"
    reload: bool = False
    stale: bool = False
    image: str | None = None
    argv: tuple[str, ...] | None = None
    overrides: tuple[str, ...] = ()
    age: float | None = None
    moved: bool = False
    paused: bool = False


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
            inspect = f"docker container inspect {shlex.quote(container)} 2>/dev/null --format"
            script += (
                f"printf 'Container=%s\\n' \"$({inspect} '{{{{json .Config}}}}')\"; "
                f"printf 'Runs=%s\\n' \"$({inspect} '{{{{.State.Status}}}} {{{{.Image}}}}')\"; "
                f"printf 'Has=%s\\n' \"$(docker image inspect --format '{{{{.Id}}}}' "
                f'"$({inspect} \'{{{{.Config.Image}}}}\')" 2>/dev/null)"; '
            )
        return script

    def process(self, output: list[str]) -> Service:
        """Read the ``Key=value`` lines."""
        values = dict(line.split("=", 1) for line in output if "=" in line)
        config = json.loads(values["Container"]) if values.get("Container") else None
        started, changed = values.get("Since", ""), values.get("Inputs", "")
        status, _, image_id = values.get("Runs", "").partition(" ")
        return Service(
            active=values.get("ActiveState", "inactive"),
            sub=values.get("SubState", "dead"),
            enabled=values.get("UnitFileState") or "disabled",
            reload=values.get("NeedDaemonReload") == "yes",
            stale=bool(started and changed and Decimal(changed) > Decimal(started)),
            image=config["Image"] if config else None,
            argv=tuple(config["Cmd"] or ()) if config else None,
            overrides=tuple(values.get("DropInPaths", "").split()),
            age=float(Decimal(values["Now"]) - Decimal(started)) if started and values.get("Now") else None,
            moved=bool(image_id and values.get("Has") != image_id),
            paused=status == "paused",
        )


@dataclass(frozen=True)
class Endpoint:
    """``health``: HTTP status of /health, 0 when nothing answers. ``models``: ids that /v1/models names.
    ``locked``: /v1 wants an API key, so that no model can be asked for from here."""

    health: int = 0
    models: tuple[str, ...] = ()
    locked: bool = False

    def serves(self, model: str) -> bool:
        """Whether the server is healthy and names ``model``; behind a key, health must do."""
        return self.health == 200 and (self.locked or model in self.models)


class ServerEndpoint(FactBase[Endpoint]):
    """:class:`Endpoint` of the inference server on a port of one of the host's own addresses."""

    @staticmethod
    def default() -> Endpoint:
        """Nothing answers."""
        return Endpoint()

    def command(self, port: int, address: str = "127.0.0.1") -> str:
        """Two requests with short bounds. An API key guards /v1 only: /health answers without."""
        base = f"http://{address}:{port:d}"
        return (
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
        return Endpoint(health=int(values.get("health") or 0), models=models, locked=status == "401")
