"""The `gtt` regime: a small BIOS carve-out and a raised `ttm.pages_limit`.

AMD advises RDNA 3.5 APUs the opposite of the guides' large carve-out: keep about 0.5 GB in the BIOS and
let the driver hand ordinary RAM to the GPU, up to `ttm.pages_limit` pages of 4096 bytes
[ROCm documentation, RDNA3.5 system optimization].
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from ojai.sizes import GIB, PAGE_BYTES, format_gib

#: Pages in a GiB. The widespread "GiB x 1024 x 1024 / 4.096" is 2.4 % too high.
PAGES_PER_GIB: Final = GIB // PAGE_BYTES


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
