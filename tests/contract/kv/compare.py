"""Run a release's own KV cache planner beside ours and compare what they say.

Run it with the interpreter and the release that `make contract-kv` gives it: it needs no GPU and no model. For each
case the real `get_kv_cache_configs` builds groups, checks admission and sizes the pool from layer specs as Gemma 4's
attention layers would declare them; ours gets the geometry. Compared are: bytes a sequence, blocks in the pool,
concurrency, tokens in the cache, and the longest context that fits.

The layers are made twice: here from the model's configuration (`layer_types`, `num_kv_shared_layers`, K=V heads, as
`model_executor/models/gemma4.py` reads them), in `ojai` from the profile's geometry. Exit status 1 on any difference.

vLLM's answers for the five models are kept in `answers-RELEASE.json` for the unit tests, which have no vLLM; `--write`
renews them, and a run without it says when they are stale.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from ojai.engines.vllm import cli as vllm_cli  # noqa: E402
from ojai.engines.vllm import releases  # noqa: E402
from ojai.memory.budget import DEFAULT_UTILIZATION  # noqa: E402
from ojai.memory.geometry import Geometry  # noqa: E402
from ojai.memory.kv import default_batch, default_max_num_seqs, longest_context, plan  # noqa: E402
from tools.contract import real  # noqa: E402  (sets the CPU platform before vLLM is imported)

import torch  # isort: skip  # noqa: E402
import vllm  # isort: skip  # noqa: E402
from vllm.config import VllmConfig  # isort: skip  # noqa: E402
from vllm.config.cache import CacheConfig  # isort: skip  # noqa: E402
from vllm.engine import arg_utils  # isort: skip  # noqa: E402
from vllm.usage.usage_lib import UsageContext  # isort: skip  # noqa: E402
from vllm.v1.core import kv_cache_utils  # isort: skip  # noqa: E402

planner: Any = kv_cache_utils
if find_spec("vllm.v1.core.kv_cache_planning"):  # from 0.33 on
    from vllm.v1.core import kv_cache_planning as planner  # type: ignore[no-redef]  # isort: skip
    from vllm.v1.core.kv_cache_config_builder import get_kv_cache_config_builder  # isort: skip
from vllm.model_executor.layers.attention.attention import Attention  # isort: skip  # noqa: E402
from vllm.utils.torch_utils import STR_DTYPE_TO_TORCH_DTYPE  # isort: skip  # noqa: E402
from vllm.v1.attention.backend import AttentionType  # isort: skip  # noqa: E402
from vllm.v1.attention.backends.triton_attn import TritonAttentionBackend  # isort: skip  # noqa: E402

os.environ["VLLM_KV_CACHE_LAYOUT"] = "NHD"  # vLLM's default, which releases before 0.33 would look for in a config

GIB = 1 << 30
ANSWERS = Path(__file__).with_name(f"answers-{real.VERSION}.json")
PLANNER = releases.planner(real.VERSION)


class Model(NamedTuple):
    """The keys of a Gemma 4 text configuration that decide its cache."""

    num_hidden_layers: int
    sliding_window_pattern: int
    num_key_value_heads: int
    num_global_key_value_heads: int
    sliding_window: int
    num_kv_shared_layers: int
    max_position_embeddings: int
    head_dim: int = 256
    global_head_dim: int = 512


MODELS = {
    "E2B": Model(35, 5, 1, 1, 512, 20, 131072),
    "E4B": Model(42, 6, 2, 2, 512, 18, 131072),
    "12B": Model(48, 6, 8, 1, 1024, 0, 262144),
    "26B-A4B": Model(30, 6, 8, 2, 1024, 0, 262144),
    "31B": Model(60, 6, 16, 4, 1024, 0, 262144),
    # Not models: they reach the planner's other branches (equal groups, padding, one kind only, uneven pages).
    "padded": Model(10, 2, 4, 2, 256, 1, 65536),
    "uneven-groups": Model(15, 3, 4, 2, 256, 2, 65536),
    "sliding-only": Model(4, 8, 4, 2, 256, 0, 65536),
    "full-only": Model(4, 1, 4, 2, 256, 0, 65536),
    "full-page-smaller": Model(12, 6, 16, 2, 1024, 0, 65536),
    "unplannable": Model(12, 6, 3, 2, 1024, 0, 65536),
    "odd-head-dims": Model(12, 6, 4, 1, 1024, 0, 65536, 192, 384),
}
PUBLISHED = {
    ("E4B", 131072, 16): 2_505_310_208,
    ("E2B", 131072, 16): 912_654_336,
    ("31B", 32768, 16): 10_247_208_960,
    ("26B-A4B", 32768, 32): 2_565_079_040,
}
CONTEXTS = (1, 100, 1000, 4096, 8192, 12345, 32768, 65535, 131072, 262144)
BLOCK_SIZES = (8, 16, 32, 48, 64, 128)
BATCHES = (256, 2048, 3000, 8192, 16384)
DTYPES = [
    kind
    for kind in ("auto", "fp8", "int8_per_token_head", "int4_per_token_head")
    if kind in vllm_cli.load(real.VERSION).kv_cache_dtypes
]
POOLS = (100_000_000, 4_880_000_000, 24 * GIB)


def layer_types(model: Model) -> list[str]:
    """Sliding layers with a full one every `sliding_window_pattern`, as the configuration's default has it."""
    return [
        "full" if (layer + 1) % model.sliding_window_pattern == 0 else "sliding"
        for layer in range(model.num_hidden_layers)
    ]


