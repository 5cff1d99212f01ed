"""Text that a server or a log said, as it may be shown and kept."""

from __future__ import annotations

import re

#: What a terminal takes for a command, and what no file can hold.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def heard(text: str, key: str | None = None) -> str:
    """The text without control characters, and without a client's key, which some servers repeat."""
    return _CONTROLS.sub("\ufffd", text.replace(key, "(the key)") if key else text)
