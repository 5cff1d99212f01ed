"""The KV cache that vLLM plans for a model, to the byte.

Written from the behaviour of vLLM 0.20.1's `v1/core/kv_cache_utils.py` and `v1/kv_cache_interface.py`, and of what
newer releases do otherwise (`Planner`); `make contract-kv` runs their code and this side by side. In its order:

1. a layer's page is `block_size x KV heads x (K + V bytes of a head)`;
2. layers with a smaller page get a proportionally larger block, so that every page has the same size; where the pages
   do not divide, old releases stop and newer ones pad the smaller page;
3. layers of one kind are dealt into groups of equal size, the last one padded; the size is the smaller
   kind's layer count, or the larger one's where the two are within a factor of 1.5;
4. a sequence needs `ceil(max_model_len / block)` blocks in a full group, and in a sliding one
   `ceil(min(window - 1 + tokens in flight, max_model_len) / block) + 1`; in flight are the `max_num_batched_tokens`
   of one batch, or of two where the next is scheduled while the GPU computes one;
5. its bytes are `layers a group x page x the blocks of all groups`.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from ojai.memory.geometry import Geometry, LayerKind
from ojai.sizes import GIB

#: Tokens a block where `--block-size` is not given: `CacheConfig.DEFAULT_BLOCK_SIZE`, which TRITON_ATTN
#: accepts; vLLM forces that backend on Gemma 4 because its head dimensions differ
#: [vLLM 0.20.1 config/cache.py, platforms/interface.py, model_executor/models/config.py].
DEFAULT_BLOCK_SIZE: Final = 16

#: `--max-num-batched-tokens` and `--max-num-seqs` of `vllm serve` where they are not given, by GPU memory
#: [vLLM 0.20.1 engine/arg_utils.py, `EngineArgs.get_batch_defaults`].
LARGE_GPU_BYTES: Final = 70 * GIB
LARGE_GPU_BATCH: Final = (8192, 1024)
SMALL_GPU_BATCH: Final = (2048, 256)

KvCacheDtype = Literal[
    "auto",
    "bfloat16",
    "float16",
    "fp8",
    "fp8_e4m3",
    "fp8_e5m2",
    "fp8_per_token_head",
    "int8_per_token_head",
    "int4_per_token_head",
]

#: Names that `--kv-cache-dtype` takes here: those that Triton's attention has, whose size is known.
KV_CACHE_DTYPES: Final[tuple[str, ...]] = get_args(KvCacheDtype)

#: Beside the numbers of one head of one token, its scale [v1/kv_cache_interface.py; from 0.29 on triton_attn.py].
_SCALE_BYTES: Final = 4

#: Layer counts closer than this factor share a group size, padded up [kv_cache_utils.py].
_PADDING_LIMIT: Final = 1.5


class Planner(BaseModel):
    """In what the planners of vLLM's releases differ."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batches_in_flight: int = Field(default=1, ge=1)
    """Batches whose tokens a sliding layer keeps at once."""
    pads_pages: bool = False
    """Whether a smaller page that does not divide the largest is padded; else vLLM does not start."""
    sliding_block_size: int | None = None
    """Tokens a block of a sliding layer before the pages are made equal; None: as of the others."""
    spare_blocks: int = 0
    """Blocks that must be free beside those of one sequence, or vLLM does not start."""
    raises_batch: bool = False
    """Whether the default batch is raised until one image or video fits: by how much, the model's processor says."""


#: That of the guides' release.
OLDEST_PLANNER: Final = Planner()


class KvGroup(BaseModel):
    """Layers that share one block table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: LayerKind
    layers: int
    """Layers in the group, without padding."""
    block_size: int
    """Tokens a block, after the pages were made equal."""
    blocks: int
    """Blocks that one sequence of `max_model_len` tokens holds at most."""


class KvPlan(BaseModel):
    """What a sequence costs, and what a given amount of memory holds.

    Example: `plan(geometry, 131072).bytes_per_sequence`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_model_len: int
    page_bytes: int
    """Bytes of one block in one layer."""
    layers_per_group: int
    """Layers a group is padded to."""
    groups: tuple[KvGroup, ...]
    spare_blocks: int = 0
    """Blocks that vLLM wants beside those of one sequence."""

    @property
    def block_bytes(self) -> int:
        """Bytes of one block over all layers of a group: the unit the pool is cut in."""
        return self.page_bytes * self.layers_per_group

    @property
    def blocks_per_sequence(self) -> int:
        """Blocks that one sequence of `max_model_len` tokens holds at most, over all groups."""
        return sum(group.blocks for group in self.groups)

    @property
    def bytes_per_sequence(self) -> int:
        """Bytes of one sequence of `max_model_len` tokens."""
        return self.blocks_per_sequence * self.block_bytes

    @property
    def least_bytes(self) -> int:
        """Bytes that vLLM must have for the cache, or it refuses to start: one sequence, and what it keeps spare."""
        return (self.blocks_per_sequence + self.spare_blocks) * self.block_bytes

    def max_concurrency(self, available_bytes: int) -> float:
        """Sequences of `max_model_len` tokens that fit, as vLLM logs it ("Maximum concurrency …")."""
        return max(available_bytes, 0) // self.block_bytes / self.blocks_per_sequence

    def tokens(self, available_bytes: int) -> int:
        """Tokens of context the cache holds, as vLLM logs it ("GPU KV cache size: … tokens")."""
        return int(self.max_concurrency(available_bytes) * self.max_model_len)


