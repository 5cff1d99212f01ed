"""The kernel that runs and those that are installed."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from pyinfra.api import FactBase


@dataclass(frozen=True)
class Kernels:
    """``running``: ``uname -r``. ``installed``: every release with both an image in /boot and its modules.
    ``fresh``: those whose image, or GRUB's menu, is newer than this boot: a reboot may bring them up."""

    running: str
    installed: tuple[str, ...]
    fresh: tuple[str, ...] = ()


class KernelState(FactBase[Kernels | None]):
    """:class:`Kernels` of the host; None when it gave no answer."""

    @staticmethod
    def default() -> Kernels | None:
        """No answer."""
        return None

    def command(self) -> str:
        """The running release first, then one line for each installed."""
        return (
            "uname -r; boot=$(sed -n 's/^btime //p' /proc/stat); "
            "menu=$(stat -c %Y /boot/grub/grub.cfg 2>/dev/null || echo 0); "
            "for image in /boot/vmlinuz-*; do release=${image#/boot/vmlinuz-}; "
            'test -d "/lib/modules/$release" || continue; '
            'if test "$(stat -c %Z "$image")" -ge "$boot" || test "$menu" -ge "$boot"; '
            'then echo "$release fresh"; else echo "$release"; fi; done'
        )

    def process(self, output: list[str]) -> Kernels:
        """Read the answer."""
        lines = [line.split() for line in output[1:]]
        return Kernels(
            running=output[0],
            installed=tuple(words[0] for words in lines),
            fresh=tuple(words[0] for words in lines if words[1:] == ["fresh"]),
        )


@dataclass(frozen=True)
class Ttm:
    """``live``: the limit in force in pages of 4096 bytes, None while ttm is not loaded. ``settled``: the options
    file at ``path`` is older than this boot and than the ``stamp`` of the last look at the initramfs, so that all
    that reads it has. ``others``: what else sets the limit, as ``file:line``."""

    live: int | None = None
    settled: bool = False
    others: tuple[str, ...] = ()


class TtmLimit(FactBase[Ttm]):
    """:class:`Ttm` with regard to the options file at ``path``."""

    @staticmethod
    def default() -> Ttm:
        """ttm is not loaded, and nothing is known."""
        return Ttm()

    def command(self, path: str, stamp: str) -> str:
        """The live value, the three times, and every other place that names the limit."""
        file, mark = shlex.quote(path), shlex.quote(stamp)
        return (
            "cat /sys/module/ttm/parameters/pages_limit 2>/dev/null | sed 's/^/live\\t/'; "
            "boot=$(sed -n 's/^btime //p' /proc/stat); "
            f'if test -e {file} && test "$(stat -c %Y {file})" -lt "$boot" && '
            f'test -e {mark} && ! test {file} -nt {mark}; then printf "settled\\tyes\\n"; fi; '
            f"grep -sHn pages_limit /etc/modprobe.d/*.conf /usr/lib/modprobe.d/*.conf /proc/cmdline "
            f"| grep -v -F {file}: | sed 's/^/other\\t/'; :"
        )

    def process(self, output: list[str]) -> Ttm:
        """Read the answer."""
        pairs = [line.split("\t", 1) for line in output if "\t" in line]
        live = next((int(value) for key, value in pairs if key == "live"), None)
        return Ttm(
            live=live,
            settled=["settled", "yes"] in pairs,
            others=tuple(value for key, value in pairs if key == "other"),
        )
