"""What llama.cpp's server takes of the memory: all of it at the start, for every slot.

Written from the behaviour of llama.cpp's `src/llama-kv-cache-iswa.cpp`, `llama-kv-cache.cpp` and `llama-context.cpp`;
`make contract-llamacpp` holds it against the log of the real server, by Vulkan, for models of several shapes:

1. the weights are the file; what of them the CPU reads stays mapped beside;
2. a layer that has a cache of its own keeps K and V for `cells` tokens of each slot; a full layer has as many cells as
   a slot has tokens, a sliding one those of the window and of one batch; both are multiples of 256;
3. the buffers of the computation are those of one batch (`compute_bytes`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, get_args

from pydantic import Field

from ojai.memory.budget import OS_RESERVE_BYTES, Demand, HostMemory
from ojai.memory.geometry import LayerKind
from ojai.memory.kv import KvGroup, KvPlan
from ojai.sizes import GIB, Bytes, format_gb, format_gib

GgufCacheType = Literal["f16", "bf16", "q8_0", "q4_0"]

#: Bytes of a block, and the numbers in it [ggml/src/ggml-common.h].
_BLOCKS: Final[dict[str, tuple[int, int]]] = {"f16": (2, 1), "bf16": (2, 1), "q8_0": (34, 32), "q4_0": (18, 32)}

#: Names that `--cache-type-k` takes here.
CACHE_TYPES: Final[tuple[str, ...]] = get_args(GgufCacheType)

#: Cells are added by so many [llama-kv-cache-iswa.cpp; llama-context.cpp, n_ctx].
_PAD: Final = 256

#: The widest model of the family, 31B: where a model's own width is not known, its buffers are at most as large.
_WIDEST: Final = 5376

#: Beside the masks, the buffers have so many numbers for each of the residual stream, of GPU and CPU together.
_BETWEEN: Final = 12

#: Beside what is counted: the driver, the command buffers, the projector's own buffers. Chosen, not measured on a GPU.
_RUNTIME_BYTES: Final = 500_000_000


#: `--cache-ram` as it is set: memory of the OS for prompts that no slot has any more.
PROMPTS_MIB: Final = 1024

#: `--ctx-checkpoints` as it is set: copies of a slot's sliding layers, in memory of the OS. llama.cpp's own 32 could
#: take tens of GB of the larger models.
CHECKPOINTS: Final = 4


def _padded(tokens: int) -> int:
    return -(-tokens // _PAD) * _PAD


class GgufDemand(Demand):
    """What one service of llama.cpp asks for. Nothing is left to the engine."""

    max_num_batched_tokens: int = Field(ge=1, description="`--ubatch-size`.")
    max_num_seqs: int = Field(ge=1, description="`--parallel`: slots, each with a cache of its own.")
    kv_cache_type: GgufCacheType = "f16"
    width: int = Field(_WIDEST, ge=1, description="Numbers of the residual stream for one token.")
    overhead_bytes: Bytes = _RUNTIME_BYTES

    def cells(self, kind: LayerKind) -> int:
        """Tokens that a layer of this kind keeps for one slot."""
        context = _padded(self.max_model_len)
        if kind == "full":
            return context
        return min(context, _padded(self.geometry.sliding_window + self.max_num_batched_tokens))

    def layer_bytes(self, kind: LayerKind) -> int:
        """Bytes of one layer's cache for one slot."""
        shape = self.geometry
        heads, dimension = (
            (shape.kv_heads_full, shape.head_dim_full)
            if kind == "full"
            else (shape.kv_heads_sliding, shape.head_dim_sliding)
        )
        size, numbers = _BLOCKS[self.kv_cache_type]
        return self.cells(kind) * heads * dimension * 2 * size // numbers

    @property
    def slot_bytes(self) -> int:
        """Bytes of one slot's cache."""
        return sum(count * self.layer_bytes(kind) for kind, count in self.geometry.cached_layers.items())

    @property
    def compute_bytes(self) -> int:
        """Bytes of the buffers of one batch: the masks of both kinds of layer, for the GPU and for the CPU that fills
        them, and the numbers between two operations."""
        masks = 2 * 2 * sum(self.cells(kind) for kind in self.geometry.cached_layers)  # twice, of 16 bits
        return self.max_num_batched_tokens * (masks + 4 * _BETWEEN * self.width)

    @property
    def host_bytes(self) -> int:
        """Bytes of the OS's own memory, whatever the GPU has: prompts, and copies of the sliding layers."""
        sliding = self.geometry.cached_layers.get("sliding", 0) * self.layer_bytes("sliding")
        return (PROMPTS_MIB << 20) + self.max_num_seqs * CHECKPOINTS * sliding

    def plan(self, gpu_bytes: int) -> KvPlan:
        """The cache of one slot: a single block, since a slot has all of its own from the start."""
        layers = self.geometry.cached_layers
        group = KvGroup(kind="full", layers=sum(layers.values()), block_size=self.max_model_len, blocks=1)
        return KvPlan(max_model_len=self.max_model_len, page_bytes=self.slot_bytes, layers_per_group=1, groups=(group,))

    def requested_bytes(self, gpu_bytes: int) -> int:
        """All that the server takes, whatever there is."""
        fixed = self.weights_bytes + self.overhead_bytes + self.compute_bytes
        return fixed + self.max_num_seqs * self.slot_bytes

    def available_bytes(self, gpu_bytes: int) -> int:
        """The cache of all slots."""
        return self.max_num_seqs * self.slot_bytes

    def fits_gpu(self, gpu_bytes: int) -> bool:
        """Whether the server would start in that memory."""
        return self.requested_bytes(gpu_bytes) <= gpu_bytes and self.max_model_len <= self.geometry.max_context

    def needed_gpu_bytes(self) -> int:
        """The smallest GPU memory, in whole GiB as bytes."""
        return -(-self.requested_bytes(0) // GIB) * GIB

    def longest_context(self, gpu_bytes: int) -> int:
        """The longest context, at most the model's, with which all slots fit; 0 where none does."""
        low, high = 0, self.geometry.max_context + 1
        while high - low > 1:
            middle = (low + high) // 2
            fits = self.model_copy(update={"max_model_len": middle}).fits_gpu(gpu_bytes)
            low, high = (middle, high) if fits else (low, middle)
        return low

    def room(self, host: HostMemory) -> int:
        """Both heaps that Vulkan sees: the GPU's memory and, with a carve-out, what the kernel lets it borrow of the
        OS's, which is half of that unless `ttm.pages_limit` says otherwise [Mesa radv_physical_device.c: their sum is
        dealt out anew; kernel drivers/gpu/drm/ttm]. The OS keeps what it needs."""
        if host.os_bytes is None:
            return host.gpu_bytes
        spare = max(host.os_bytes - OS_RESERVE_BYTES - self.host_bytes, 0)
        if host.regime == "gtt":
            return min(host.gpu_bytes, spare)
        return host.gpu_bytes + min(host.os_bytes // 2, spare)

    def from_os(self, host: HostMemory) -> int:
        """What of the OS's own memory it takes: with a carve-out, what that does not hold."""
        asked = self.requested_bytes(host.gpu_bytes)
        return self.host_bytes + (asked if host.regime == "gtt" else max(asked - host.gpu_bytes, 0))

    def share(self, gpu_bytes: int) -> float:
        """The share of the GPU's memory that it takes."""
        return min(self.requested_bytes(gpu_bytes) / gpu_bytes, 1.0)

    def errors(self, gpu_bytes: int) -> Iterator[str]:
        """Why it does not fit that memory."""
        if self.max_model_len > self.geometry.max_context:
            yield f"max_model_len {self.max_model_len} is beyond the model's {self.geometry.max_context} tokens"
        if (asked := self.requested_bytes(gpu_bytes)) > gpu_bytes:
            cache = self.available_bytes(gpu_bytes)
            rest = asked - self.weights_bytes - cache
            yield (
                f"weights {format_gb(self.weights_bytes)}, the cache of {self.max_num_seqs} x {self.max_model_len} "
                f"tokens {format_gb(cache, 2)} and buffers {format_gb(rest, 2)} are {format_gb(asked, 2)}, more than "
                f"the {format_gib(gpu_bytes)} that Vulkan can have"
            )
