"""Whether a model fits a host, what is left, and the nearest setting that would fit.

Example:

    need = Demand(weights_bytes=..., geometry=..., max_model_len=32768)
    have = HostMemory(gpu_bytes=64 * GIB, os_bytes=62 * GIB, overcommit_memory=1)
    budget(need, have, carve_outs=load("gfx1150").carve_outs).fits
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from math import ceil
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ojai.memory.geometry import Geometry
from ojai.memory.gtt import PAGES_PER_GIB, ttm_pages
from ojai.memory.kv import (
    DEFAULT_BLOCK_SIZE,
    LARGE_GPU_BYTES,
    OLDEST_PLANNER,
    SMALL_GPU_BATCH,
    KvCacheDtype,
    KvPlan,
    Planner,
    default_batch,
    default_max_num_seqs,
    longest_context,
    plan,
)
from ojai.sizes import GB, GIB, Bytes, format_gb, format_gib

Regime = Literal["carveout", "gtt"]

#: What the runtime takes beside weights and cache: activations, graph buffers, HIP [guide 001, section 3.3].
RUNTIME_OVERHEAD_BYTES: Final = 2 * GB

#: What Ubuntu and Docker need for themselves [guide 001, section 3.1: "Docker + OS overhead ~3 GB"].
OS_RESERVE_BYTES: Final = 3 * GB

#: vLLM's own `--gpu-memory-utilization` [vLLM 0.20.1 config/cache.py].
DEFAULT_UTILIZATION: Final = 0.92

#: `vm.overcommit_ratio` of a kernel nobody tuned [Documentation/mm/overcommit-accounting.rst].
DEFAULT_OVERCOMMIT_RATIO: Final = 50

#: Suggested contexts are rounded down to a multiple of this many tokens.
_CONTEXT_STEP: Final = 1024

#: A container's limit is a multiple of this: MemTotal differs a little from kernel to kernel.
_LIMIT_STEP: Final = 512 << 20

_Positive = Annotated[int, Field(ge=1)]


def container_limit(total: int) -> int:
    """Most memory for a hardened container on a system of ``total`` bytes: Ubuntu and Docker keep what they need."""
    return max(total - OS_RESERVE_BYTES, total // 2) // _LIMIT_STEP * _LIMIT_STEP


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HostMemory(_Frozen):
    """The memory there is, as facts from a host or as an assumption.

    In the regime `carveout` the GPU has its BIOS carve-out and the OS the rest; in `gtt` the GPU borrows
    from the OS, up to `gpu_bytes`.
    """

    gpu_bytes: Bytes = Field(gt=0, description="GPU memory: mem_info_vram_total, or what torch sees with GTT.")
    regime: Regime = "carveout"
    os_bytes: Bytes | None = Field(default=None, description="MemTotal; without the carve-out.")
    swap_bytes: Bytes = Field(default=0, description="SwapTotal.")
    overcommit_memory: Literal[0, 1, 2] = 0
    overcommit_ratio: int = Field(default=DEFAULT_OVERCOMMIT_RATIO, ge=0)

    @model_validator(mode="after")
    def _within_ram(self) -> Self:
        if self.regime == "gtt" and self.os_bytes is not None and self.gpu_bytes > self.os_bytes:
            raise ValueError(
                f"the GPU cannot borrow {format_gib(self.gpu_bytes)} from an OS that has "
                f"{format_gib(self.os_bytes)}: lower ttm.pages_limit to at most "
                f"{self.os_bytes // GIB * PAGES_PER_GIB} ({self.os_bytes // GIB} GiB)"
            )
        return self

    def mapping_limit_bytes(self) -> int | None:
        """The largest private writable mapping the kernel grants; None is no limit or not known.

        Mode 0 refuses a single one above all RAM and swap, mode 1 none, mode 2 whatever exceeds
        CommitLimit [kernel, Documentation/mm/overcommit-accounting.rst].
        """
        if self.os_bytes is None or self.overcommit_memory == 1:
            return None
        if self.overcommit_memory == 0:
            return self.os_bytes + self.swap_bytes
        return self.os_bytes * self.overcommit_ratio // 100 + self.swap_bytes


class Demand(_Frozen):
    """What one service asks for. None leaves the choice to vLLM, whose default is then computed."""

    weights_bytes: Bytes = Field(gt=0, description="Weights resident on the GPU.")
    geometry: Geometry
    planner: Planner = OLDEST_PLANNER
    max_model_len: _Positive = Field(description="Tokens of the longest sequence.")
    largest_shard_bytes: Bytes | None = Field(
        default=None, description="Largest weight file: the loader maps it as a whole."
    )
    overhead_bytes: Bytes = RUNTIME_OVERHEAD_BYTES
    block_size: _Positive | None = None
    max_num_batched_tokens: _Positive | None = None
    max_num_seqs: _Positive | None = None
    kv_cache_dtype: KvCacheDtype = "auto"
    gpu_memory_utilization: float = Field(default=DEFAULT_UTILIZATION, gt=0, le=1)

    def batched_tokens(self, gpu_bytes: int, max_model_len: int | None = None) -> int:
        """`max_num_batched_tokens` as asked for, or as vLLM picks it on a GPU with `gpu_bytes`."""
        if self.max_num_batched_tokens is not None:
            return self.max_num_batched_tokens
        return default_batch(gpu_bytes, max_model_len or self.max_model_len, self.max_num_seqs)

    def plan(self, gpu_bytes: int) -> KvPlan:
        """The cache of one sequence on a GPU with `gpu_bytes`."""
        return plan(
            self.geometry,
            self.max_model_len,
            block_size=self.block_size or DEFAULT_BLOCK_SIZE,
            max_num_batched_tokens=self.batched_tokens(gpu_bytes),
            kv_cache_dtype=self.kv_cache_dtype,
            planner=self.planner,
        )

    def requested_bytes(self, gpu_bytes: int) -> int:
        """The share of the GPU that vLLM takes: `ceil(total x utilisation)` [vLLM v1/worker/utils.py]."""
        return ceil(gpu_bytes * self.gpu_memory_utilization)

    def available_bytes(self, gpu_bytes: int) -> int:
        """What that share leaves for the cache; negative where weights and overhead alone are too much."""
        return self.requested_bytes(gpu_bytes) - self.weights_bytes - self.overhead_bytes

    def room(self, host: HostMemory) -> int:
        """The memory that it can have on a host, in bytes: the GPU's."""
        return host.gpu_bytes

    def from_os(self, host: HostMemory) -> int:
        """What of the OS's own memory it takes: all of it with GTT."""
        return self.requested_bytes(self.room(host)) if host.regime == "gtt" else 0

    def share(self, gpu_bytes: int) -> float:
        """The share of the GPU's memory that it takes."""
        return self.gpu_memory_utilization

    def errors(self, gpu_bytes: int) -> Iterator[str]:
        """Why it does not fit a GPU with `gpu_bytes`."""
        share = f"{self.gpu_memory_utilization:g} of {format_gib(gpu_bytes)}"
        used = f"weights {format_gb(self.weights_bytes)} and overhead {format_gb(self.overhead_bytes)}"
        kv, available = self.plan(gpu_bytes), self.available_bytes(gpu_bytes)
        if self.max_model_len > self.geometry.max_context:
            yield f"max_model_len {self.max_model_len} is beyond the model's {self.geometry.max_context} tokens"
        if available <= 0:
            yield f"{used} leave no room for a cache in {share} ({format_gb(-available)} too much)"
        elif kv.least_bytes > available:
            yield (
                f"one sequence of {self.max_model_len} tokens needs {format_gb(kv.least_bytes, 2)} of "
                f"cache, and {used} leave {format_gb(available, 2)} in {share}"
            )

    def fits_gpu(self, gpu_bytes: int) -> bool:
        """Whether vLLM would start on a GPU with `gpu_bytes`: one full sequence must fit."""
        return self.plan(gpu_bytes).least_bytes <= self.available_bytes(gpu_bytes)

    def needed_gpu_bytes(self) -> int:
        """The smallest GPU memory, in whole GiB as bytes, on which vLLM would start.

        More memory is not always enough: from 70 GiB on vLLM's default batch is larger, and so is the cache
        of one sequence. Below and from there on, more is better.
        """
        edge = LARGE_GPU_BYTES // GIB
        low, high = (0, edge - 1) if self.fits_gpu((edge - 1) * GIB) else (edge - 1, edge)
        while not self.fits_gpu(high * GIB):
            low, high = high, high * 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.fits_gpu(middle * GIB) else (middle, high)
        return high * GIB

    def longest_context(self, gpu_bytes: int) -> int:
        """The longest context, at most the model's, of which one sequence fits; 0 where none does."""
        available = self.available_bytes(gpu_bytes)
        limit = self.geometry.max_context
        return longest_context(
            self.geometry,
            available,
            limit,
            block_size=self.block_size or DEFAULT_BLOCK_SIZE,
            max_num_batched_tokens=self.batched_tokens(gpu_bytes, limit),
            kv_cache_dtype=self.kv_cache_dtype,
            planner=self.planner,
        )


