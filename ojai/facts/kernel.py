"""The kernel that runs and those that are installed."""

from __future__ import annotations

import re
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
    that reads it has. ``others``: what else sets the limit, as ``file:line``. ``file``: that file is there. ``memory``:
    the system's memory in the same pages, 0 when it is not known."""

    live: int | None = None
    settled: bool = False
    others: tuple[str, ...] = ()
    file: bool = False
    memory: int = 0

    @property
    def excess(self) -> tuple[str, ...]:
        """Those of ``others`` that let the GPU borrow more than there is."""
        limits = {entry: re.findall(r"pages_limit=(\d+)", entry) for entry in self.others}
        return tuple(entry for entry, found in limits.items() if found and int(found[-1]) > self.memory > 0)


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
            f"| grep -v -F {file}: | sed 's/^/other\\t/'; "
            f"! test -e {file} || printf 'file\\tyes\\n'; "
            "sed -n 's/^MemTotal: *\\([0-9]*\\) kB/memory\\t\\1/p' /proc/meminfo 2>/dev/null; :"
        )

    def process(self, output: list[str]) -> Ttm:
        """Read the answer."""
        pairs = [line.split("\t", 1) for line in output if "\t" in line]
        live = next((int(value) for key, value in pairs if key == "live"), None)
        return Ttm(
            live=live,
            settled=["settled", "yes"] in pairs,
            others=tuple(value for key, value in pairs if key == "other"),
            file=["file", "yes"] in pairs,
            memory=next((int(value) // 4 for key, value in pairs if key == "memory"), 0),
        )


@dataclass(frozen=True)
class Lacking:
    """What a kernel that dpkg says is installed has not on the disk. ``packages``: whose image or GPU driver (which
    stands for the modules) is gone. ``initrd``, ``menu``: its initramfs and its entry in GRUB's menu are not there,
    on a host that makes such."""

    packages: tuple[str, ...] = ()
    initrd: bool = False
    menu: bool = False


class BootFiles(FactBase[dict[str, Lacking]]):
    """:class:`Lacking` of every installed kernel, by release."""

    @staticmethod
    def default() -> dict[str, Lacking]:
        """No kernel installed."""
        return {}

    def command(self) -> str:
        """By dpkg's records, since a file that is gone says nothing of itself."""
        return (
            "dpkg-query -S '/boot/vmlinuz-*' '*/modules/*/amdgpu.ko*' 2>/dev/null | "
            "sed -n 's,^\\([^ :]*\\)[^ ]*: \\(/.*\\)$,\\1 \\2,p' | while read -r package path; do "
            'case $path in /boot/*) release=${path#/boot/vmlinuz-}; echo "$release kernel"; '
            '! command -v update-initramfs >/dev/null || test -e "/boot/initrd.img-$release" || '
            'echo "$release initrd"; '
            "! command -v update-grub >/dev/null || ! test -d /boot/grub || "
            'grep -qsF "/vmlinuz-$release" /boot/grub/grub.cfg || echo "$release menu";; '
            "*) release=${path#*/modules/}; release=${release%%/*};; esac; "
            'test -e "$path" || echo "$release package $package"; done'
        )

    def process(self, output: list[str]) -> dict[str, Lacking]:
        """A line for each kernel, and one for each thing that it has not."""
        lines = [line.split() for line in output]
        return {
            release: Lacking(
                packages=tuple(words[2] for words in lines if words[:2] == [release, "package"]),
                initrd=[release, "initrd"] in lines,
                menu=[release, "menu"] in lines,
            )
            for release in (words[0] for words in lines if words[1:] == ["kernel"])
        }
