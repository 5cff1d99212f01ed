"""What cannot work: found however it is said, with reason and source, and overridden by its code alone."""

import pytest
from resolving import resolve

from ojai.profiles import CODES, Features, load
from ojai.settings import SettingsError, parse

IMAGE = "vllm/vllm-openai-rocm:v0.33.0"


def image(release: str) -> dict[str, str]:
    return {"image": f"vllm/vllm-openai-rocm:{release}"}


GGUF = {"engine": "llamacpp"}
KNOWN = {"image": "ggml-org/llama.cpp:server-vulkan-b11669"}
MOE_DRAFT = {"speculative": True, "tool_calling": False}

CASES = [
    ("aiter", "gemma-4-e4b", {"environment": {"VLLM_ROCM_USE_AITER": "1"}}, {}),
    ("aiter", "gemma-4-26b-a4b", {"environment": {"VLLM_ROCM_USE_AITER_MOE": "1"}}, {}),
    ("expandable-segments", "gemma-4-e4b", {"environment": {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}}, {}),
    (
        "expandable-segments",
        "gemma-4-e4b",
        {"environment": {"PYTORCH_HIP_ALLOC_CONF": "garbage_collection_threshold:0.8, expandable_segments: True"}},
        {},
    ),
    ("hsa-override", "gemma-4-e4b", {"environment": {"HSA_OVERRIDE_GFX_VERSION": "11.0.0"}}, {}),
    ("dev-mode", "gemma-4-e4b", {"environment": {"VLLM_SERVER_DEV_MODE": "1"}}, {}),
    ("secret-in-argv", "gemma-4-e4b", {"environment": {"HF_TOKEN": "hf_x"}}, {}),
    ("secret-in-argv", "gemma-4-e4b", {"engine_args": ["--api-key", "k"]}, {}),
    ("secret-in-argv", "gemma-4-e4b", {"engine_args": ["--api_key=k"]}, {}),
    ("fp8-kv", "gemma-4-e4b", {"kv_cache_dtype": "fp8"}, {}),
    ("fp8-kv", "gemma-4-e4b", {"kv_cache_dtype": "fp8_e5m2"}, {}),
    ("fp8-weights", "gemma-4-e4b", {"quantization": "fp8"}, {}),
    ("quantization-not-on-rocm", "gemma-4-26b-a4b", {"quantization": "int8_per_channel_weight_only"}, {}),
    ("no-kernel", "gemma-4-e4b-qat-mobile", {}, {}),
    ("w4a16-moe", "gemma-4-26b-a4b", {"quantization": "awq"}, {}),
    ("w4a16-moe", "gemma-4-26b-a4b", {}, {"model": "someone/gemma-4-26B-A4B-it-W4A16"}),
    (
        "assistant-mismatch",
        "gemma-4-e4b",
        {"speculative": {"model": "google/gemma-4-E2B-it-assistant", "tokens": 2}},
        {"image": IMAGE},
    ),
    (
        "assistant-mismatch",
        "diffusiongemma-26b-a4b",
        {"speculative": {"model": "google/gemma-4-E2B-it-assistant", "tokens": 2}},
        {},
    ),
    ("speculative-too-early", "gemma-4-e4b", {"speculative": True}, {}),
    ("speculative-tools", "gemma-4-e4b", {"speculative": True}, image("v0.24.0")),
    ("speculative-moe", "gemma-4-26b-a4b", {"speculative": True}, image("v0.25.1")),
    ("speculative-moe", "gemma-4-26b-a4b", MOE_DRAFT, image("v0.28.0")),
    ("transformers-too-new", "gemma-4-12b", {}, image("v0.27.1")),
    ("int8-kv-recall", "gemma-4-e4b", {"kv_cache_dtype": "int8_per_token_head"}, image("v0.24.0")),
    ("fp8-kv", "gemma-4-e4b", {"kv_cache_dtype": "fp8"}, image("v0.32.0")),
    ("unknown-flag", "gemma-4-e4b", {"engine_args": ["--calculate-kv-scales"]}, image("v0.33.0")),
    ("cuda-image", "gemma-4-e4b", {}, {"image": "vllm/vllm-openai:v0.20.1"}),
    ("abbreviated-flag", "gemma-4-e4b", {"engine_args": ["--max-model-le", "4096"]}, {}),
    ("unknown-flag", "gemma-4-e4b", {"engine_args": ["--max-num-partial-prefills", "2"]}, image("v0.33.0")),
    ("quantization-not-on-rocm", "gemma-4-e4b", {"quantization": "moe_wna16"}, image("v0.33.0")),
    ("diffusion-max-seqs", "diffusiongemma-26b-a4b", {"max_num_seqs": 5}, {}),
    ("context-beyond-model", "gemma-4-e4b", {"max_model_len": 131073}, {}),
    ("context-beyond-model", "gemma-4-26b-a4b", {"max_model_len": 300000}, {}),
    ("modality", "gemma-4-26b-a4b", {"audios": 1}, {}),
    ("model-not-given", "gemma-4-e4b-awq", {}, {}),
    ("engine-too-old", "gemma-4-12b", {}, {"image": "vllm/vllm-openai-rocm:v0.20.1"}),
    ("engine-too-old", "diffusiongemma-26b-a4b", {}, {"image": "vllm/vllm-openai-rocm:v0.23.0"}),
    ("unknown-flag", "gemma-4-e4b", {"engine_args": ["--disable-log-requests"]}, {}),
    ("unknown-flag", "gemma-4-e4b", {"engine_args": ["--swap-space", "4"]}, {}),
    ("unknown-flag", "gemma-4-e4b", {"quantization": "int7"}, {}),
    ("engine-lacks", "gemma-4-e4b", {"speculative": {"model": "x/y", "tokens": 2}}, GGUF),
    ("engine-lacks", "gemma-4-e4b", {"tool_calling": False}, GGUF),
    ("engine-lacks", "gemma-4-e4b", {"images": 2}, GGUF),
    ("engine-lacks", "gemma-4-e4b", {}, GGUF | {"media_domains": ["images.example.net"]}),
    ("file-not-known", "gemma-4-e4b", {}, GGUF | {"model": "someone/gemma-4-E4B-it-GGUF"}),
    ("rocm-wrong-text", "gemma-4-e4b", {}, GGUF | {"image": "ghcr.io/ggml-org/llama.cpp:server-rocm-b11382"}),
    ("rocm-wrong-text", "gemma-4-e4b", {}, GGUF | {"image": "kyuz0/amd-strix-halo-toolboxes:rocm-7.2"}),
    ("no-vulkan", "gemma-4-e4b", {}, GGUF | {"image": "ghcr.io/ggml-org/llama.cpp:server-cuda-b11382"}),
    ("no-vulkan", "gemma-4-e4b", {}, GGUF | {"image": "ghcr.io/ggml-org/llama.cpp:server-b11382"}),
    ("open-server", "gemma-4-e4b", {"environment": {"LLAMA_API_KEY": "/run/key"}}, GGUF),
    ("hsa-override", "gemma-4-e4b", {"environment": {"HSA_OVERRIDE_GFX_VERSION": "11.5.0"}}, GGUF),
    ("secret-in-argv", "gemma-4-e4b", {"engine_args": ["--api-key", "k"]}, GGUF),
    ("context-beyond-model", "gemma-4-e4b", {"max_model_len": 131073}, GGUF),
    ("unknown-flag", "gemma-4-e4b", {"engine_args": ["--swap-space", "4"]}, GGUF | KNOWN),
    ("named-choice", "gemma-4-e4b", {"engine_args": ["-c", "4096"]}, GGUF),
    ("named-choice", "gemma-4-e4b", {"engine_args": ["-dev", "none"]}, GGUF),
    ("named-choice", "gemma-4-e4b", {"environment": {"LLAMA_ARG_CTX_SIZE": "9"}}, GGUF),
]


