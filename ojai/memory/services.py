"""The memory budget of a service: a profile with its choices, on an accelerator, in a host's memory.

>>> from ojai import profiles
>>> host = HostMemory(gpu_bytes=16 * GIB)
>>> print(of(profiles.load("gemma-4-26b-a4b"), host).suggestion)
needs a carve-out of at least 56 GiB: set 64 GB in the BIOS
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydantic import ValidationError

from ojai.accelerators import Accelerator
from ojai.accelerators import load as load_accelerator
from ojai.memory import Budget, Decode, Demand, HostMemory, budget, decode
from ojai.profiles import Features, Profile, ProfileError, effective
from ojai.sizes import GIB

#: The guides' box: 64 GB given to the GPU in the BIOS [guide 000, guide 001 section 3.2].
GUIDES_GPU_BYTES: Final = 64 * GIB

DEFAULT_ACCELERATOR: Final = "gfx1150"

#: Raw engine arguments that change vLLM's own sum in a way that is not followed here.
_UNCOUNTED: Final = (
    "--kv-cache-memory-bytes",
    "--num-gpu-blocks-override",
    "--disable-hybrid-kv-cache-manager",
    "--performance-mode",
    "--no-enable-chunked-prefill",
    "--cpu-offload-gb",
    "--tensor-parallel-size",
    "-tp",
)


def demand(profile: Profile, features: Features | None = None) -> Demand:
    """What `profile` asks of the memory, with a service's `features` laid over its own.

    Raises:
        ProfileError: a choice that has no budget (a cache format whose size is not known).
    """
    chosen = effective(profile, features)
    asked = {
        "max_model_len": chosen.max_model_len or profile.geometry.max_context,
        "block_size": chosen.block_size,
        "max_num_batched_tokens": chosen.max_num_batched_tokens,
        "max_num_seqs": chosen.max_num_seqs,
    }
    for name in ("kv_cache_dtype", "gpu_memory_utilization"):
        if (value := getattr(chosen, name)) is not None:
            asked[name] = value
    try:
        return Demand.model_validate(
            {
                "weights_bytes": profile.weights_bytes,
                "largest_shard_bytes": profile.largest_shard_bytes,
                "geometry": profile.geometry,
                **asked,
            }
        )
    except ValidationError as error:
        faults = [
            f"{profile.name}: {'.'.join(map(str, fault['loc']))}: found {fault['input']!r}, expected: {fault['msg']}"
            for fault in error.errors()
        ]
        raise ProfileError("\n".join(faults)) from None


def of(
    profile: Profile,
    host: HostMemory,
    features: Features | None = None,
    accelerator: str = DEFAULT_ACCELERATOR,
) -> Budget:
    """The budget of one service on `host`.

    Raises:
        ProfileError: see `demand`.
        UnknownAcceleratorError: no accelerator of that name.
    """
    gpu = load_accelerator(accelerator)
    added = budget(demand(profile, features), host, carve_outs=gpu.carve_outs)
    notes = (*added.notes, *_notes(profile, effective(profile, features), gpu))
    return added.model_copy(update={"notes": notes})


def decoding(profile: Profile, accelerator: str = DEFAULT_ACCELERATOR, memory: str | None = None) -> Decode | None:
    """The decode speed to expect of one user with a short context; None where it has no meaning."""
    if profile.bytes_read_per_token is None:
        return None
    return decode(profile.bytes_read_per_token, load_accelerator(accelerator).memory(memory).gb_per_s)


def _notes(profile: Profile, chosen: Features, gpu: Accelerator) -> Iterator[str]:
    if (chosen.kv_cache_dtype or "auto").startswith("fp8") and not gpu.supports_fp8:
        yield (
            f"kv_cache_dtype {chosen.kv_cache_dtype} is computed as asked, but {gpu.name} does not support "
            f"FP8 ({gpu.sources['supports_fp8']}): a deploy refuses it"
        )
    if chosen.speculative:
        yield "the draft model of speculative decoding is not counted"
    for argument in chosen.engine_args or ():
        if argument.partition("=")[0] in _UNCOUNTED:
            yield f"engine_args has {argument}, which this budget does not follow"