def layer_specs(model: Model, block_size: int, kind: str) -> dict[str, Any]:
    """What each attention layer that owns a cache tells vLLM, by the layer's own method (gemma4.py, attention.py)."""
    config = SimpleNamespace(
        cache_config=CacheConfig(block_size=block_size), model_config=SimpleNamespace(use_mla=False)
    )
    specs: dict[str, Any] = {}
    owning = layer_types(model)[: model.num_hidden_layers - model.num_kv_shared_layers]
    for number, layer in enumerate(owning):
        sliding = layer == "sliding"
        size = model.head_dim if sliding else model.global_head_dim
        of_layer = SimpleNamespace(
            attn_type=AttentionType.DECODER,
            attn_backend=TritonAttentionBackend,
            kv_cache_dtype=kind,
            kv_cache_torch_dtype=torch.bfloat16 if kind == "auto" else STR_DTYPE_TO_TORCH_DTYPE[kind],
            num_kv_heads=model.num_key_value_heads if sliding else model.num_global_key_value_heads,
            head_size=size,
            head_size_v=size,
            sliding_window=model.sliding_window if sliding else None,
        )
        spec = Attention.get_kv_cache_spec(of_layer, config)
        # Then the model runner asks the backend (gpu_model_runner.py).
        if hasattr(spec, "indexes_kv_by_block_stride"):
            spec = replace(spec, indexes_kv_by_block_stride=TritonAttentionBackend.indexes_kv_by_block_stride())
        if hasattr(TritonAttentionBackend, "customize_spec"):
            spec = TritonAttentionBackend.customize_spec(spec)
        specs[f"model.layers.{number}.self_attn.attn"] = spec
    return specs


def geometry(model: Model) -> Geometry:
    """The same model as a profile states it."""
    types = layer_types(model)
    period = model.sliding_window_pattern
    repeats = model.num_hidden_layers % period == 0
    return Geometry(
        layers=model.num_hidden_layers,
        pattern=f"{period - 1}:1" if repeats else None,
        layer_types=None if repeats else tuple(types),
        kv_heads_sliding=model.num_key_value_heads,
        kv_heads_full=model.num_global_key_value_heads,
        head_dim_sliding=model.head_dim,
        head_dim_full=model.global_head_dim,
        sliding_window=model.sliding_window,
        shared_kv_layers=model.num_kv_shared_layers,
        max_context=model.max_position_embeddings,
    )


def configuration(max_model_len: int, batch: int) -> Any:
    """The few settings the planner reads, in the places where it reads them.

    Of newer releases also what vLLM derives from them: the tokens in flight, by its own property, with asynchronous
    scheduling, its default; and the layout of the cache, which is the first of those that Triton's attention takes.
    """
    found = SimpleNamespace(
        model_config=SimpleNamespace(
            max_model_len=max_model_len,
            original_max_model_len=max_model_len,
            supports_kv_cache_grouping=False,  # Gemma 4 does not group its layers itself
        ),
        scheduler_config=SimpleNamespace(
            max_num_batched_tokens=batch, disable_hybrid_kv_cache_manager=False, async_scheduling=True
        ),
        parallel_config=SimpleNamespace(
            decode_context_parallel_size=1,
            prefill_context_parallel_size=1,
            pipeline_parallel_size=1,
            tensor_parallel_size=1,
        ),
        cache_config=SimpleNamespace(
            num_gpu_blocks_override=None,
            get_resolved_kv_cache_layout=layout,
            prefix_cache_retention_interval=None,
        ),
        attention_config=SimpleNamespace(hisparse_config=None),
        kv_transfer_config=None,
        speculative_config=None,
        use_v2_model_runner=True,
        num_prefill_lookahead_tokens=0,  # nothing is drafted
    )
    if hasattr(VllmConfig, "max_in_flight_tokens"):
        found.max_concurrent_batches = VllmConfig.max_concurrent_batches.fget(found)
        found.max_in_flight_tokens = VllmConfig.max_in_flight_tokens.fget(found)
    return found


