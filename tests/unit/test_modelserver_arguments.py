"""The stand-in's command line, against what vLLM 0.20.1's own parser answered to the same words."""

import re
import shlex

import pytest

from ojai.lab.modelserver import arguments

CONTRACT = arguments.load_contract()

E4B = """serve google/gemma-4-E4B-it --dtype float16 --max-model-len 131072 --gpu-memory-utilization 0.85
 --enable-prefix-caching --enable-auto-tool-choice --tool-call-parser gemma4
 --safetensors-load-strategy=prefetch --host 0.0.0.0 --port 8000"""
MOE = """serve google/gemma-4-26B-A4B-it --dtype bfloat16 --max-model-len 32768 --gpu-memory-utilization 0.92
 --enable-prefix-caching --enable-auto-tool-choice --tool-call-parser gemma4 --max-num-seqs 4 --block-size 32
 --host 0.0.0.0 --port 8000"""


def parse(*words):
    return arguments.command(words, CONTRACT)


def refused(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        parse(*words)
    return stop.value.code, capsys.readouterr().err


def test_the_guides_commands():
    e4b = parse(*shlex.split(E4B))
    assert (e4b.model_tag, e4b.dtype, e4b.max_model_len) == ("google/gemma-4-E4B-it", "float16", 131072)
    assert (e4b.gpu_memory_utilization, e4b.port) == (0.85, 8000)
    assert (e4b.enable_prefix_caching, e4b.safetensors_load_strategy) == (True, "prefetch")
    moe = parse(*shlex.split(MOE))
    assert (moe.max_num_seqs, moe.block_size, moe.shutdown_timeout) == (4, 32, 0)
    assert "gpu_memory_utilization" not in moe.given, "0.92 is vLLM 0.20.1's default"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--disable-log-requests"], "vllm: error: unrecognized arguments: --disable-log-requests"),
        (["--swap-space", "4"], "vllm: error: unrecognized arguments: --swap-space 4"),
        (["extra"], "vllm: error: unrecognized arguments: extra"),
        (["--speculative-model", "x"], "vllm: error: unrecognized arguments: --speculative-model x"),
        (["--limit-mm-per-prompt", "image=4,audio=1"], "argument --limit-mm-per-prompt: Value image=4,audio=1 cannot"),
        (["--dtype", "float17"], "argument --dtype: invalid choice: 'float17' (choose from 'auto', 'bfloat16'"),
        (["--port", "abc"], "argument --port: invalid int value: 'abc'"),
        (["--port"], "argument --port: expected one argument"),
        (["--gpu-memory-utilization", "x"], "argument --gpu-memory-utilization: invalid float value: 'x'"),
        (["--max-model-len", "1.5K"], "Decimals are not allowed with binary suffixes like K"),
        (["--max-model-len", "x"], "invalid human_readable_int_or_auto value: 'x'"),
        (["--enable-prefix-caching=true"], "ignored explicit argument 'true'"),
        (["--compilation-config", '{"nope": 1}'], "1 validation error for CompilationConfig\nnope"),
        (["--compilation-config.nope", "1"], "1 validation error for CompilationConfig\nnope"),
        (["--compilation-config.nope"], "expected one argument"),
        (["--kernel-config", "{bad"], "Invalid JSON"),
        (["--max", "5"], "ambiguous option: --max could match"),
        (["--lora-modules", "x"], "Invalid JSON format for --lora-modules: x"),
        (["-O", "9"], "unrecognized arguments: -O 9"),
    ],
)
def test_the_parser_stops_with_status_2(capsys, words, said):
    status, error = refused(capsys, "serve", "m", *words)
    assert status == 2
    assert said in error
    assert error.startswith("usage: vllm")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--enable-auto-tool-choice", "--tool-call-parser", "gemma"], "KeyError: 'invalid tool call parser: gemma"),
        (["--reasoning-parser", "gemma"], "KeyError: 'invalid reasoning parser: gemma (chose from { "),
        (["--enable-auto-tool-choice"], "TypeError: Error: --enable-auto-tool-choice requires --tool-call-parser"),
        (["--max-num-seqs", "0"], "Input should be greater than or equal to 1"),
        (["--gpu-memory-utilization", "1.5"], "Input should be less than or equal to 1"),
        (["--quantization", "nosuch"], "Unknown quantization method: nosuch"),
        (["--quantization", "int8_per_channel_weight_only"], "quantization is currently not supported in rocm."),
        (["--quantization", "fbgemm_fp8"], "The quantization method fbgemm_fp8 is deprecated"),
        (["--config", "x.yaml"], "--config is a flag of vLLM 0.20.1, but the ojai lab's stand-in"),
        (["--uds", "/run/x"], "--uds is a flag"),
    ],
)
def test_the_configuration_stops_with_status_1(capsys, words, said):
    status, error = refused(capsys, "serve", "m", *words)
    assert status == 1
    assert said in error
    assert "Traceback" not in error


