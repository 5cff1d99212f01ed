"""Versions of Debian packages, in the order that dpkg has them in.

>>> newer("5:29.1.3-1", "28.5.2-1"), newer("26.1.5+dfsg1-9", "26.1.5~rc1-1"), newer("1.0", "1.0-0")
(True, True, False)
"""

from __future__ import annotations

import re
from itertools import zip_longest


def newer(one: str, other: str) -> bool:
    """Whether ``one`` is newer than ``other``."""
    return _key(one) > _key(other)


def _key(version: str) -> tuple[object, ...]:
    epoch, _colon, rest = version.rpartition(":")
    upstream, dash, revision = rest.rpartition("-")
    if not dash:
        upstream, revision = rest, "0"
    return int(epoch or 0), _part(upstream), _part(revision)


def _part(text: str) -> tuple[tuple[tuple[int, ...], int], ...]:
    """Words and numbers in turn. In a word, ~ is before its end, letters are before all else."""
    words, numbers = re.split(r"\d+", text), re.findall(r"\d+", text)
    pairs = zip_longest(words, numbers, fillvalue="")
    return tuple(((*map(_rank, word), 0), int(number or 0)) for word, number in pairs)


def _rank(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 256