def layout() -> Any:
    """The layout that vLLM would choose for the attention it forces on Gemma 4."""
    from vllm.v1.attention.backends.utils import get_supported_kv_cache_layouts

    return get_supported_kv_cache_layouts([TritonAttentionBackend])[0]


def ask_vllm(model: Model, context: int, block: int, batch: int, kind: str) -> dict[str, Any]:
    """vLLM's answers, or {"refused": …} where its planner raises."""
    config = configuration(context, batch)
    specs = layer_specs(model, block, kind)
    first: tuple[Any, ...] = (config,)
    last: tuple[Any, ...] = ()
    try:
        if hasattr(planner, "get_global_kv_cache_groups"):  # from 0.33 on, by a builder that the platform chooses
            groups = planner.get_global_kv_cache_groups(config, [dict(specs)])
            first, last = (get_kv_cache_config_builder(config), config), (groups,)
        else:
            groups = planner.get_kv_cache_groups(config, dict(specs))
    except NotImplementedError:
        return {"refused": True}
    needed = planner._max_memory_usage_bytes_from_groups(*first, groups)
    # What get_kv_cache_configs keeps back from 0.29 on, before it estimates and checks.
    spare = planner._pool_bytes_per_block_from_builder(*first, groups) if last else 0
    pools = []
    for pool in POOLS:
        longest = planner._estimate_max_model_len_from_groups(*first, groups, pool - spare)
        try:
            (made,) = planner.get_kv_cache_configs(config, [dict(specs)], [pool], *last)
        except ValueError:
            pools.append({"starts": False, "longest": longest})
            continue
        concurrency = kv_cache_utils.get_max_concurrency_for_kv_cache_config(config, made)
        pools.append(
            {
                "starts": True,
                "longest": longest,
                "blocks": made.num_blocks,
                "concurrency": concurrency,
                "tokens": int(concurrency * context),
            }
        )
    return {"bytes": needed, "pools": pools}


def ask_ojai(model: Model, context: int, block: int, batch: int, dtype: str) -> dict[str, Any]:
    """Our answers, in the same shape."""
    shape = geometry(model)
    try:
        made = plan(
            shape, context, block_size=block, max_num_batched_tokens=batch, kv_cache_dtype=dtype, planner=PLANNER
        )
    except ValueError:
        return {"refused": True}
    pools = []
    for pool in POOLS:
        longest = longest_context(
            shape,
            pool,
            context,
            block_size=block,
            max_num_batched_tokens=batch,
            kv_cache_dtype=dtype,
            planner=PLANNER,
        )
        if made.least_bytes > pool:
            pools.append({"starts": False, "longest": longest})
            continue
        pools.append(
            {
                "starts": True,
                "longest": longest,
                "blocks": pool // made.block_bytes,
                "concurrency": made.max_concurrency(pool),
                "tokens": made.tokens(pool),
            }
        )
    return {"bytes": made.bytes_per_sequence, "pools": pools}


def planner_differences() -> tuple[int, int, list[str]]:
    """Every case: how many there were, how many both refuse, and the differences."""
    cases = refused = 0
    different = []
    for (name, model), context, block, batch, kind in itertools.product(
        MODELS.items(), CONTEXTS, BLOCK_SIZES, BATCHES, DTYPES
    ):
        if context > model.max_position_embeddings or (block % 16 and real.VERSION != vllm_cli.VERSION):
            continue  # newer releases ask Triton's attention, which takes multiples of 16 alone
        cases += 1
        theirs = ask_vllm(model, context, block, batch, kind)
        ours = ask_ojai(model, context, block, batch, kind)
        refused += "refused" in theirs
        if theirs != ours:
            different.append(f"{name} context={context} block={block} batch={batch} {kind}: vLLM {theirs}, ojai {ours}")
        told = (batch, kind, real.VERSION) == (8192, "auto", vllm_cli.VERSION)
        published = PUBLISHED.get((name, context, block)) if told else None
        if published is not None and theirs.get("bytes") != published:
            different.append(f"{name} context={context} block={block}: vLLM {theirs}, published {published}")
    return cases, refused, different


