"""What of the surface of a host a deploy must know before it changes anything: mounts, device nodes, programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ojai import surface
from ojai.surface import Difference

SCRIPT = f"""
[ ! -e {surface.PROGRAM} ] || say surface "$({surface.command("guard")} 2>/dev/null)"
"""


def read(every: Mapping[str, Sequence[str]]) -> tuple[Difference, ...]:
    """What is another than was recorded; nothing of a host without a record."""
    return surface.read(every.get("surface", ("",))[0]).differences