def test_the_unknown_parser_lists_the_known_ones(capsys):
    _, error = refused(capsys, "serve", "m", "--enable-auto-tool-choice", "--tool-call-parser", "gemma")
    listed = re.search(r"\(chose from { (.*) }\)", error)
    assert listed
    assert "gemma4" in listed[1].split(",")


def test_the_tool_parser_is_not_looked_at_without_automatic_choice():
    assert parse("serve", "m", "--tool-call-parser", "gemma").tool_call_parser == "gemma"


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--max_model_len", "8k"], "max_model_len", 8000),
        (["--max-model-len=8K"], "max_model_len", 8192),
        (["--max-model-len", "auto"], "max_model_len", -1),
        (["--max-model-len", "-1"], "max_model_len", -1),
        (["--no-enable-prefix-caching"], "enable_prefix_caching", False),
        (["--no-enable-log-requests"], "enable_log_requests", False),
        (["--limit-mm-per-prompt", '{"image": 4}'], "limit_mm_per_prompt", {"image": 4}),
        (["--limit_mm_per_prompt.image", "4"], "limit_mm_per_prompt", {"image": 4}),
        (["--hf-overrides.a.b_c=1", "--hf-overrides.a.d+", "x,y"], "hf_overrides", {"a": {"b_c": 1, "d": ["x", "y"]}}),
        (["--hf-overrides", "{bad"], "hf_overrides", "{bad"),
        (["--served-model-name", "a", "b"], "served_model_name", ["a", "b"]),
        (["-O3"], "optimization_level", "3"),
        (["--host", "None"], "host", None),
        (["--gpu-memory-utilization", "0.5"], "gpu_memory_utilization", 0.5),
        (["--default-chat-template-kwargs", '{"enable_thinking": true}'], "default_chat_template_kwargs",
         {"enable_thinking": True}),
    ],
)  # fmt: skip
def test_forms_that_are_taken(words, name, value):
    assert getattr(parse("serve", "m", *words), name) == value


def test_model_given_as_an_option_moves_to_the_front(capsys):
    parsed = parse("serve", "--port", "9000", "--model", "google/x", "--served-model-name", "a")
    assert (parsed.model_tag, parsed.port) == ("google/x", 9000)
    assert "`--model` option will be removed" in capsys.readouterr().out


def test_the_program_itself(capsys):
    assert refused(capsys, "nosuch")[0] == 2
    status, error = refused(capsys, "bench", "throughput")
    assert (status, "only `serve`" in error) == (1, True)
    with pytest.raises(SystemExit) as stop:
        parse("--version")
    assert stop.value.code == 0
    assert capsys.readouterr().out == "0.20.1\n"
    assert refused(capsys, "serve", "--served-model-name", "x")[0] == 1


def test_every_flag_of_the_contract_is_in_the_parser():
    known = arguments.build(CONTRACT)._option_string_actions
    expected = {flag for argument in CONTRACT["arguments"] for flag in argument["flags"]}
    assert len(expected) > 200
    assert expected <= known.keys()


def test_keys_from_the_line_and_from_the_environment(monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "from-environment")
    assert arguments.api_keys(parse("serve", "m")) == ["from-environment"]
    assert arguments.api_keys(parse("serve", "m", "--api-key", "a", "b")) == ["a", "b"]
    monkeypatch.delenv("VLLM_API_KEY")
    assert arguments.api_keys(parse("serve", "m")) == []
