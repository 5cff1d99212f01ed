"""Token counts by a simple rule, and the prefix cache that counts its own hits.

The rule: text is cut at white space; a word, with the white space before it, is one token for each started
four bytes of its UTF-8. A chat message costs four more, in place of the template's turn markers.
It is not Gemma's tokenizer; it is quick, the same everywhere, and grows with the text.
"""

from __future__ import annotations

import re
import threading
import zlib
from collections import OrderedDict
from collections.abc import Sequence

BYTES_PER_TOKEN = 4
MESSAGE_TOKENS = 4
VOCABULARY = 262_144
_WORD = re.compile(r"\s*\S+|\s+$")


def pieces(text: str) -> list[str]:
    """Cut a text into its tokens' texts; joined they give the text again."""
    found: list[str] = []
    for word in _WORD.findall(text):
        current, size = "", 0
        body = len(word) - len(word.lstrip())
        for index, character in enumerate(word):
            current += character
            if index >= body:
                size += len(character.encode("utf-8", "replace"))
            if size >= BYTES_PER_TOKEN:
                found.append(current)
                current, size = "", 0
        if current:
            found.append(current)
    return found


def identifiers(parts: Sequence[str]) -> list[int]:
    """Return a number below the vocabulary's size for each piece; equal pieces have equal numbers."""
    return [zlib.crc32(part.encode("utf-8", "replace")) % VOCABULARY for part in parts]


class PrefixCache:
    """Blocks of prompt tokens seen before, least recently used first out."""

    def __init__(self, block_size: int, capacity_blocks: int = 65_536) -> None:
        self.block_size = block_size
        self.capacity = capacity_blocks
        self._blocks: OrderedDict[int, None] = OrderedDict()
        self._lock = threading.Lock()

    def look_up(self, tokens: Sequence[int]) -> int:
        """Return how many leading tokens are in the cache, and put this prompt's full blocks into it."""
        hit_blocks, chain, hitting = 0, 0, True
        with self._lock:
            for start in range(0, len(tokens) - self.block_size + 1, self.block_size):
                block = tuple(tokens[start : start + self.block_size])
                chain = hash((chain, block))
                if hitting and chain in self._blocks:
                    hit_blocks += 1
                else:
                    hitting = False
                self._blocks[chain] = None
                self._blocks.move_to_end(chain)
            while len(self._blocks) > self.capacity:
                self._blocks.popitem(last=False)
        # As in vLLM, the last token is always computed: a prompt is never served from the cache alone.
        return min(hit_blocks * self.block_size, max(len(tokens) - 1, 0) // self.block_size * self.block_size)
