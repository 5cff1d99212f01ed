"""The codes of all refusals: what may be under ``allow``."""

from __future__ import annotations

from ojai import resources

CODES: dict[str, str] = {
    "aiter": "AITER variables on a GPU that AITER has no kernels for",
    "expandable-segments": "the CUDA-only allocator option",
    "hsa-override": "HSA_OVERRIDE_GFX_VERSION for another GPU than the host's",
    "dev-mode": "vLLM's development endpoints",
    "secret-in-argv": "a token or key where every user of the host can read it",
    "w4a16-moe": "4-bit weights for the mixture-of-experts model",
    "assistant-mismatch": "a draft model that was made for another model",
    "diffusion-max-seqs": "more than four sequences with DiffusionGemma",
    "context-beyond-model": "a context longer than the model's",
    "modality": "a kind of input that the model does not take",
    "model-not-given": "a profile without a checkpoint of its own, and no model named",
    "no-kernel": "a checkpoint that vLLM has no code for on ROCm",
    "quantization-not-on-rocm": "a quantisation that vLLM takes on other GPUs only",
    "engine-too-old": "an image whose vLLM does not know the model",
    "cuda-image": "the image for NVIDIA's GPUs",
    "named-choice": "a raw argument for what has a named choice",
    "abbreviated-flag": "a raw argument that is not written out",
    "unknown-flag": "an argument that the image's engine does not take",
    "engine-lacks": "a choice that the engine has no counterpart for",
    "file-not-known": "a model whose file for llama.cpp is not known",
    "rocm-wrong-text": "llama.cpp by ROCm, which gives wrong text for Gemma 4",
    "no-vulkan": "an image of llama.cpp without Vulkan",
    "open-server": "a variable that may start a server without a key",
    **{
        window["code"]: window["about"]
        for window in resources.data("vllm-releases")["windows"]
        if window.get("effect") != "say"
    },
}
"""Every refusal's code and what it is about."""
