"""How much KV cache a sequence takes, counted as vLLM 0.20.1's planner counts it.

Rules: a layer's page is block_size x kv_heads x (2 x head_dim) x bytes per element; where pages differ the
smaller kind gets a larger block, so that all pages are alike; layers form groups of equal size, one kind of
attention a group; a full-attention group holds the whole context, a sliding one the window and one batch.
"""

from __future__ import annotations

from dataclasses import dataclass

SLIDING_HEAD_DIM = 256
FULL_HEAD_DIM = 512


@dataclass(frozen=True)
class Geometry:
    """A text decoder's attention layers; the last `shared_layers` hold no cache of their own."""

    layers: int
    sliding_per_full: int
    sliding_kv_heads: int
    full_kv_heads: int
    shared_layers: int
    window: int
    max_context: int

    def cached_layers(self) -> tuple[int, int]:
        """Return how many (sliding, full) layers hold a cache."""
        held = self.layers - self.shared_layers
        full = held // (self.sliding_per_full + 1)
        return held - full, full


@dataclass(frozen=True)
class Plan:
    """What one sequence of the longest length needs."""

    blocks_per_sequence: int
    bytes_per_block: int

    @property
    def bytes_per_sequence(self) -> int:
        """Bytes of cache that one sequence of the longest length takes."""
        return self.blocks_per_sequence * self.bytes_per_block

    def capacity_tokens(self, available_bytes: int, max_model_len: int) -> int:
        """Return vLLM's "GPU KV cache size" in tokens for that many bytes."""
        return int(available_bytes // self.bytes_per_block / self.blocks_per_sequence * max_model_len)


def plan(geometry: Geometry, max_model_len: int, block_size: int, batched_tokens: int, element: int) -> Plan:
    """Plan the cache for sequences of `max_model_len` tokens; `element` is bytes per cached value."""
    sliding_page = block_size * geometry.sliding_kv_heads * 2 * SLIDING_HEAD_DIM * element
    full_page = block_size * geometry.full_kv_heads * 2 * FULL_HEAD_DIM * element
    page = max(sliding_page, full_page)
    sliding_block = block_size * page // sliding_page
    full_block = block_size * page // full_page
    sliding, full = geometry.cached_layers()
    per_group = min(sliding, full)
    sliding_groups, full_groups = -(-sliding // per_group), -(-full // per_group)
    in_window = min(geometry.window - 1 + batched_tokens, max_model_len)
    blocks = full_groups * -(-max_model_len // full_block)
    blocks += sliding_groups * (-(-in_window // sliding_block) + 1)
    return Plan(blocks, per_group * page)
