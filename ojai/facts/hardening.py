"""What a hardened service is bounded to: the GPU's own node, and a share of the memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pyinfra.api import FactBase

# /proc and sysfs as the kernel documents them: KFD's topology names the render node of each GPU.
_BOUNDS = r"""
for node in /sys/class/kfd/kfd/topology/nodes/*/properties; do
  [ ! -r "$node" ] || awk '$1 == "gfx_target_version" {gfx = $2} $1 == "drm_render_minor" {minor = $2}
    END {if (gfx > 0 && minor > 0) print "render", gfx, minor}' "$node"
done
sed -n 's/^MemTotal: *\([0-9]*\) kB/memory \1/p' /proc/meminfo
"""


@dataclass(frozen=True)
class Bounds:
    """Of a host.

    + render_nodes: KFD's gfx_target_version of a GPU -> its node under /dev/dri; empty while the driver is not up
    + memory_total: bytes that the kernel has; None for a host that does not say
    """

    render_nodes: Mapping[int, str] = field(default_factory=dict)
    memory_total: int | None = None


class HostBounds(FactBase[Bounds]):
    """The :class:`Bounds` of a host."""

    @staticmethod
    def default() -> Bounds:
        """Nothing is known."""
        return Bounds()

    def command(self) -> str:
        """A line for each GPU, and one for the memory."""
        return _BOUNDS.strip()

    def process(self, output: list[str]) -> Bounds:
        """Read the lines."""
        nodes: dict[int, str] = {}
        memory = None
        for line in output:
            match line.split():
                case ["render", gfx, minor]:
                    nodes.setdefault(int(gfx), f"renderD{minor}")
                case ["memory", kib]:
                    memory = int(kib) * 1024
        return Bounds(nodes, memory)
