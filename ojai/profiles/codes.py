"""The codes of all refusals: what may be under ``allow``."""

from __future__ import annotations

CODES: dict[str, str] = {
    "aiter": "AITER variables on a GPU that AITER has no kernels for",
    "expandable-segments": "the CUDA-only allocator option",
    "hsa-override": "HSA_OVERRIDE_GFX_VERSION for another GPU than the host's",
    "dev-mode": "vLLM's development endpoints",
    "secret-in-argv": "a token or key where every user of the host can read it",
    "fp8-kv": "an fp8 KV cache on a GPU without fp8",
    "fp8-weights": "fp8 weights on a GPU without fp8",
    "w4a16-moe": "4-bit weights for the mixture-of-experts model",
    "assistant-mismatch": "a draft model that was made for another model",
    "diffusion-max-seqs": "more than four sequences with DiffusionGemma",
    "context-beyond-model": "a context longer than the model's",
    "modality": "a kind of input that the model does not take",
    "model-not-given": "a profile without a checkpoint of its own, and no model named",
    "no-kernel": "a checkpoint that vLLM has no code for on ROCm",
    "quantization-not-on-rocm": "a quantisation that vLLM takes on other GPUs only",
    "engine-too-old": "an image whose vLLM does not know the model",
    "speculative-too-early": "speculative decoding with an image whose vLLM cannot do it for Gemma 4",
    "named-choice": "a raw argument for what has a named choice",
    "unknown-flag": "an argument that the pinned vLLM does not take",
}
"""Every refusal's code and what it is about."""