def codes(name, choices, given, **more):
    profile = load(name, engine=given.get("engine"))
    return [found.code for found in resolve(profile, features=Features(**choices), **given, **more).standing]


@pytest.mark.parametrize(("code", "name", "choices", "given"), CASES)
def test_it_is_refused_and_can_be_allowed_by_its_code(code, name, choices, given):
    found = codes(name, choices, given)
    assert code in found
    assert code not in codes(name, {**choices, "allow": (code,)}, given)
    assert codes(name, {**choices, "allow": tuple(CODES)}, given) == []
    with pytest.raises(SettingsError, match=rf"services\[0\] \(vllm-gemma4\): {code}: "):
        parse("mini", {"services": [{"profile": name, **choices, **given}]})
    profile = load(name, engine=given.get("engine"))
    for refusal in resolve(profile, features=Features(**choices), **given).standing:
        assert len(refusal.reason) > 20
        assert refusal.source


def test_every_code_has_a_case():
    assert {case[0] for case in CASES} | {"named-choice"} == set(CODES)


@pytest.mark.parametrize(
    ("arguments", "choice"),
    [
        (["--max-model-len", "4096"], "max_model_len"),
        (["--max_model_len=4096"], "max_model_len"),
        (["--port", "9000"], "port"),
        (["--model", "other/model"], "model"),
        (["--kv-cache-dtype", "fp8"], "kv_cache_dtype"),
        (["--no-async-scheduling"], "async_scheduling"),
    ],
)
def test_a_raw_argument_for_a_named_choice_is_refused(arguments, choice):
    found = [
        refusal
        for refusal in resolve(load("gemma-4-e4b"), features=Features(engine_args=arguments)).standing
        if refusal.code == "named-choice"
    ]
    assert len(found) == 1
    assert f"setting of its own, {choice};" in found[0].reason