class Budget(_Frozen):
    """One service's memory, added up. All amounts in bytes."""

    regime: Regime
    gpu_bytes: int
    requested_bytes: int = Field(description="What vLLM takes of the GPU: total x utilisation.")
    weights_bytes: int
    overhead_bytes: int
    max_model_len: int
    block_size: int
    max_num_batched_tokens: int
    max_num_seqs: int
    kv_cache_dtype: str
    gpu_memory_utilization: float
    kv_bytes_per_sequence: int = Field(description="Cache of one sequence of max_model_len tokens.")
    kv_available_bytes: int = Field(description="Left for the cache; 0 where there is none.")
    max_concurrency: float = Field(description="Sequences of max_model_len tokens that fit at once.")
    kv_tokens: int = Field(description="Tokens the cache holds: max_concurrency x max_model_len.")
    longest_context: int = Field(description="Longest context of which one sequence fits; 0: none.")
    needed_gpu_bytes: int = Field(description="Smallest GPU memory for this setting, in whole GiB.")
    os_left_bytes: int | None = Field(description="RAM left to the OS; None: MemTotal is not known.")
    load_ok: bool | None = Field(description="Whether the largest shard can be mapped; None: not known.")
    fits: bool
    reasons: tuple[str, ...] = Field(description="Why it does not fit; empty when it does.")
    notes: tuple[str, ...] = Field(description="What to mind although it fits.")
    suggestion: str | None = Field(description="The nearest setting that would fit.")

    def sentence(self, name: str) -> str:
        """One line for a person: what `name` gets, or what it lacks and what to do."""
        if self.fits:
            fitted = f"{name} at {self.max_model_len} tokens fits {self.max_concurrency:.1f} sequences"
            return f"{fitted} ({self.kv_tokens} tokens of cache) in {format_gib(self.gpu_bytes)}"
        return f"{name} does not fit: {'; '.join(self.reasons)}" + (f". {self.suggestion}" if self.suggestion else "")


