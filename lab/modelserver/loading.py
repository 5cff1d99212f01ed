"""Loading a model, as far as the machine takes part in it: devices, memory, the mapping of the weights.

Each step fails as the guides saw vLLM 0.20.1 fail on gfx1150, with its last line.
"""

from __future__ import annotations

import argparse
import errno
import json
import mmap
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import NOTICE, kvcache, tunableop
from .environment import Environment
from .logs import LoadError, info, warning
from .models import Model, find

OVERHEAD_BYTES = 2_000_000_000
"""The runtime's own memory on the GPU (the 26B guide: activations, graph buffers, HIP)."""
MIB, GIB = 2**20, 2**30
EXPERT_TENSOR_MIB = 968
"""Size of the allocation that fails in the guide's out-of-memory message."""
FREE_OFFSET_MIB = 600
"""Taken off first, so that a 16 GiB carve-out leaves the guide's 296.00 MiB before the failing allocation."""
LARGE_DEVICE = 70 * GIB
"""From here vLLM 0.20.1 batches 8192 tokens and 1024 sequences by default, below it 2048 and 256."""
REVISION = "ojai-lab-stand-in"
"""Name of the snapshot folder that the stand-in makes in the Hugging Face cache."""
AITER = ("VLLM_ROCM_USE_AITER", "VLLM_ROCM_USE_AITER_MOE")
DEVICE_NAME = "AMD_Radeon_890M"


@dataclass(frozen=True)
class Loaded:
    """What the API server has to know of a loaded model. `kv_tokens` is None where memory is unknown."""

    max_model_len: int
    max_num_seqs: int
    kv_tokens: int | None
    block_size: int


def device_memory(environment: Environment) -> int | None:
    """Return the bytes that the GPU can use, or None when the machine does not say.

    The larger of the carve-out and TTM's limit: the driver serves from GTT where that is larger.
    """
    try:
        text = environment.product_sku.read_text(encoding="utf-8").strip()
    except OSError:
        return None
    name, _, value = text.partition("=")
    if name != "carveout" or not value.isdigit():
        return None
    try:
        limit = int(environment.pages_limit.read_text(encoding="utf-8")) * 4096
    except (OSError, ValueError):
        limit = 0
    return max(int(value), limit)


def check_devices(environment: Environment) -> None:
    """Refuse to go on without the compute device and a render node, or without the right to open them."""
    nodes = sorted(environment.dri.glob("renderD*")) if environment.dri.is_dir() else []
    for node in (environment.kfd, *(nodes[:1] or [environment.dri / "renderD128"])):
        try:
            os.close(os.open(node, os.O_RDWR | os.O_CLOEXEC))
        except OSError as failed:
            if failed.errno not in (errno.ENOENT, errno.EACCES, errno.EPERM):
                warning("rocm.py", f"{node}: {failed.strerror}; going on, there is no silicon here")
                continue
            warning("rocm.py", f"{node}: {failed.strerror}")
            raise LoadError("RuntimeError: No HIP GPUs are available") from failed


def check_environment(environment: Environment) -> None:
    """Refuse AITER; warn of expandable segments."""
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF"):
        if "expandable_segments" in environment.variables.get(name, ""):
            warning("HIPAllocatorConfig.h", "UserWarning: expandable_segments not supported on this platform")
    if any(environment.flag(name) for name in AITER):
        # The guide saw this for the MoE model and says the variables "crash model init"; a dense model is
        # refused here too, so that a rehearsal finds the variable whatever the model.
        raise LoadError(
            "ValueError: Unquantized MoE backend ROCm AITER does not support the deployment configuration "
            "since kernel does not support current device rocm."
        )