def test_allowing_the_raw_argument_does_not_hide_what_it_says():
    choices = {"engine_args": ["--kv-cache-dtype", "fp8"], "allow": ("named-choice",)}
    assert codes("gemma-4-e4b", choices, {}) == ["fp8-kv"]
    choices = {"engine_args": ["--max-model-len", "1m"], "allow": ("named-choice",)}
    assert codes("gemma-4-e4b", choices, {}) == ["context-beyond-model"]


def test_the_named_model_settles_what_it_should():
    assert codes("gemma-4-e4b-awq", {}, {"model": "/app/models/gemma-4-E4B-it-AWQ"}) == []
    assert codes("gemma-4-e4b-qat-mobile", {}, {"model": "someone/other"}) == []


def test_what_is_well_is_not_refused():
    assert codes("gemma-4-e4b", {"environment": {"PYTORCH_ALLOC_CONF": "expandable_segments:False"}}, {}) == []
    assert codes("gemma-4-e4b", {"environment": {"HSA_OVERRIDE_GFX_VERSION": "11.5.0"}}, {}) == []
    assert codes("gemma-4-e4b", {"environment": {"VLLM_SERVER_DEV_MODE": "0"}}, {}) == []
    assert codes("gemma-4-e4b", {"kv_cache_dtype": "bfloat16"}, {}) == []
    assert codes("gemma-4-e4b", {"speculative": True}, {"image": IMAGE}) == []
    assert codes("gemma-4-e4b", {"speculative": True}, {"image": "vllm/vllm-openai-rocm:nightly"}) == []
    assert codes("gemma-4-e4b", {"max_model_len": 131072}, {}) == []
    assert codes("gemma-4-26b-a4b", {"max_model_len": 262144}, {}) == []
    assert codes("diffusiongemma-26b-a4b", {"max_num_seqs": 4}, {}) == []
    assert codes("gemma-4-12b", {}, {"image": "vllm/vllm-openai-rocm:v0.28.0"}) == []


def test_the_override_is_the_accelerators():
    choices = {"environment": {"HSA_OVERRIDE_GFX_VERSION": "11.5.0"}}
    assert codes("gemma-4-e4b", choices, {}, accelerator="gfx1151") == ["hsa-override"]


def test_all_that_stands_is_told_at_once():
    choices = {"kv_cache_dtype": "fp8", "max_model_len": 200000, "environment": {"VLLM_ROCM_USE_AITER": "1"}}
    assert codes("gemma-4-e4b", choices, {}) == ["aiter", "fp8-kv", "context-beyond-model"]
    with pytest.raises(SettingsError) as error:
        parse("mini", {"services": [choices]})
    assert len(str(error.value).splitlines()) == 3


def test_llama_cpp_as_its_profiles_have_it_is_not_refused():
    for name in ("gemma-4-e2b", "gemma-4-e4b", "gemma-4-12b", "gemma-4-26b-a4b", "gemma-4-31b"):
        assert codes(name, {}, GGUF) == [] and codes(name, {"text_only": True}, GGUF | KNOWN) == []
    assert codes("gemma-4-e4b", {"kv_cache_dtype": "q8_0", "thinking": True, "reasoning": True}, GGUF | KNOWN) == []
    assert codes("gemma-4-e4b", {}, GGUF | {"model": "/mnt/usb/gemma"}) == []


def test_a_cache_that_nobody_can_count_is_refused_and_cannot_be_allowed():
    choices = {"kv_cache_dtype": "turbo3", "allow": tuple(CODES)}
    assert codes("gemma-4-e4b", choices, GGUF) == ["kv-cache-uncounted"]


def test_a_profile_that_an_engine_has_no_file_of_is_told():
    with pytest.raises(SettingsError, match=r"engine: found llamacpp, .* expected vllm.*gemma-4-e4b") as caught:
        parse("mini", {"services": [{"profile": "gemma-4-e4b-awq", "engine": "llamacpp"}]})
    assert "What to do" in str(caught.value)