def budget(demand: Demand, host: HostMemory, *, carve_outs: Sequence[int] = ()) -> Budget:
    """Add up `demand` on `host`. `carve_outs`: the BIOS's steps in bytes, ascending, for the suggestion."""
    gpu = demand.room(host)
    kv = demand.plan(gpu)
    requested = demand.requested_bytes(gpu)
    available = demand.available_bytes(gpu)
    os_left = _os_left(host, demand.from_os(host))
    load_ok = _load_ok(demand, host)
    reasons = (
        *demand.errors(gpu),
        *_os_errors(os_left),
        *_load_errors(demand, host, load_ok),
    )
    max_num_seqs = demand.max_num_seqs or default_max_num_seqs(gpu)
    return Budget(
        regime=host.regime,
        gpu_bytes=gpu,
        requested_bytes=requested,
        weights_bytes=demand.weights_bytes,
        overhead_bytes=requested - demand.weights_bytes - available,
        max_model_len=demand.max_model_len,
        block_size=demand.block_size or DEFAULT_BLOCK_SIZE,
        max_num_batched_tokens=demand.batched_tokens(gpu),
        max_num_seqs=max_num_seqs,
        kv_cache_dtype=demand.kv_cache_dtype,
        gpu_memory_utilization=demand.gpu_memory_utilization,
        kv_bytes_per_sequence=kv.bytes_per_sequence,
        kv_available_bytes=max(available, 0),
        max_concurrency=kv.max_concurrency(available),
        kv_tokens=kv.tokens(available),
        longest_context=demand.longest_context(gpu),
        needed_gpu_bytes=demand.needed_gpu_bytes(),
        os_left_bytes=os_left,
        load_ok=load_ok,
        fits=not reasons,
        reasons=reasons,
        notes=tuple(_notes(demand, host, kv.max_concurrency(available), max_num_seqs)),
        suggestion=_suggestion(demand, host, carve_outs, load_ok, os_left),
    )


