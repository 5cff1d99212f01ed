"""Whether the surface of a host (see :mod:`ojai.surface`) was recorded."""

from __future__ import annotations

from dataclasses import dataclass

from pyinfra.api import FactBase

from ojai import surface


@dataclass(frozen=True)
class Recorded:
    """By which order (its hash; empty: never), and whether a deploy was cut off before it recorded its changes."""

    by: str = ""
    unfinished: bool = False


class SurfaceRecorded(FactBase[Recorded]):
    """What was :class:`Recorded`."""

    @staticmethod
    def default() -> Recorded:
        """Nothing."""
        return Recorded()

    def command(self) -> str:
        """A line for each of the two that there is."""
        by = f"[ ! -e {surface.RECORD} ] || sed -n 's/^/by /p' {surface.RECORDED} 2>/dev/null"
        return f"{by}; if [ -e {surface.BEFORE} ]; then echo unfinished; fi"

    def process(self, output: list[str]) -> Recorded:
        """Read the lines."""
        by = next((line.removeprefix("by ") for line in output if line.startswith("by ")), "")
        return Recorded(by, "unfinished" in output)
