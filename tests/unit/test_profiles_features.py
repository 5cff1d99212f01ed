"""The named choices: what each becomes, and which contradict."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from resolving import resolve

from ojai.engines.vllm import cli as vllm_cli
from ojai.profiles import CODES, Features, ProfileError, Speculative, effective, load

E4B = load("gemma-4-e4b")


def argv(**choices):
    return list(resolve(E4B, features=Features(**choices)).command.engine_argv)


def value(tokens, flag):
    return tokens[tokens.index(flag) + 1]


@pytest.mark.parametrize(
    ("choice", "tokens"),
    [
        ({"max_model_len": 32768}, ["--max-model-len", "32768"]),
        ({"max_num_seqs": 8}, ["--max-num-seqs", "8"]),
        ({"max_num_batched_tokens": 2048}, ["--max-num-batched-tokens", "2048"]),
        ({"gpu_memory_utilization": 0.5}, ["--gpu-memory-utilization", "0.5"]),
        ({"dtype": "bfloat16"}, ["--dtype", "bfloat16"]),
        ({"block_size": 32}, ["--block-size", "32"]),
        ({"kv_cache_dtype": "auto"}, ["--kv-cache-dtype", "auto"]),
        ({"quantization": "awq"}, ["--quantization", "awq"]),
        ({"prefix_caching": False}, ["--no-enable-prefix-caching"]),
        ({"async_scheduling": True}, ["--async-scheduling"]),
        ({"async_scheduling": False}, ["--no-async-scheduling"]),
        ({"reasoning": True}, ["--reasoning-parser", "gemma4"]),
        (
            {"reasoning": True, "thinking": True},
            ["--default-chat-template-kwargs", '{"enable_thinking": true}'],
        ),
        ({"tool_calling": True}, ["--enable-auto-tool-choice", "--tool-call-parser", "gemma4"]),
        ({"chat_template": "examples/t.jinja"}, ["--chat-template", "examples/t.jinja"]),
        ({"images": 4, "audios": 1}, ["--limit-mm-per-prompt", '{"image": 4, "audio": 1}']),
        ({"videos": 0}, ["--limit-mm-per-prompt", '{"video": 0}']),
        ({"text_only": True}, ["--limit-mm-per-prompt", '{"image": 0, "audio": 0, "video": 0}']),
        ({"vision_tokens": 560}, ["--mm-processor-kwargs", '{"max_soft_tokens": 560}']),
        ({"safetensors_load_strategy": "lazy"}, ["--safetensors-load-strategy=lazy"]),
        ({"engine_args": ["--seed", 1]}, ["--seed", "1"]),
    ],
)
def test_a_choice_becomes_its_arguments(choice, tokens):
    found = argv(**choice)
    places = [place for place in range(len(found)) if found[place : place + len(tokens)] == tokens]
    assert len(places) == 1, found


def test_a_choice_replaces_the_profiles():
    assert argv(max_model_len=8192).count("--max-model-len") == 1
    assert value(argv(max_model_len=8192), "--max-model-len") == "8192"
    assert "--tool-call-parser" not in argv(tool_calling=False)
    assert "--enable-auto-tool-choice" not in argv(tool_calling=False)


def test_nothing_said_is_as_the_profile_says():
    assert effective(E4B, Features()) == E4B.features == effective(E4B)


def test_host_and_port_come_last():
    command = resolve(E4B, port=9001, host="127.0.0.1", features=Features(engine_args=["--seed", "1"])).command
    assert command.engine_argv[-6:] == ("--seed", "1", "--host", "127.0.0.1", "--port", "9001")


def test_quantization_none_takes_the_profiles_away():
    awq = load("gemma-4-e4b-awq")
    assert "--quantization" in resolve(awq, model="someone/awq").command.engine_argv
    assert (
        "--quantization"
        not in resolve(awq, model="someone/ct", features=Features(quantization="none")).command.engine_argv
    )


def test_speculative_takes_the_profiles_assistant():
    tokens = resolve(
        E4B, image="vllm/vllm-openai-rocm:v0.24.0", features=Features(speculative=True)
    ).command.engine_argv
    assert json.loads(value(list(tokens), "--speculative-config")) == {
        "model": "google/gemma-4-E4B-it-assistant",
        "num_speculative_tokens": 4,
    }


def test_speculative_count_can_be_said():
    choice = Features(speculative=Speculative(model="google/gemma-4-E4B-it-assistant", tokens=2))
    tokens = resolve(E4B, image="vllm/vllm-openai-rocm:v0.24.0", features=choice).command.engine_argv
    assert json.loads(value(list(tokens), "--speculative-config"))["num_speculative_tokens"] == 2


def test_speculative_without_an_assistant_is_told_so():
    with pytest.raises(ProfileError, match=r"diffusiongemma-26b-a4b: speculative: found true, but no assistant"):
        effective(load("diffusiongemma-26b-a4b"), Features(speculative=True))


def test_thinking_without_its_parser_is_told_so():
    with pytest.raises(ProfileError, match="expected reasoning: true beside it"):
        effective(E4B, Features(thinking=True))


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("tune", {"ENABLED": "1", "TUNING": "1", "VERBOSE": "0"}),
        ("use", {"ENABLED": "1", "TUNING": "0", "VERBOSE": "0"}),
        ("off", {}),
    ],
)
def test_tunableop(mode, expected):
    command = resolve(E4B, features=Features(tunableop=mode)).command
    prefix = "PYTORCH_TUNABLEOP_"
    found = {name.removeprefix(prefix): text for name, text in command.environment.items() if name.startswith(prefix)}
    filename = found.pop("FILENAME", None)
    assert found == expected
    assert filename == ("/root/.cache/tunableop/gemma4_gfx1150.csv" if expected else None)
    assert ("/root/.cache/tunableop" in command.mounts.values()) == bool(expected)


def test_environment_and_arguments_add_to_the_profiles():
    diffusion = load("diffusiongemma-26b-a4b")
    command = resolve(diffusion, features=Features(engine_args=["--seed", "1"], environment={"A": 1})).command
    assert "--generation-config" in command.engine_argv
    assert "--seed" in command.engine_argv
    assert command.environment["A"] == "1"
    assert command.environment["NCCL_P2P_DISABLE"] == "1"


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"text_only": True, "images": 2}, "text_only: true contradicts images: 2"),
        ({"text_only": True, "vision_tokens": 280}, "text_only: true contradicts vision_tokens: 280"),
        ({"images": 0, "videos": 0, "vision_tokens": 280}, "vision_tokens: 280 has no use"),
        ({"vision_tokens": 300}, "70, 140, 280, 560 or 1120"),
        ({"thinking": True, "reasoning": False}, "thinking: true needs reasoning: true"),
        ({"max_num_batched_tokens": 2, "max_num_seqs": 4}, "less than max_num_seqs"),
        ({"gpu_memory_utilization": 1.5}, "less than or equal to 1"),
        ({"gpu_memory_utilization": 0}, "greater than 0"),
        ({"block_size": 24}, "multiple of 16"),
        ({"max_model_len": 0}, "greater than or equal to 1"),
        ({"dtype": "fp16"}, "'float16'"),
        ({"tunableop": "on"}, "'off', 'tune' or 'use'"),
        ({"environment": {"A": True}}, "in quotes"),
        ({"environment": {"A-B": "1"}}, "pattern"),
        ({"environment": {"A": "1\n2"}}, "pattern"),
        ({"engine_args": ["--a\nb"]}, "pattern"),
        ({"engine_args": "--seed 1"}, "valid tuple"),
        ({"speculative": {"model": "x", "tokens": 0}}, "greater than or equal to 1"),
        ({"max_num_seq": 4}, "Extra inputs"),
    ],
)
def test_what_cannot_be_meant_is_refused(choices, message):
    with pytest.raises(ValueError, match=message):
        Features.model_validate(choices)


def test_a_service_ends_the_profiles_contrary_choice():
    pictures = Features(images=4, vision_tokens=280)
    assert Features(text_only=True).over(pictures) == Features(text_only=True)
    assert Features(images=2).over(Features(text_only=True)) == Features(images=2)
    assert Features(reasoning=False).over(Features(reasoning=True, thinking=True)) == Features(reasoning=False)


def test_over_is_refused_when_the_sum_contradicts():
    with pytest.raises(ValueError, match="less than max_num_seqs"):
        Features(max_num_batched_tokens=2).over(Features(max_num_seqs=4))


CHOICES = st.fixed_dictionaries(
    {},
    optional={
        "max_model_len": st.integers(1, 131072),
        "max_num_seqs": st.integers(1, 64),
        "max_num_batched_tokens": st.integers(64, 16384),
        "gpu_memory_utilization": st.floats(0.1, 1.0),
        "dtype": st.sampled_from(["auto", "half", "float16", "bfloat16", "float", "float32"]),
        "block_size": st.sampled_from([16, 32, 64, 128]),
        "prefix_caching": st.booleans(),
        "async_scheduling": st.booleans(),
        "reasoning": st.just(True),
        "tool_calling": st.booleans(),
        "images": st.integers(0, 8),
        "audios": st.integers(0, 2),
        "videos": st.integers(1, 2),
        "vision_tokens": st.sampled_from([70, 140, 280, 560, 1120]),
        "tunableop": st.sampled_from(["off", "tune", "use"]),
        "safetensors_load_strategy": st.sampled_from(["lazy", "eager", "prefetch"]),
        "speculative": st.booleans(),
    },
)


@settings(max_examples=60, deadline=None)
@given(CHOICES)
def test_any_choices_make_arguments_that_vllm_takes(choices):
    tokens = resolve(E4B, image="vllm/vllm-openai-rocm:v0.24.0", features=Features(**choices)).command.engine_argv
    assert vllm_cli.check(tokens) == []
    for flag in ("--limit-mm-per-prompt", "--mm-processor-kwargs", "--speculative-config"):
        if flag in tokens:
            assert isinstance(json.loads(value(list(tokens), flag)), dict)


def test_every_field_is_described_with_an_example_that_holds():
    for name, field in Features.model_fields.items():
        assert field.description and field.description.endswith("."), name
        assert field.examples, name
        for example in field.examples:
            Features.model_validate({name: example})
    assert set(Features.model_fields["allow"].examples[0]) <= set(CODES)