def fit_together(demands: Mapping[str, Demand], host: HostMemory) -> tuple[str, ...]:
    """Why the named services cannot run on one host at once; empty when they can.

    vLLM takes its share of the *whole* GPU, and refuses to start when less than that is free
    [vLLM 0.20.1 v1/worker/utils.py, `request_memory`]. So the shares must not exceed 1 together.
    """
    reasons: list[str] = []
    if reserved := over_reserved({name: demand.share(host.gpu_bytes) for name, demand in demands.items()}):
        reasons.append(reserved)
    taken = sum(demand.from_os(host) for demand in demands.values())
    for name, demand in demands.items():
        reasons += [f"{name}: {reason}" for reason in budget(demand, host).reasons]
    if len(demands) > 1 and taken and host.os_bytes is not None:
        reasons += _os_errors(host.os_bytes - taken)
    return tuple(reasons)


def over_reserved(shares: Mapping[str, float]) -> str | None:
    """What is wrong with the named services' shares of the GPU's memory together; None when they fit."""
    # The decimal that a person wrote: 0.45 + 0.55 is 1, not a hair more.
    total = sum(Fraction(str(share)) for share in shares.values())
    if total <= 1:
        return None
    each = ", ".join(f"{name} {share:g}" for name, share in shares.items())
    return (
        f"together they reserve {float(total):g} of the GPU's memory ({each}); expected 1 at most. "
        "Set gpu_memory_utilization of each"
    )


def _os_left(host: HostMemory, taken: int) -> int | None:
    return None if host.os_bytes is None else host.os_bytes - taken


def _load_ok(demand: Demand, host: HostMemory) -> bool | None:
    if host.overcommit_memory == 1:
        return True
    limit = host.mapping_limit_bytes()
    if limit is None or demand.largest_shard_bytes is None:
        return None
    return demand.largest_shard_bytes <= limit


def _os_errors(os_left: int | None) -> list[str]:
    if os_left is None or os_left >= OS_RESERVE_BYTES:
        return []
    return [f"the OS would be left with {format_gb(os_left)}; it and Docker need {format_gb(OS_RESERVE_BYTES)}"]


def _load_errors(demand: Demand, host: HostMemory, load_ok: bool | None) -> Iterator[str]:
    limit = host.mapping_limit_bytes()
    if load_ok is not False or limit is None or demand.largest_shard_bytes is None:
        return
    what = "RAM and swap" if host.overcommit_memory == 0 else "CommitLimit"
    yield (
        f"the largest weight file, {format_gb(demand.largest_shard_bytes)}, cannot be mapped: with "
        f"vm.overcommit_memory={host.overcommit_memory} the kernel grants at most {format_gb(limit)} ({what})"
    )


