"""The running kernel, the installed ones, and the TTM limit."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pyinfra.api import FactBase

from ojai.facts import script


@dataclass(frozen=True)
class Kernels:
    """Kernel releases.

    + running: ``uname -r``
    + installed: those with both an image in /boot and modules
    + fresh: those whose image, or GRUB's menu, is newer than this boot, so a reboot may start them
    """

    running: str
    installed: tuple[str, ...]
    fresh: tuple[str, ...] = ()


_KERNELS = r"""
uname -r
boot=$(sed -n 's/^btime //p' /proc/stat)
menu=$(stat -c %Y /boot/grub/grub.cfg 2>/dev/null || echo 0)
for image in /boot/vmlinuz-*; do
  release=${image#/boot/vmlinuz-}
  [ -d "/lib/modules/$release" ] || continue
  if [ "$(stat -c %Z "$image")" -ge "$boot" ] || [ "$menu" -ge "$boot" ]; then release="$release fresh"; fi
  echo "$release"
done
"""


class KernelState(FactBase[Kernels | None]):
    """The :class:`Kernels` of the host; None if it did not answer."""

    def command(self) -> str:
        """The running release, then a line for each that is installed."""
        return _KERNELS.strip()

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
    """The TTM limit: how much system memory the GPU may use, in pages of 4096 bytes.

    + live: the limit in force, None while ttm is not loaded
    + settled: the options file is older than this boot and than the last update of the initramfs, so ttm has read it
    + others: what else sets the limit, as ``file:line``
    + file: the options file exists
    + memory: the system's memory in pages, 0 if unknown
    """

    live: int | None = None
    settled: bool = False
    others: tuple[str, ...] = ()
    file: bool = False
    memory: int = 0

    @property
    def excess(self) -> tuple[str, ...]:
        """Those of ``others`` that are larger than the memory."""
        limits = {entry: re.findall(r"pages_limit=(\d+)", entry) for entry in self.others}
        return tuple(entry for entry, found in limits.items() if found and int(found[-1]) > self.memory > 0)


_TTM = r"""
sed 's/^/live\t/' /sys/module/ttm/parameters/pages_limit 2>/dev/null
boot=$(sed -n 's/^btime //p' /proc/stat)
if [ -e "$file" ]; then
  printf 'file\tyes\n'
  if [ "$(stat -c %Y "$file")" -lt "$boot" ] && [ -e "$stamp" ] && ! [ "$file" -nt "$stamp" ]; then
    printf 'settled\tyes\n'
  fi
fi
grep -sHn '^[^#]*pages_limit' /etc/modprobe.d/*.conf /usr/lib/modprobe.d/*.conf /proc/cmdline |
  grep -v -F "$file:" | sed 's/^/other\t/'
sed -n 's/^MemTotal: *\([0-9]*\) kB/memory\t\1/p' /proc/meminfo 2>/dev/null
:
"""


class TtmLimit(FactBase[Ttm]):
    """The TTM limit: :class:`Ttm`.

    + path: our options file
    + stamp: file that is written when the initramfs has been updated
    """

    @staticmethod
    def default() -> Ttm:
        """ttm is not loaded, and nothing is known."""
        return Ttm()

    def command(self, path: str, stamp: str) -> str:
        """The live value, the three times, and everything else that sets the limit."""
        return script(_TTM, file=path, stamp=stamp)

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
    """What is missing on disk of a kernel that dpkg has as installed.

    + packages: packages whose image or GPU driver (which stands for all modules) is gone
    + initrd: its initramfs, on a host that makes one
    + menu: its entry in GRUB's menu, on a host that has one
    """

    packages: tuple[str, ...] = ()
    initrd: bool = False
    menu: bool = False


# dpkg's records name the files: a file that is gone cannot be found by itself.
_BOOT_FILES = r"""
dpkg-query -S '/boot/vmlinuz-*' '*/modules/*/amdgpu.ko*' 2>/dev/null |
  sed -n 's,^\([^ :]*\)[^ ]*: \(/.*\)$,\1 \2,p' |
  while read -r package path; do
    case $path in
      /boot/*)
        release=${path#/boot/vmlinuz-}
        echo "$release kernel"
        ! command -v update-initramfs >/dev/null || [ -e "/boot/initrd.img-$release" ] || echo "$release initrd"
        ! command -v update-grub >/dev/null || ! [ -d /boot/grub ] ||
          grep -qsF "/vmlinuz-$release" /boot/grub/grub.cfg || echo "$release menu";;
      *)
        release=${path#*/modules/}
        release=${release%%/*};;
    esac
    test -e "$path" || echo "$release package $package"
  done
"""


class BootFiles(FactBase[dict[str, Lacking]]):
    """Release -> :class:`Lacking`, for every installed kernel."""

    @staticmethod
    def default() -> dict[str, Lacking]:
        """No kernel installed."""
        return {}

    def command(self) -> str:
        """A line for each kernel, and one for each thing that it lacks."""
        return _BOOT_FILES.strip()

    def process(self, output: list[str]) -> dict[str, Lacking]:
        """Read the lines."""
        lines = [line.split() for line in output]
        return {
            release: Lacking(
                packages=tuple(words[2] for words in lines if words[:2] == [release, "package"]),
                initrd=[release, "initrd"] in lines,
                menu=[release, "menu"] in lines,
            )
            for release in (words[0] for words in lines if words[1:] == ["kernel"])
        }
