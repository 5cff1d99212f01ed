"""What pictures, sound and film cost in tokens, and which vLLM refuses. Their content is not looked at."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

IMAGE_TOKENS = 280
"""Gemma 4's budget of a picture, unless the server or the request has another (`max_soft_tokens`)."""
FRAME_TOKENS = 70
AUDIO_TOKENS_A_SECOND = 25
MOST_FRAMES = 32
PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM")
KINDS = {"image_url": "image", "input_audio": "audio", "audio_url": "audio", "video_url": "video"}


def limit(settings: Any, kind: str) -> int | None:
    """How many of a kind a request may have, by `--limit-mm-per-prompt`; None where nothing is said."""
    value = (settings or {}).get(kind)
    return value.get("count") if isinstance(value, Mapping) else value


def budget(arguments: Any, body: Mapping[str, Any]) -> int:
    """Tokens of a picture: the request's, else the server's, else the model's."""
    for settings in (body.get("mm_processor_kwargs"), arguments.mm_processor_kwargs):
        if isinstance(settings, Mapping) and isinstance(settings.get("max_soft_tokens"), int):
            return int(settings["max_soft_tokens"])
    return IMAGE_TOKENS


def cost(part: Mapping[str, Any], picture: int) -> int:
    """Tokens of a part of a message; ValueError says why vLLM would not load it."""
    kind = KINDS[str(part["type"])]
    data = _data(part)
    if data is None:  # by an address, which the lab does not follow
        return picture if kind == "image" else FRAME_TOKENS
    if kind == "image":
        if not data.startswith(PICTURES) and data[8:12] != b"WEBP":
            raise ValueError("Failed to load image: cannot identify image file")
        return picture
    if data[:4] != b"RIFF" or data[8:12] not in (b"WAVE", b"AVI "):
        raise ValueError(f"Failed to load {kind}: the stand-in reads WAV and AVI only")
    if kind == "audio":
        rate = int.from_bytes(data[28:32], "little") or 1
        return max(1, AUDIO_TOKENS_A_SECOND * (len(data) - 44) // rate)
    return FRAME_TOKENS * min(int.from_bytes(data[48:52], "little"), MOST_FRAMES)


def _data(part: Mapping[str, Any]) -> bytes | None:
    inner = part.get(str(part["type"]))
    if not isinstance(inner, Mapping):
        raise ValueError(f"{part['type']}: expected an object")
    text = str(inner.get("url") or inner.get("data") or "")
    if text.startswith(("http:", "https:", "file:")):
        return None
    try:
        return base64.b64decode(text.rpartition(",")[2], validate=True)
    except binascii.Error as bad:
        raise ValueError(f"Failed to decode base64: {bad}") from None