def default_differences() -> tuple[int, list[str]]:
    """vLLM's defaults for a server on GPUs of many sizes, against ours.

    Of text alone: with images newer releases may raise the batch, by what the model's processor says (`raises_batch`).
    """
    different = []
    checks = 0
    real_platform = arg_utils.current_platform
    for gib in (0.5, 8, 16, 32, 48, 64, 69.9, 70, 96, 120):
        memory = int(gib * GIB)
        arg_utils.current_platform = SimpleNamespace(
            get_device_total_memory=lambda memory=memory: memory,
            get_device_name=lambda: "AMD_Radeon_890M",
            is_tpu=lambda: False,
            is_cpu=lambda: False,
            is_device_capability=lambda capability: False,
        )
        for context, seqs in itertools.product((1, 4, 4096, 131072), (None, 1, 4, 500)):
            checks += 1
            args = arg_utils.EngineArgs(max_num_seqs=seqs, enable_chunked_prefill=True)
            args._set_default_max_num_seqs_and_batched_tokens_args(
                UsageContext.OPENAI_API_SERVER,
                SimpleNamespace(max_model_len=context, is_multimodal_model=False),
                SimpleNamespace(use_batched_dp_moe=False),
            )
            ours = default_batch(memory, context, seqs)
            if args.max_num_batched_tokens != ours:
                different.append(
                    f"max_num_batched_tokens at {gib} GiB, context {context}, seqs {seqs}: "
                    f"vLLM {args.max_num_batched_tokens}, ojai {ours}"
                )
        args = arg_utils.EngineArgs(enable_chunked_prefill=True)
        args._set_default_max_num_seqs_and_batched_tokens_args(
            UsageContext.OPENAI_API_SERVER,
            SimpleNamespace(max_model_len=131072, is_multimodal_model=False),
            SimpleNamespace(use_batched_dp_moe=False),
        )
        checks += 1
        if args.max_num_seqs != default_max_num_seqs(memory):
            different.append(f"max_num_seqs at {gib} GiB: vLLM {args.max_num_seqs}")
    arg_utils.current_platform = real_platform
    cache = CacheConfig()
    checks += 2
    if cache.block_size != 16:
        different.append(f"block_size: vLLM {cache.block_size}, ojai 16")
    if cache.gpu_memory_utilization != DEFAULT_UTILIZATION:
        different.append(f"gpu_memory_utilization: vLLM {cache.gpu_memory_utilization}")
    return checks, different


def answers() -> str:
    """vLLM's own answers for the real models, as the unit tests read them."""
    found = []
    for (name, model), block, batch, kind in itertools.product(
        itertools.islice(MODELS.items(), 5), (16, 32), (2048, 8192), DTYPES
    ):
        for context in (8192, 32768, model.max_position_embeddings):
            asked = {"model": name, "context": context, "block": block, "batch": batch, "dtype": kind}
            found.append(asked | ask_vllm(model, context, block, batch, kind))
    document = {
        "vllm": vllm.__version__,
        "pools": POOLS,
        "models": {name: model._asdict() for name, model in itertools.islice(MODELS.items(), 5)},
    }
    lines = ",\n".join(f"    {json.dumps(answer)}" for answer in found)
    head = json.dumps(document, indent=2).removesuffix("\n}")
    return f'{head},\n  "answers": [\n{lines}\n  ]\n}}\n'


def main(arguments: list[str]) -> int:
    """Compare, print the outcome as JSON, and say by exit status whether all agree."""
    if arguments == ["--write"]:
        ANSWERS.write_text(answers(), encoding="utf-8")
        return 0
    cases, refused, different = planner_differences()
    checks, defaults = default_differences()
    print(
        json.dumps(
            {
                "vllm": vllm.__version__,
                "cases": cases,
                "refused_by_both": refused if not different else None,
                "differences": len(different),
                "default_checks": checks,
                "default_differences": len(defaults),
            },
            indent=2,
        )
    )
    if not ANSWERS.is_file() or ANSWERS.read_text(encoding="utf-8") != answers():
        different.append(f"{ANSWERS.name} is stale: run this with --write")
    for line in (different + defaults)[:20]:
        print(line, file=sys.stderr)
    return 1 if different or defaults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
