"""The named choices of a service as vLLM's arguments and variables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from ojai.profiles.features import Features, Speculative


def _json(value: dict[str, Any]) -> str:
    """JSON as the guides write it: one space after colon and comma."""
    return json.dumps(value)


FLAGS: dict[str, tuple[str, ...]] = {
    "dtype": ("--dtype",),
    "quantization": ("--quantization", "-q"),
    "max_model_len": ("--max-model-len",),
    "gpu_memory_utilization": ("--gpu-memory-utilization",),
    "prefix_caching": ("--enable-prefix-caching", "--no-enable-prefix-caching"),
    "tool_calling": ("--enable-auto-tool-choice", "--no-enable-auto-tool-choice", "--tool-call-parser"),
    "reasoning": ("--reasoning-parser",),
    "thinking": ("--default-chat-template-kwargs",),
    "chat_template": ("--chat-template",),
    "max_num_seqs": ("--max-num-seqs",),
    "max_num_batched_tokens": ("--max-num-batched-tokens",),
    "block_size": ("--block-size",),
    "kv_cache_dtype": ("--kv-cache-dtype",),
    "images": ("--limit-mm-per-prompt",),
    "vision_tokens": ("--mm-processor-kwargs",),
    "speculative": ("--speculative-config", "--spec-method", "--spec-model", "--spec-tokens"),
    "async_scheduling": ("--async-scheduling", "--no-async-scheduling"),
    "safetensors_load_strategy": ("--safetensors-load-strategy",),
}
"""The flags each named choice stands for: one of them in ``engine_args`` would state it twice."""


def arguments(features: Features, revisions: Mapping[str, str] = MappingProxyType({})) -> Iterator[str]:
    """The engine's arguments for ``features``, in the order of the guides' commands.

    ``revisions``: the commit of an assistant model, where it is known.
    ``speculative: true`` must have been resolved to a model before (see :func:`ojai.profiles.effective`).
    """
    if features.dtype:
        yield from ("--dtype", features.dtype)
    if features.quantization and features.quantization != "none":
        yield from ("--quantization", features.quantization)
    if features.max_model_len:
        yield from ("--max-model-len", str(features.max_model_len))
    if features.gpu_memory_utilization:
        yield from ("--gpu-memory-utilization", str(features.gpu_memory_utilization))
    if features.prefix_caching is not None:
        yield "--enable-prefix-caching" if features.prefix_caching else "--no-enable-prefix-caching"
    if features.tool_calling:
        yield from ("--enable-auto-tool-choice", "--tool-call-parser", "gemma4")
    if features.reasoning:
        yield from ("--reasoning-parser", "gemma4")
    if features.thinking is not None:
        yield from ("--default-chat-template-kwargs", _json({"enable_thinking": features.thinking}))
    if features.chat_template:
        yield from ("--chat-template", features.chat_template)
    if features.max_num_seqs:
        yield from ("--max-num-seqs", str(features.max_num_seqs))
    if features.max_num_batched_tokens:
        yield from ("--max-num-batched-tokens", str(features.max_num_batched_tokens))
    if features.block_size:
        yield from ("--block-size", str(features.block_size))
    if features.kv_cache_dtype:
        yield from ("--kv-cache-dtype", features.kv_cache_dtype)
    limits = (
        {"image": 0, "audio": 0, "video": 0}
        if features.text_only
        else {
            kind: count
            for kind, count in (
                ("image", features.images),
                ("audio", features.audios),
                ("video", features.videos),
            )
            if count is not None
        }
    )
    if limits:
        yield from ("--limit-mm-per-prompt", _json(limits))
    if features.vision_tokens:
        yield from ("--mm-processor-kwargs", _json({"max_soft_tokens": features.vision_tokens}))
    if isinstance(features.speculative, Speculative):
        draft = features.speculative
        commit = {"revision": revisions[draft.model]} if draft.model in revisions else {}
        yield from (
            "--speculative-config",
            _json({"model": draft.model, **commit, "num_speculative_tokens": draft.tokens}),
        )
    if features.async_scheduling is not None:
        yield "--async-scheduling" if features.async_scheduling else "--no-async-scheduling"
    if features.safetensors_load_strategy:
        yield f"--safetensors-load-strategy={features.safetensors_load_strategy}"
    yield from features.engine_args or ()


#: PyTorch's variable with the name of TunableOp's results file.
FILENAME = "PYTORCH_TUNABLEOP_FILENAME"


def tunableop_environment(mode: str | None, filename: str) -> dict[str, str]:
    """The environment that puts PyTorch's TunableOp in ``mode``; empty for ``off`` and None."""
    if mode in (None, "off"):
        return {}
    return {
        "PYTORCH_TUNABLEOP_ENABLED": "1",
        "PYTORCH_TUNABLEOP_TUNING": "1" if mode == "tune" else "0",
        "PYTORCH_TUNABLEOP_VERBOSE": "0",
        FILENAME: filename,
    }
