"""Amounts of memory: read what a person writes ("64GiB", "16 GB", "0.5 GiB"), print what a person reads.

Two families of units are in use and they differ by 7 % at this size: `GB` is 10⁹ bytes (model weights, the
guides), `GiB` is 2³⁰ bytes (RAM, BIOS carve-outs, vLLM's log). Both are accepted and never mixed up.

    >>> parse_bytes("64GiB")
    68719476736
    >>> parse_bytes("4.88 GB")
    4880000000
    >>> format_gib(68719476736)
    '64 GiB'
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

GIB = 1 << 30
MIB = 1 << 20
GB = 10**9

#: Size of a memory page on x86-64 in bytes; `ttm.pages_limit` counts these.
PAGE_BYTES = 4096

#: Up to here a bare number is taken for GiB: no machine of this kind has more, and fewer MiB are not worth setting.
_MOST_GIB = 1024

_UNITS = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": GB,
    "TB": 10**12,
    "KIB": 1 << 10,
    "MIB": 1 << 20,
    "GIB": GIB,
    "TIB": 1 << 40,
}
_AMOUNT = re.compile(r"\s*(?P<number>\d+(?:_\d+)*(?:\.\d+)?)\s*(?P<unit>[A-Za-z]*)\s*", re.ASCII)


def parse_bytes(text: str | int) -> int:
    """Return the number of bytes that `text` names.

    Accepts a whole number of bytes, or a number and a unit: B, KB, MB, GB, TB (powers of 1000),
    KiB, MiB, GiB, TiB (powers of 1024); case and a space before the unit do not matter.

    Raises:
        ValueError: not an amount, an unknown unit, or not a whole number of bytes.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        if text < 0:
            raise ValueError(f"{text} is negative: an amount of memory is 0 or more")
        return text
    if not isinstance(text, str) or (found := _AMOUNT.fullmatch(text)) is None:
        raise ValueError(f"{text!r} is not an amount of memory: write a number and a unit, like 64GiB or 16 GB")
    unit = found["unit"].upper()
    if unit not in _UNITS:
        hint = ""
        if unit + "B" in _UNITS:
            hint = f": write {unit}iB (1024s) or {unit}B (1000s)" if len(unit) == 1 else f": write {unit[0]}iB"
        raise ValueError(f"{found['unit']!r} in {text!r} is not a unit of memory{hint}")
    amount = Decimal(found["number"].replace("_", "")) * _UNITS[unit]
    if amount != amount.to_integral_value():
        raise ValueError(f"{text!r} is not a whole number of bytes")
    return int(amount)


def parse_memory(text: str | int) -> int:
    """Return the bytes of a machine's memory, as `parse_bytes`.

    Raises:
        ValueError: see `parse_bytes`; also less than 1 GiB, which is a unit forgotten.
    """
    amount = parse_bytes(text)
    if amount == 0:
        raise ValueError("found 0 bytes; expected an amount above zero")
    if amount < GIB:
        bare = str(text).strip().isdigit()
        meant = f"; did you mean {_meant(amount)}?" if bare else "; expected 1 GiB or more"
        raise ValueError(f"{amount} bytes is too small for a machine's memory{meant}")
    return amount


def _meant(number: int) -> str:
    """What a bare number of a machine's memory counts: GiB, MiB (as `amdgpu.gttsize`), or pages (`ttm.pages_limit`)."""
    if number <= _MOST_GIB:
        return f"{number}GiB"
    if number < GIB // PAGE_BYTES:
        return f"{number // 1024}GiB (this is a number of MiB)"
    return f"{number * PAGE_BYTES // GIB}GiB (this is a number of pages of {PAGE_BYTES} bytes)"


def format_gib(amount: int, digits: int = 1) -> str:
    """Return `amount` bytes in GiB ("57.3 GiB"), without trailing zeros."""
    return f"{_trim(Decimal(amount) / GIB, digits)} GiB"


def format_gb(amount: int, digits: int = 1) -> str:
    """Return `amount` bytes in GB, powers of 1000 ("52 GB"), without trailing zeros."""
    return f"{_trim(Decimal(amount) / GB, digits)} GB"


def _trim(number: Decimal, digits: int) -> str:
    rounded = number.quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_UP)
    text = f"{rounded:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _parse(value: Any) -> Any:
    return parse_bytes(value) if isinstance(value, str) else value


#: A number of bytes in settings and data files: `Bytes` fields accept 68719476736 and "64GiB" alike.
Bytes = Annotated[int, Field(ge=0), BeforeValidator(_parse)]
