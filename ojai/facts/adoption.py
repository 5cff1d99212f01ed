"""What an adoption has recorded on the host: the servers of the owner's that give way to ours."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from pyinfra.api import FactBase

from ojai.facts.docker import DOCKER
from ojai.paths import ADOPTED


@dataclass(frozen=True)
class AdoptedServer:
    """A server of the owner's as it was recorded.

    + kind, name: ``container`` or ``unit``
    + state: how far its taking over came: ``kept`` (nothing was changed), ``stopping`` or ``stopped``
    + was: what it was before: ``running`` or not; of a unit, ``active``
    + id: of the container
    + up: it runs now
    + unit: the unit that ran the container, empty without one
    """

    kind: str
    name: str
    state: str
    was: str
    up: bool
    id: str = ""
    unit: str = ""

    @property
    def missing(self) -> bool:
        """Whether it went down by itself: a restart of Docker, or a boot, ends what was started in a terminal."""
        return self.state == "kept" and self.was in ("running", "active") and not self.up and not self.unit


_SCRIPT = r"""
of() { sed -n "s/^$2=//p" "$1"; }
for about in %FOLDER%/containers/*/about %FOLDER%/units/*/about; do
  [ -f "$about" ] || continue
  folder=${about%/*}; kind=${folder%/*}; kind=${kind##*/}; name=${folder##*/}; up=no
  case $kind in
    containers)
      [ "$(%DOCKER% container inspect --format '{{.State.Running}}' "$name" 2>/dev/null)" != true ] || up=yes;;
    units) ! systemctl is-active --quiet "$name" || up=yes;;
  esac
  echo "${kind%s} $name $(cat "$folder/state" 2>/dev/null) $(of "$about" was) $up $(of "$about" id) $(of "$about" unit)"
done
:
"""


class AdoptedServers(FactBase[tuple[AdoptedServer, ...]]):
    """Every :class:`AdoptedServer`.

    + folder: where they are recorded
    """

    @staticmethod
    def default() -> tuple[AdoptedServer, ...]:
        """None."""
        return ()

    def command(self, folder: str = ADOPTED) -> str:
        """A line for each."""
        return _SCRIPT.replace("%FOLDER%", shlex.quote(folder)).replace("%DOCKER%", DOCKER).strip()

    def process(self, output: list[str]) -> tuple[AdoptedServer, ...]:
        """Read the lines."""
        found = []
        for line in output:
            words = line.split()
            if len(words) >= 5:
                kind, name, state, was, up = words[:5]
                identity, unit = (*words[5:7], "", "")[:2]
                found.append(AdoptedServer(kind, name, state, was, up == "yes", identity, unit))
        return tuple(found)
