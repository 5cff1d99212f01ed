"""A systemd unit, and the HTTP endpoint of the inference server that it runs."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pyinfra.api import FactBase

from ojai.facts import script
from ojai.facts.docker import DOCKER

#: curl for the host's own addresses: without the login's configuration file, and past a proxy that is set machine-wide.
CURL = "curl -q --noproxy '*'"


@dataclass(frozen=True)
class UnitState:
    """A systemd unit.

    + active, sub, enabled: as systemd names them
    + reload: the unit file is newer than what systemd has loaded
    + stale: an input was changed after the main process started
    + overrides: paths of its drop-ins
    + started: when its main process started (seconds since 1970), None if it never did
    + age: seconds since then
    """

    active: str = "inactive"
    sub: str = "dead"
    enabled: str = "disabled"
    reload: bool = False
    stale: bool = False
    overrides: tuple[str, ...] = ()
    started: float | None = None
    age: float | None = None

    @property
    def up(self) -> bool:
        """Whether it does its work; an activating unit does not yet."""
        return self.active == "active" and self.sub in ("running", "listening", "exited")

    @property
    def starts_at_boot(self) -> bool:
        """Whether it is enabled, or needs no enabling."""
        return self.enabled in ("enabled", "static", "alias", "indirect")

    @property
    def masked(self) -> bool:
        """Whether it is masked, for good or until the next boot."""
        return self.enabled in ("masked", "masked-runtime")


_UNIT = r"""
systemctl show "$unit" -p ActiveState,SubState,UnitFileState,NeedDaemonReload,DropInPaths
since=$(LC_ALL=C systemctl show "$unit" -p ExecMainStartTimestamp --value --timestamp=us+utc)
[ -z "$since" ] || printf 'Since=%s\n' "$(LC_ALL=C date -d "$since" +%s.%6N)"
printf 'Now=%s\n' "$(date +%s.%6N)"
# The inputs' newest change.
if [ $# -gt 0 ]; then
  printf 'Inputs=%s\n' "$(LC_ALL=C stat -c %.6Y "$@" 2>/dev/null | sort -n | tail -n 1)"
fi
"""


class SystemdUnit(FactBase[UnitState]):
    """The :class:`UnitState` of a unit.

    + unit: its name, such as ``docker.service``
    + inputs: the files that it reads when it starts
    """

    @staticmethod
    def default() -> UnitState:
        """Unknown to systemd."""
        return UnitState()

    def command(self, unit: str, inputs: tuple[str, ...] = ()) -> str:
        """``Key=value`` lines, times in seconds since 1970."""
        return script(_UNIT, *inputs, unit=unit)

    def process(self, output: list[str]) -> UnitState:
        """Read the lines."""
        values = dict(line.split("=", 1) for line in output if "=" in line)
        since, now, changed = (float(values[key]) if values.get(key) else None for key in ("Since", "Now", "Inputs"))
        return UnitState(
            active=values.get("ActiveState", "inactive"),
            sub=values.get("SubState", "dead"),
            enabled=values.get("UnitFileState") or "disabled",
            reload=values.get("NeedDaemonReload") == "yes",
            stale=bool(since and changed and changed > since),
            overrides=tuple(values.get("DropInPaths", "").split()),
            started=since,
            age=now - since if since and now else None,
        )


@dataclass(frozen=True)
class Endpoint:
    """An inference server.

    + health: HTTP status of the health path, 0 if nothing answers
    + models: ids in the list of models
    + locked: that list requires an API key, so it cannot be read
    + others: processes outside the service's container that listen on its port, as ``pid name``
    """

    health: int = 0
    models: tuple[str, ...] = ()
    locked: bool = False
    others: tuple[str, ...] = ()

    def serves(self, model: str) -> bool:
        """Whether the server is healthy, ours and serves ``model``. Behind an API key, healthy is enough."""
        return self.health == 200 and not self.others and (self.locked or model in self.models)


# vLLM's API key guards /v1 only: /health answers without one.
_ENDPOINT = r"""
id=$(%DOCKER% container inspect --format '{{.Id}}' "$container" 2>/dev/null)
for pid in $(ss -ltnpH "sport = :$port" | grep -o 'pid=[0-9]*' | cut -d= -f2 | sort -u); do
  grep -q "${id:-none}" "/proc/$pid/cgroup" 2>/dev/null ||
    printf 'other=%s %s\n' "$pid" "$(cat "/proc/$pid/comm" 2>/dev/null)"
done
printf 'health=%s\n' "$(%CURL% -s -o /dev/null -m 5 -w '%{http_code}' "$url$health_path")"
printf 'models=%s\n' "$(%CURL% -s -m 5 -w ' %{http_code}' "$url$models_path" | tr '\n' ' ')"
""".replace("%DOCKER%", DOCKER).replace("%CURL%", CURL)


class ServerEndpoint(FactBase[Endpoint]):
    """The :class:`Endpoint` of an inference server.

    + port: its port
    + container: name of the service's container
    + address: the host's own address that the server listens on
    + health, models: its paths (:class:`ojai.paths.ApiPaths`)
    """

    @staticmethod
    def default() -> Endpoint:
        """Nothing answers."""
        return Endpoint()

    def command(self, port: int, container: str, health: str, models: str, address: str = "127.0.0.1") -> str:
        """Two requests with short timeouts, and who listens on the port."""
        url = f"http://{address}:{port:d}"
        return script(_ENDPOINT, container=container, port=str(port), url=url, health_path=health, models_path=models)

    def process(self, output: list[str]) -> Endpoint:
        """Read both answers. A list of models that is not JSON names none."""
        values = dict(line.split("=", 1) for line in output if "=" in line)
        listing, _, status = (values.get("models") or " 0").strip().rpartition(" ")
        try:
            models = tuple(model["id"] for model in json.loads(listing or "{}").get("data", []))
        except (ValueError, KeyError, TypeError, AttributeError):
            models = ()
        others = tuple(line.removeprefix("other=").strip() for line in output if line.startswith("other="))
        return Endpoint(int(values.get("health") or 0), models, locked=status == "401", others=others)
