"""Whether a host may go to sleep, and whether it starts a desktop."""

from __future__ import annotations

from dataclasses import dataclass

from pyinfra.api import FactBase

from ojai.facts import script
from ojai.paths import UNITS

#: What every way to sleep goes through; a masked one cannot be started.
SLEEP = (
    "sleep.target",
    "suspend.target",
    "hibernate.target",
    "hybrid-sleep.target",
    "suspend-then-hibernate.target",
)


@dataclass(frozen=True)
class Power:
    """What a host does when nobody uses it.

    + masked: sleep targets that are masked
    + target: what it boots into, as systemd says
    + link: where ``/etc/systemd/system/default.target`` points, empty without one
    + manager: unit of its display manager, empty without one
    + desktop: the display manager runs
    """

    masked: tuple[str, ...] = ()
    target: str = ""
    link: str = ""
    manager: str = ""
    desktop: bool = False

    @property
    def sleepers(self) -> tuple[str, ...]:
        """Sleep targets that can be started."""
        return tuple(unit for unit in SLEEP if unit not in self.masked)


_POWER = r"""
for unit; do [ "$(readlink "$units/$unit")" != /dev/null ] || echo "masked $unit"; done
echo "target $(systemctl get-default 2>/dev/null)"
echo "link $(readlink "$units/default.target")"
manager=$(readlink "$units/display-manager.service") &&
  echo "manager ${manager##*/} $(systemctl is-active display-manager.service 2>/dev/null)"
:
"""


class PowerState(FactBase[Power]):
    """The :class:`Power` state of a host."""

    @staticmethod
    def default() -> Power:
        """Nothing is known."""
        return Power()

    def command(self) -> str:
        """Links are read, since a mask is one, and so is the choice of a display manager."""
        return script(_POWER, *SLEEP, units=UNITS)

    def process(self, output: list[str]) -> Power:
        """Read ``word value`` lines."""
        found: dict[str, list[str]] = {}
        for line in output:
            word, _, value = line.partition(" ")
            found.setdefault(word, []).append(value.strip())
        manager, _, active = found.get("manager", [""])[0].partition(" ")
        return Power(
            masked=tuple(found.get("masked", ())),
            target=found.get("target", [""])[0],
            link=found.get("link", [""])[0],
            manager=manager,
            desktop=active in ("active", "activating", "reloading"),
        )