def check_weights_fit(resident: int, capacity: int | None) -> None:
    """Refuse weights and overhead beyond the GPU's memory, as the allocator does before any file is read."""
    if capacity is None or resident + OVERHEAD_BYTES <= capacity:
        return
    free_mib = max(capacity // MIB - FREE_OFFSET_MIB, 0) % EXPERT_TENSOR_MIB
    raise LoadError(
        f"torch.OutOfMemoryError: HIP out of memory. Tried to allocate {EXPERT_TENSOR_MIB}.00 MiB. "
        f"GPU 0 has a total capacity of {capacity / GIB:.2f} GiB of which {free_mib}.00 MiB is free."
    )


def weight_files(model: Model, environment: Environment, revision: str | None = None) -> list[Path]:
    """Return the checkpoint's files, made sparse in the Hugging Face cache when they are absent.

    With a revision, or offline, only what is in the cache as that revision counts.
    """
    if model.folder is not None:
        return [model.folder / name for name in model.files]
    repository = environment.hub / f"models--{model.name.replace('/', '--')}"
    snapshots = repository / "snapshots"
    if revision:
        named = repository / "refs" / revision
        commit = named.read_text(encoding="utf-8").strip() if named.is_file() else revision
    for snapshot in sorted(snapshots.glob("*")) if snapshots.is_dir() else []:
        if revision and snapshot.name != commit:
            continue
        found = [snapshot / name for name in model.files]
        if all(path.exists() for path in found):
            return found
    if environment.flag("HF_HUB_OFFLINE") or revision:
        raise LoadError(
            "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder "
            f"for the specified revision on the local disk and outgoing traffic has been disabled ({repository})."
        )
    folder = snapshots / REVISION
    folder.mkdir(parents=True, exist_ok=True)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(REVISION, encoding="utf-8")
    (folder / "README.txt").write_text(
        f"{NOTICE}\nThe safetensors files here are sparse and hold nothing but zeros.\n", encoding="utf-8"
    )
    files = []
    for name, size in model.files.items():
        path = folder / name
        with path.open("ab") as handle:
            handle.truncate(size)
        files.append(path)
    info("weight_utils.py", f"made {len(files)} sparse file(s) in {folder}, in place of a download")
    return files


def stands_for(path: Path) -> int:
    """How large the file is that one of the lab's hub stands for; 0 for a file of others."""
    try:
        with path.open("rb") as handle:
            header = json.loads(handle.read(min(int.from_bytes(handle.read(8), "little"), 1 << 16)))
        return int(header["__metadata__"]["ojai_lab_bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def map_private(path: Path) -> mmap.mmap:
    """Map a whole file privately and writable, as the safetensors loader does.

    A file of the lab's hub is smaller than the one that it stands for: as much memory is mapped all the same.
    """
    size = max(path.stat().st_size, stands_for(path))
    try:
        with path.open("rb") as handle:
            if size > path.stat().st_size:
                return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
            return mmap.mmap(handle.fileno(), size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    except OSError as failed:
        raise LoadError(
            f"RuntimeError: unable to mmap {size} bytes from file <{path}>: "
            f"{os.strerror(failed.errno or 0)} ({failed.errno})"
        ) from failed


def _longest_that_fits(make_plan: Callable[[int], kvcache.Plan], available: int, upper: int, block: int) -> int:
    low, high = 0, upper // block
    while low < high:
        middle = (low + high + 1) // 2
        if make_plan(middle * block).bytes_per_sequence <= available:
            low = middle
        else:
            high = middle - 1
    return low * block


def plan_cache(model: Model, arguments: argparse.Namespace, environment: Environment, capacity: int | None) -> Loaded:
    """Settle the context length, and the KV cache where the GPU's memory is known."""
    large = capacity is not None and capacity >= LARGE_DEVICE
    block = arguments.block_size or 16
    sequences = arguments.max_num_seqs or (1024 if large else 256)
    geometry = model.geometry
    expected = arguments.max_model_len
    derived = geometry.max_context if geometry else None
    allowed = environment.flag("VLLM_ALLOW_LONG_MAX_MODEL_LEN")
    if derived is not None and expected is not None and expected > derived and not allowed:
        raise LoadError(
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n  Value error, "
            f"User-specified max_model_len ({expected}) is greater than the derived max_model_len "
            f"(max_position_embeddings={derived} or model_max_length=None in model's config.json)."
        )
    longest = expected if expected is not None and expected > 0 else derived or 8192
    if geometry is None or (capacity is None and not arguments.kv_cache_memory_bytes):
        info("gpu_worker.py", "the GPU's memory or the model's geometry is not known here: no KV cache planned")
        return Loaded(longest, sequences, None, block)

    available = arguments.kv_cache_memory_bytes
    if not available:
        available = int(arguments.gpu_memory_utilization * (capacity or 0)) - model.weights_bytes - OVERHEAD_BYTES
    batched = arguments.max_num_batched_tokens or min(8192 if large else 2048, sequences * longest)
    info("gpu_worker.py", f"Available KV cache memory: {available / GIB:.2f} GiB")
    if available <= 0:
        raise LoadError(
            "ValueError: No available memory for the cache blocks. "
            "Try increasing `gpu_memory_utilization` when initializing the engine."
        )
    element = 1 if "8" in arguments.kv_cache_dtype.partition("_")[0] else 2

    def make_plan(length: int) -> kvcache.Plan:
        return kvcache.plan(geometry, length, block, batched, element)

    if expected == -1:
        longest = _longest_that_fits(make_plan, available, longest, block)
    plan = make_plan(longest)
    if plan.bytes_per_sequence > available or not longest:
        fits = _longest_that_fits(make_plan, available, longest, block)
        estimate = f"Based on the available memory, the estimated maximum model length is {fits}. " if fits else ""
        raise LoadError(
            f"ValueError: To serve at least one request with the models's max seq len ({longest}), "
            f"({plan.bytes_per_sequence / GIB:.2f} GiB KV cache is needed, which is larger than the available "
            f"KV cache memory ({available / GIB:.2f} GiB). {estimate}Try increasing `gpu_memory_utilization` "
            "or decreasing `max_model_len` when initializing the engine."
        )
    tokens = plan.capacity_tokens(available, longest)
    info("kv_cache_utils.py", f"GPU KV cache size: {tokens:,} tokens")
    info("kv_cache_utils.py", f"Maximum concurrency for {longest:,} tokens per request: {tokens / longest:.2f}x")
    return Loaded(longest, sequences, tokens, block)


def _announce(model: Model, environment: Environment) -> None:
    """Log what vLLM logs of Gemma 4 on this GPU, where it follows from the model and the files that are there."""
    if model.geometry is not None:
        info(
            "config.py",
            f"Gemma4 model has heterogeneous head dimensions (head_dim={kvcache.SLIDING_HEAD_DIM}, "
            f"global_head_dim={kvcache.FULL_HEAD_DIM}). Forcing TRITON_ATTN backend to prevent mixed-backend "
            "numerical divergence.",
        )
    if not model.experts:
        return
    info(
        "unquantized.py",
        "Using TRITON Unquantized MoE backend out of potential backends: ['ROCm AITER', 'TRITON', 'BATCHED_TRITON'].",
    )
    name = f"E={model.experts},N={model.expert_width},device_name={DEVICE_NAME}.json"
    folder = environment.variables.get("VLLM_TUNED_CONFIG_FOLDER")
    tuned = Path(folder or "/nonexistent") / name
    if tuned.is_file():
        try:
            json.loads(tuned.read_text(encoding="utf-8"))
        except ValueError as bad:
            raise LoadError(f"json.decoder.JSONDecodeError: {bad} ({tuned})") from bad
        info("fused_moe.py", f"Using configuration from {tuned} for MoE layer.")
    else:
        warning(
            "fused_moe.py",
            "Using default MoE config. Performance might be sub-optimal! "
            f"Config file not found at {tuned if folder else name}",
        )


def load(arguments: argparse.Namespace, environment: Environment, keep: list[mmap.mmap]) -> Loaded:
    """Load the model; raises LoadError. The mappings that stay are appended to `keep`."""
    model = find(arguments.model_tag or "Qwen/Qwen3-0.6B")
    check_devices(environment)
    _announce(model, environment)
    check_environment(environment)
    capacity = device_memory(environment)
    if capacity is None:
        warning("gpu_worker.py", f"{environment.product_sku} does not say carveout=<bytes>: memory is unknown")
    check_weights_fit(model.weights_bytes, capacity)
    info("gpu_model_runner.py", f"Starting to load model {model.name}...")
    files = weight_files(model, environment, arguments.revision)
    for index, path in enumerate(files):
        mapping = map_private(path)
        info("weight_utils.py", f"Loading safetensors checkpoint shards: {index + 1}/{len(files)}")
        if index == 0:
            keep.append(mapping)
        else:
            mapping.close()
    time.sleep(environment.load_seconds / 2)
    if environment.crash_at == "loading":
        raise LoadError("RuntimeError: OJAI_LAB_CRASH_AT=loading: the ojai lab's stand-in was told to die here")
    loaded = plan_cache(model, arguments, environment, capacity)
    tunableop.read(environment)
    time.sleep(environment.load_seconds / 2)
    while environment.never_healthy:
        time.sleep(3600)
    return loaded
