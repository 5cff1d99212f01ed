"""The flags that the parser of llama.cpp's server takes, and which build an image has.

`server.json` is what `tools/contract/llamacpp.py` read of `llama-server --help`: the build, and for each flag its long
name and how many values it takes.

>>> build("ghcr.io/ggml-org/llama.cpp:server-vulkan-b11382")
11382
>>> whole("-c"), whole("--ctx-size=1")
('--ctx-size', '--ctx-size')
>>> check(["--ctx-size", "1", "--no-such-thing"])
['--no-such-thing is no flag of b11669']
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("server.json")
_DATA: dict[str, Any] = json.loads(_FILE.read_text(encoding="utf-8"))

#: The build whose flags are known.
BUILD: int = _DATA["build"]

_FLAGS: dict[str, tuple[str, int]] = {flag: (name, values) for flag, (name, values) in _DATA["flags"].items()}


@cache
def digest() -> str:
    """The SHA-256 sum of the contract."""
    return hashlib.sha256(_FILE.read_bytes()).hexdigest()


def build(image: str) -> int | None:
    """The build that an image's tag names."""
    found = re.search(r":[\w.-]*-b(\d+)$", image.partition("@")[0])
    return int(found[1]) if found else None


def exact(image: str) -> bool:
    """Whether it is the build whose flags are known: what another one refuses is not sure, and only said."""
    return build(image) == BUILD


def whole(word: str) -> str:
    """A flag by its long name; as it is where it is not known."""
    flag = word.partition("=")[0]
    return _FLAGS.get(flag, (flag, 0))[0]


def check(argv: Sequence[str]) -> list[str]:
    """What the parser would not take; the last value of a flag counts, so one that is there twice is no fault."""
    errors, words = [], list(argv)
    while words:
        flag = words.pop(0)
        if flag not in _FLAGS:
            errors.append(f"{flag} is no flag of b{BUILD}")
            while words and not words[0].startswith("-"):
                words.pop(0)
            continue
        values = _FLAGS[flag][1]
        if len(words) < values:
            errors.append(f"{flag} lacks its value")
        del words[:values]
    return errors
