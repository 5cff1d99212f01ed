"""The memory budget of a service: a profile with its choices, on an accelerator, in a host's memory.

>>> from ojai import profiles
>>> from ojai.sizes import GIB
>>> host = HostMemory(gpu_bytes=16 * GIB)
>>> print(of(profiles.load("gemma-4-26b-a4b"), host).suggestion)
needs a carve-out of at least 56 GiB: set 64 GB in the BIOS
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from pydantic import ValidationError

from ojai import accelerators
from ojai.memory import OLDEST_PLANNER, Budget, Decode, Demand, HostMemory, Planner, budget, decode
from ojai.profiles import Features, Profile, ProfileError, effective
from ojai.schema.errors import field_errors

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


def demand(profile: Profile, chosen: Features, planner: Planner) -> Demand:
    """What `profile` asks of the memory with the features in force (see `effective`), by its image's planner.

    Raises:
        ProfileError: a choice that has no budget (a cache format whose size is not known).
    """
    asked = {
        "weights_bytes": profile.weights_bytes,
        "largest_shard_bytes": profile.largest_shard_bytes,
        "geometry": profile.geometry,
        "planner": planner,
        "max_model_len": chosen.max_model_len or profile.geometry.max_context,
        **{name: getattr(chosen, name) for name in ("block_size", "max_num_batched_tokens", "max_num_seqs")},
    }
    for name in ("kv_cache_dtype", "gpu_memory_utilization"):
        if (value := getattr(chosen, name)) is not None:
            asked[name] = value
    try:
        return Demand.model_validate(asked)
    except ValidationError as error:
        errors = field_errors(error, Demand, asked)
        raise ProfileError("\n".join(f"{profile.name}: {one}" for one in errors)) from None


def of(
    profile: Profile,
    host: HostMemory,
    features: Features | None = None,
    accelerator: str = accelerators.DEFAULT,
    planner: Planner = OLDEST_PLANNER,
) -> Budget:
    """The budget of one service on `host`, with its `features` laid over the profile's.

    Raises:
        ProfileError: see `demand`.
        UnknownAcceleratorError: no accelerator of that name.
    """
    chosen = effective(profile, features)
    return added(demand(profile, chosen, planner), chosen, host, accelerator)


def added(asked: Demand, chosen: Features, host: HostMemory, accelerator: str) -> Budget:
    """The budget of what is `asked` with the features in force, with notes on what it does not follow."""
    gpu = accelerators.load(accelerator)
    found = budget(asked, host, carve_outs=gpu.carve_outs)
    return found.model_copy(update={"notes": (*found.notes, *_notes(chosen))})


def enough_carve_out(accelerator: str, demands: Collection[Demand]) -> int | None:
    """The smallest BIOS step on which each of the services starts, in bytes; None where none is enough."""
    steps = accelerators.load(accelerator).carve_outs
    return next((step for step in steps if demands and all(demand.fits_gpu(step) for demand in demands)), None)


def decoding(profile: Profile, accelerator: str = accelerators.DEFAULT, memory: str | None = None) -> Decode | None:
    """The decode speed to expect of one user with a short context; None where it has no meaning."""
    if profile.bytes_read_per_token is None:
        return None
    return decode(profile.bytes_read_per_token, accelerators.load(accelerator).memory(memory).gb_per_s)


def _notes(chosen: Features) -> Iterator[str]:
    if chosen.speculative:
        yield "the draft model of speculative decoding is not counted"
    for argument in chosen.engine_args or ():
        if argument.partition("=")[0] in _UNCOUNTED:
            yield f"engine_args has {argument}, which this budget does not follow"
