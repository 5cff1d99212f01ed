"""The kernel that runs and those that are installed."""

from __future__ import annotations

from dataclasses import dataclass

from pyinfra.api import FactBase


@dataclass(frozen=True)
class Kernels:
    """``running``: ``uname -r``. ``installed``: every release with both an image in /boot and its modules."""

    running: str
    installed: tuple[str, ...]


class KernelState(FactBase[Kernels | None]):
    """:class:`Kernels` of the host; None when it gave no answer."""

    @staticmethod
    def default() -> Kernels | None:
        """No answer."""
        return None

    def command(self) -> str:
        """The running release first, then one line for each installed."""
        return (
            "uname -r; for image in /boot/vmlinuz-*; do release=${image#/boot/vmlinuz-}; "
            '! test -d "/lib/modules/$release" || echo "$release"; done'
        )

    def process(self, output: list[str]) -> Kernels:
        """Read the answer."""
        return Kernels(running=output[0], installed=tuple(output[1:]))