def _notes(demand: Demand, host: HostMemory, concurrency: float, max_num_seqs: int) -> Iterator[str]:
    if demand.max_num_batched_tokens is None:
        yield (
            f"max_num_batched_tokens is not set: vLLM takes {demand.batched_tokens(host.gpu_bytes)} on a GPU "
            "of this size (2048 below 70 GiB, 8192 from there), and so does this budget"
            + "; this release takes more where one image or video needs it, so set it to be sure"
            * demand.planner.raises_batch
        )
    if 1 <= concurrency < max_num_seqs and demand.max_num_seqs is not None:
        yield (
            f"max_num_seqs is {max_num_seqs}, but only {concurrency:.1f} sequences of full length fit: "
            "when they are long, the others wait"
        )
    if host.regime == "gtt":
        yield "with GTT the GPU's memory is the OS's own: what the model takes, other programs miss"


def _suggestion(
    demand: Demand,
    host: HostMemory,
    carve_outs: Sequence[int],
    load_ok: bool | None,
    os_left: int | None,
) -> str | None:
    """The nearest setting that fits: a shorter context first, then more memory, then how to load."""
    options: list[str] = []
    also: list[str] = []
    if demand.max_model_len > demand.geometry.max_context:
        demand = demand.model_copy(update={"max_model_len": demand.geometry.max_context})
        also.append(f"set max_model_len to {demand.max_model_len} or less")
    gpu = demand.room(host)
    if not demand.fits_gpu(gpu):
        lower = demand.model_copy(update={"max_num_batched_tokens": SMALL_GPU_BATCH[0]})
        if demand.batched_tokens(gpu) > SMALL_GPU_BATCH[0] and lower.fits_gpu(gpu):
            options.append(f"set max_num_batched_tokens to {SMALL_GPU_BATCH[0]}")
        longest = min(demand.longest_context(gpu), demand.max_model_len)
        if longest:
            step = _CONTEXT_STEP if longest >= _CONTEXT_STEP else 1
            options.append(f"set max_model_len to {longest // step * step}")
        options.append(_more_memory(demand, host, carve_outs))
    elif os_left is not None and os_left < OS_RESERVE_BYTES:
        options.append(_less_memory(demand, host))
    if load_ok is False:
        also.append("set vm.overcommit_memory to 1")
    return "; ".join(filter(None, ("; or: ".join(options), *also))) or None


def _more_memory(demand: Demand, host: HostMemory, carve_outs: Sequence[int]) -> str:
    needed = demand.needed_gpu_bytes()
    if host.regime == "gtt":
        pages = ttm_pages(needed // GIB)
        least = needed // GIB
        if host.os_bytes is not None and needed > host.os_bytes - OS_RESERVE_BYTES:
            return (
                f"needs {least} GiB of GTT, more than the OS's {format_gib(host.os_bytes)} can spare: take a "
                "smaller or quantised model"
            )
        return f"needs at least {least} GiB of GTT: set gtt_limit to {least}GiB (ttm.pages_limit {pages})"
    text = f"needs a carve-out of at least {format_gib(needed)}"
    installed = None if host.os_bytes is None else host.gpu_bytes + host.os_bytes
    if installed is not None and needed > installed - OS_RESERVE_BYTES:
        return f"{text}, more than this machine's {format_gib(installed)} can spare: take a smaller or quantised model"
    offered = [step for step in carve_outs if installed is None or step <= installed - OS_RESERVE_BYTES]
    if step := next((step for step in offered if step >= needed and demand.fits_gpu(step)), None):
        return f"{text}: set {step / GIB:g} GB in the BIOS"
    if offered:
        return f"{text}, more than the BIOS's {offered[-1] / GIB:g} GB: take a smaller or quantised model"
    return text


def _less_memory(demand: Demand, host: HostMemory) -> str:
    if host.regime == "carveout" or host.os_bytes is None:
        return "give the GPU a smaller carve-out, or add RAM"
    most = host.os_bytes - OS_RESERVE_BYTES
    share = int(most * 100 / host.gpu_bytes) / 100
    if share > 0 and demand.model_copy(update={"gpu_memory_utilization": share}).fits_gpu(host.gpu_bytes):
        return f"lower gpu_memory_utilization to {share:g}"
    return "take a smaller or quantised model, or add RAM"
