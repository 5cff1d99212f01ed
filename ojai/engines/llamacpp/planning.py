"""What llama.cpp's server takes of the memory, for a profile with the features in force."""

from __future__ import annotations

from pydantic import ValidationError

from ojai.memory import GgufDemand
from ojai.profiles import Features, Profile, ProfileError
from ojai.schema.errors import field_errors

FOLLOWS = "follows llama.cpp's own rules, as build 11669 logs them; the runtime's share beside is chosen, not measured"

#: What the settings call the types of the cache, and what llama.cpp does.
TYPES = {None: "f16", "auto": "f16", "float16": "f16", "bfloat16": "bf16"}


def demand(profile: Profile, chosen: Features) -> GgufDemand:
    """What is asked of the memory. Raises ``ProfileError`` for a type of the cache that is not known."""
    asked = {
        "weights_bytes": profile.weights_bytes,
        "largest_shard_bytes": profile.largest_shard_bytes,
        "geometry": profile.geometry,
        "max_model_len": chosen.max_model_len or profile.geometry.max_context,
        "max_num_batched_tokens": chosen.max_num_batched_tokens,
        "max_num_seqs": chosen.max_num_seqs,
        "kv_cache_type": TYPES.get(chosen.kv_cache_dtype, chosen.kv_cache_dtype),
    }
    try:
        return GgufDemand.model_validate(asked)
    except ValidationError as error:
        errors = field_errors(error, GgufDemand, asked)
        raise ProfileError("\n".join(f"{profile.name}: {one}" for one in errors)) from None
