"""Pictures, sound and film for the checks, made here: a number to be read, and tones."""

from __future__ import annotations

import base64
import math
import struct
import zlib

#: Five columns and seven rows a digit, a row a number of five bits.
_DIGITS = (
    (14, 17, 19, 21, 25, 17, 14),
    (4, 12, 4, 4, 4, 4, 14),
    (14, 17, 1, 2, 4, 8, 31),
    (31, 2, 4, 2, 1, 17, 14),
    (2, 6, 10, 18, 31, 2, 2),
    (31, 16, 30, 1, 1, 17, 14),
    (6, 8, 16, 30, 17, 17, 14),
    (31, 1, 2, 4, 8, 8, 8),
    (14, 17, 17, 14, 17, 17, 14),
    (14, 17, 17, 15, 1, 2, 12),
)
_WHITE, _BLACK = b"\xff\xff\xff", b"\x00\x00\x00"

#: Samples a second: what Gemma 4's audio encoder takes.
RATE = 16_000


def _picture(number: str, size: int) -> list[bytes]:
    """Rows of red, green and blue bytes: black digits in the middle of a white square."""
    scale = size // (6 * len(number) + 2)
    left, top = (size - scale * (6 * len(number) - 1)) // 2, (size - scale * 7) // 2
    rows = [_WHITE * size] * size
    for line in range(7):
        row = bytearray(_WHITE * size)
        for place, digit in enumerate(number):
            for column in range(5):
                if _DIGITS[int(digit)][line] >> (4 - column) & 1:
                    start = 3 * (left + scale * (6 * place + column))
                    row[start : start + 3 * scale] = _BLACK * scale
        for y in range(top + scale * line, top + scale * (line + 1)):
            rows[y] = bytes(row)
    return rows


def png(number: str, size: int = 768) -> bytes:
    """A square picture of the number."""

    def part(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    pixels = zlib.compress(b"".join(b"\0" + row for row in _picture(number, size)))
    head = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", pixels) + part(b"IEND", b"")


def wav(seconds: float) -> bytes:
    """A tone that sounds and is silent by turns, half a second each; one channel of 16 bits."""
    samples = [
        int(8000 * math.sin(math.tau * 440 * at / RATE)) if (2 * at // RATE) % 2 == 0 else 0
        for at in range(int(seconds * RATE))
    ]
    data = struct.pack(f"<{len(samples)}h", *samples)
    form = struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
    return b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVE" + _chunk(b"fmt ", form) + _chunk(b"data", data)


def avi(number: str, frames: int = 8, size: int = 160) -> bytes:
    """A film of the number, two frames a second, not compressed."""
    # Blue before red. A height below zero: rows from the top down, which all decoders take.
    rows = [row[offset::3] for row in _picture(number, size) for offset in (2, 1, 0)]
    frame = b"".join(
        bytes(value for pixel in zip(*rows[at : at + 3], strict=True) for value in pixel)
        for at in range(0, len(rows), 3)
    )
    main = struct.pack("<14I", 500_000, 2 * len(frame), 0, 0x10, frames, 0, 1, len(frame), size, size, 0, 0, 0, 0)
    stream = b"vidsDIB " + struct.pack(
        "<IHHIIIIIIIIHHHH", 0, 0, 0, 0, 1, 2, 0, frames, len(frame), 0, 0, 0, 0, size, size
    )
    form = struct.pack("<IiiHHIIiiII", 40, size, -size, 1, 24, 0, len(frame), 0, 0, 0, 0)
    head = _list(b"hdrl", _chunk(b"avih", main), _list(b"strl", _chunk(b"strh", stream), _chunk(b"strf", form)))
    movie = _list(b"movi", *[_chunk(b"00db", frame)] * frames)
    places = [struct.pack("<4sIII", b"00db", 0x10, 4 + at * (8 + len(frame)), len(frame)) for at in range(frames)]
    return _chunk(b"RIFF", b"AVI " + head + movie + _chunk(b"idx1", b"".join(places)))


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data


def _list(name: bytes, *parts: bytes) -> bytes:
    return _chunk(b"LIST", name + b"".join(parts))


def encoded(data: bytes) -> str:
    """As OpenAI's API takes it inside JSON."""
    return base64.b64encode(data).decode()
