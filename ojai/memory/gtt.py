"""The `gtt` regime: a small BIOS carve-out and a raised `ttm.pages_limit`.

AMD advises RDNA 3.5 APUs the opposite of the guides' large carve-out: keep about 0.5 GB in the BIOS and
let the driver hand ordinary RAM to the GPU, up to `ttm.pages_limit` pages of 4096 bytes
[ROCm documentation, RDNA3.5 system optimization].
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from ojai.sizes import GIB, PAGE_BYTES, format_gib

#: Pages in a GiB. The widespread "GiB x 1024 x 1024 / 4.096" is 2.4 % too high.
PAGES_PER_GIB: Final = GIB // PAGE_BYTES

#: modprobe's options file in which the deploy sets the limit.
OPTIONS_FILE: Final = "/etc/modprobe.d/ojai-ttm.conf"

#: `dma32_pages_limit` and `amdttm.pages_limit` (AMD's DKMS driver) are other parameters. `ttm.page_pool_size` bounds
#: the freed pages that are kept for later, not what the GPU may have.
_LIMIT = re.compile(
    r"(?:^|\s)(?:(?P<ttm>ttm)|amdgpu)(?:\.|\s(?:.*\s)?)(?(ttm)pages_limit|gttsize)=(?P<value>0[xX][0-9a-fA-F]+|-?\d+)"
)


def ttm_pages(gib: float | str | Decimal) -> int:
    """The `ttm.pages_limit` for `gib` GiB: GiB x 262144.

    Raises:
        ValueError: not above zero, or not a whole number of pages.
    """
    pages = Decimal(str(gib)) * PAGES_PER_GIB
    if pages <= 0 or pages != pages.to_integral_value():
        raise ValueError(f"{gib} GiB is not a whole number of {PAGE_BYTES}-byte pages above zero")
    return int(pages)


def pages_bytes(pages: int) -> int:
    """The bytes that `ttm.pages_limit=pages` allows."""
    return pages * PAGE_BYTES


@dataclass(frozen=True)
class Limit:
    """A limit of the GPU's memory that something sets: `setting` (`ttm.pages_limit=1`) in `place`, in bytes."""

    place: str
    setting: str
    bytes: int


def others_in_force(module_options: Iterable[str], words: Iterable[str], place: str, *, ours: bool) -> list[Limit]:
    """The limits of others that win: of `ttm.pages_limit` and of `amdgpu.gttsize`, the last one each.

    `module_options`: "file:line" of modprobe.d; `words`: kernel parameters, and the `place` they are from; `ours`:
    whether the deploy sets one too. modprobe reads its files in the order of their names (a name only from the first
    folder that has it), then the kernel's command line; the last value of a parameter counts.
    """
    files: dict[str, list[tuple[str, str]]] = {OPTIONS_FILE.rpartition("/")[2]: [(OPTIONS_FILE, "")]}
    for entry in module_options:
        file, _, line = entry.partition(":")
        known = files.setdefault(file.rpartition("/")[2], [])
        if not known or known[0][0] == file != OPTIONS_FILE:
            known.append((file, line.strip().removeprefix("options")))
    found: dict[str, Limit] = {}
    for where, text in (*(line for name in sorted(files) for line in files[name]), *((place, word) for word in words)):
        if where == OPTIONS_FILE and ours:
            found.pop("ttm.pages_limit", None)
        for limit in _LIMIT.finditer(text):
            value = int(limit["value"], 0)
            name, size = ("ttm.pages_limit", pages_bytes(value)) if limit["ttm"] else ("amdgpu.gttsize", value << 20)
            found[name] = Limit(where, f"{name}={limit['value']}", size)
    return [limit for limit in found.values() if limit.bytes > 0]  # 0 and -1 stand for the driver's own choice


def check_pages_limit(pages: int, mem_total_bytes: int) -> list[str]:
    """What is wrong with a cap of `pages` on a host with `mem_total_bytes` (MemTotal); empty when nothing is.

    Run it on the expected value before it is written, and on the running one after every reboot: a carve-out
    raised in the BIOS lowers MemTotal while an old cap stays, and then GTT and VRAM together exceed the RAM.
    """
    cap = pages_bytes(pages)
    if cap <= mem_total_bytes:
        return []
    most = mem_total_bytes // GIB
    return [
        f"ttm.pages_limit {pages} allows {format_gib(cap)}, but the OS has {format_gib(mem_total_bytes)} "
        f"(MemTotal): set it to at most {most * PAGES_PER_GIB} ({most} GiB), "
        "or lower the BIOS carve-out if that was raised since"
    ]
