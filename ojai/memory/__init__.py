"""What fits in a host's memory, computed before anything is changed.

- `geometry`: the shape of a model's attention layers, all that the cache depends on;
- `kv`: the cache a release of vLLM would plan for it, to the byte;
- `gguf`: what llama.cpp's server takes;
- `budget`: weights, overhead and cache against the memory there is, with the nearest setting that fits;
- `gtt`: the other memory regime of an APU, `ttm.pages_limit`;
- `bandwidth`: tokens a second that the memory can feed.

Nothing here knows profiles, hosts or settings: plain values in, frozen results out.
"""

from ojai.memory.bandwidth import Band, Bands, Decode, bands, decode
from ojai.memory.budget import (
    DEFAULT_UTILIZATION,
    OS_RESERVE_BYTES,
    RUNTIME_OVERHEAD_BYTES,
    Budget,
    Demand,
    HostMemory,
    Regime,
    budget,
    container_limit,
    fit_together,
    over_reserved,
)
from ojai.memory.geometry import Geometry, LayerKind
from ojai.memory.gguf import CACHE_TYPES, CHECKPOINTS, PROMPTS_MIB, GgufDemand
from ojai.memory.gtt import OPTIONS_FILE, Limit, check_pages_limit, others_in_force, pages_bytes, ttm_pages
from ojai.memory.kv import (
    DEFAULT_BLOCK_SIZE,
    KV_CACHE_DTYPES,
    OLDEST_PLANNER,
    KvGroup,
    KvPlan,
    Planner,
    default_batch,
    default_max_num_seqs,
    longest_context,
    plan,
)

__all__ = [
    "CACHE_TYPES",
    "CHECKPOINTS",
    "DEFAULT_BLOCK_SIZE",
    "DEFAULT_UTILIZATION",
    "KV_CACHE_DTYPES",
    "OLDEST_PLANNER",
    "OPTIONS_FILE",
    "OS_RESERVE_BYTES",
    "PROMPTS_MIB",
    "RUNTIME_OVERHEAD_BYTES",
    "Band",
    "Bands",
    "Budget",
    "Decode",
    "Demand",
    "Geometry",
    "GgufDemand",
    "HostMemory",
    "KvGroup",
    "KvPlan",
    "LayerKind",
    "Limit",
    "Planner",
    "Regime",
    "bands",
    "budget",
    "check_pages_limit",
    "container_limit",
    "decode",
    "default_batch",
    "default_max_num_seqs",
    "fit_together",
    "longest_context",
    "others_in_force",
    "over_reserved",
    "pages_bytes",
    "plan",
    "ttm_pages",
]