def head_bytes(kv_cache_dtype: str, dimension: int) -> int:
    """Bytes of one head's K or V for one token ("auto" is the model's own type, of 16 bits).

    Raises:
        ValueError: a type this planner does not know.
    """
    if kv_cache_dtype not in KV_CACHE_DTYPES:
        raise ValueError(f"kv_cache_dtype {kv_cache_dtype!r}: known are {', '.join(KV_CACHE_DTYPES)}")
    scale = _SCALE_BYTES if kv_cache_dtype.endswith("_per_token_head") else 0
    if kv_cache_dtype.startswith("int4"):
        return dimension // 2 + scale
    return dimension * (1 if kv_cache_dtype.startswith(("fp8", "int8")) else 2) + scale


def default_batch(gpu_memory_bytes: int, max_model_len: int, max_num_seqs: int | None = None) -> int:
    """The `--max-num-batched-tokens` that `vllm serve` picks where none is given.

    2048 below 70 GiB of GPU memory, 8192 from there, and never more than all sequences can hold
    [vLLM 0.20.1 engine/arg_utils.py, `_set_default_max_num_seqs_and_batched_tokens_args`].
    """
    tokens, seqs = LARGE_GPU_BATCH if gpu_memory_bytes >= LARGE_GPU_BYTES else SMALL_GPU_BATCH
    return min(tokens, (seqs if max_num_seqs is None else max_num_seqs) * max_model_len)


def default_max_num_seqs(gpu_memory_bytes: int) -> int:
    """The `--max-num-seqs` that `vllm serve` picks where none is given: 256, or 1024 from 70 GiB."""
    return (LARGE_GPU_BATCH if gpu_memory_bytes >= LARGE_GPU_BYTES else SMALL_GPU_BATCH)[1]


def plan(
    geometry: Geometry,
    max_model_len: int,
    *,
    block_size: int = DEFAULT_BLOCK_SIZE,
    max_num_batched_tokens: int = LARGE_GPU_BATCH[0],
    kv_cache_dtype: str = "auto",
    planner: Planner = OLDEST_PLANNER,
) -> KvPlan:
    """Plan the cache of one sequence of `max_model_len` tokens.

    `max_num_batched_tokens` (tokens) decides how much a sliding layer keeps during prefill; 8192 is the
    larger of vLLM's defaults, see `default_batch`.

    Raises:
        ValueError: a count below 1, an unknown type, or pages that vLLM could not make equal either.
    """
    for name, value in (
        ("max_model_len", max_model_len),
        ("block_size", block_size),
        ("max_num_batched_tokens", max_num_batched_tokens),
    ):
        if value < 1:
            raise ValueError(f"{name} is {value}: it must be 1 or more")
    pages: dict[LayerKind, int] = {
        "sliding": geometry.kv_heads_sliding * 2 * head_bytes(kv_cache_dtype, geometry.head_dim_sliding),
        "full": geometry.kv_heads_full * 2 * head_bytes(kv_cache_dtype, geometry.head_dim_full),
    }
    blocks_of: dict[LayerKind, int] = {"sliding": planner.sliding_block_size or block_size, "full": block_size}
    pages = {kind: blocks_of[kind] * pages[kind] for kind in pages}
    layers = geometry.cached_layers
    page = max(pages[kind] for kind in layers)
    uneven = [kind for kind in layers if page % pages[kind]]
    if uneven and not planner.pads_pages:
        raise ValueError(
            f"the page of a {uneven[0]} layer, {pages[uneven[0]]} bytes, does not divide the largest page, "
            f"{page} bytes: vLLM cannot plan this geometry"
        )
    group_size = min(layers.values())
    if max(layers.values()) < group_size * _PADDING_LIMIT:
        group_size = max(layers.values())
    groups: list[KvGroup] = []
    for kind, count in layers.items():
        block = blocks_of[kind] if kind in uneven else blocks_of[kind] * (page // pages[kind])
        if kind == "full":
            blocks = _divide_up(max_model_len, block)
        else:
            in_flight = planner.batches_in_flight * max_num_batched_tokens
            kept = min(geometry.sliding_window - 1 + in_flight, max_model_len)
            blocks = _divide_up(kept, block) + 1
        parts = _divide_up(count, group_size)
        groups += (
            KvGroup(kind=kind, layers=len(range(part, count, parts)), block_size=block, blocks=blocks)
            for part in range(parts)
        )
    return KvPlan(
        max_model_len=max_model_len,
        page_bytes=page,
        layers_per_group=max(group.layers for group in groups),
        groups=tuple(groups),
        spare_blocks=planner.spare_blocks,
    )


def longest_context(
    geometry: Geometry,
    available_bytes: int,
    limit: int,
    *,
    block_size: int = DEFAULT_BLOCK_SIZE,
    max_num_batched_tokens: int = LARGE_GPU_BATCH[0],
    kv_cache_dtype: str = "auto",
    planner: Planner = OLDEST_PLANNER,
) -> int:
    """The longest `max_model_len` up to `limit` of which one sequence fits; 0 if not even one token does."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        needed = plan(
            geometry,
            middle,
            block_size=block_size,
            max_num_batched_tokens=max_num_batched_tokens,
            kv_cache_dtype=kv_cache_dtype,
            planner=planner,
        ).least_bytes
        if needed <= available_bytes:
            low = middle
        else:
            high = middle - 1
    return low


def _divide_up(amount: int, by: int) -> int:
    return -(-amount // by)
