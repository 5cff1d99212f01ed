"""ojai.engines.vllm.cli: no vLLM here; `make contract` compares it with vLLM itself, on the same cases."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ojai.engines.vllm import cli as vllm_cli
from ojai.engines.vllm import releases
from ojai.engines.vllm.argv import fold_dashes, human_int, human_int_or_auto, json_config, plain_tokens
from ojai.engines.vllm.cli import check, load, rocm_errors

CASES = Path(__file__).parents[1] / "contract"


def cases(kind: str) -> list[object]:
    listed = yaml.safe_load((CASES / f"{kind}.yaml").read_text())
    return [
        pytest.param(shlex.split(case["argv"]), release, id=f"{case['name']}-{release}")
        for case in listed
        for release in vllm_cli.RELEASES
        if releases.within(release, case.get("since"), case.get("before"))
    ]


@pytest.mark.parametrize(("argv", "release"), cases("good"))
def test_takes_what_vllm_takes(argv: list[str], release: str) -> None:
    assert check(argv, load(release)) == []


@pytest.mark.parametrize(("argv", "release"), [*cases("bad"), *cases("stricter")])
def test_refuses_what_vllm_refuses_and_a_little_more(argv: list[str], release: str) -> None:
    assert check(argv, load(release))


@pytest.mark.parametrize(
    ("argv", "fault"),
    [
        ("", "model: missing; it must be the first argument, without a flag"),
        ("--port 8000", "model: missing; it must be the first argument, without a flag"),
        ("m --port", "--port: expected one argument"),
        ("m --port http", "--port: 'http' is not a whole number"),
        ("m --max-model-len long", "--max-model-len: 'long' is not a number such as 32768 or 32k, nor auto"),
        ("m --gpu-memory-utilization 1.5", "--gpu-memory-utilization: 1.5 is out of bounds: it must be <= 1"),
        ("m --gpu-memory-utilization nan", "--gpu-memory-utilization: nan is out of bounds: it must be > 0"),
        ("m --lora-dtype x", "--lora-dtype: 'x' is not one of auto, bfloat16, float16"),
        ("m --enable-prefix-caching yes", "--enable-prefix-caching: takes no value, but 'yes' follows it"),
        ("m other", "'other': nothing takes this value"),
        ("m --port 1 other", "'other': nothing takes this value; it follows '1'"),
        (
            "m --limit-mm-per-prompt image=4",
            "--limit-mm-per-prompt: 'image=4' is not JSON (Expecting value, column 1)",
        ),
        (
            """m --limit-mm-per-prompt '{"image": "4"}'""",
            "--limit-mm-per-prompt: image: '4' is not a count (0 or more)",
        ),
        (
            "m --speculative-config.num_spec_tokens 4",
            "--speculative-config: SpeculativeConfig has no key 'num_spec_tokens'; "
            "the nearest is num_speculative_tokens",
        ),
        (
            "m --tool-call-parser gemma",
            "--tool-call-parser: 'gemma' is not one of vLLM 0.20.1's tool call parsers; the nearest is gemma4",
        ),
        (
            "m --reasoning-parser gemma",
            "--reasoning-parser: 'gemma' is not one of vLLM 0.20.1's reasoning parsers; the nearest is gemma4",
        ),
        ("m --enable-auto-tool-choice", "--enable-auto-tool-choice: needs --tool-call-parser"),
        ("m --model n", "--model: give the model as the first argument; vLLM will drop this flag"),
        ("m --config f.yaml", "--config: its file's flags cannot be checked; give them as arguments"),
        ("m --help", "--help: prints help and ends"),
    ],
)
def test_says_what_is_wrong_and_what_was_wanted(argv: str, fault: str) -> None:
    assert check(shlex.split(argv)) == [fault]


def test_a_removed_flag_is_explained() -> None:
    [fault] = check(["m", "--disable-log-requests"])
    assert fault.startswith("--disable-log-requests: vLLM 0.20.1 does not know it (removed: request logging is off")
    assert "--no-enable-log-requests; vllm#21739" in fault


def test_a_mistyped_flag_gets_its_neighbour() -> None:
    [fault] = check(["m", "--max-modle-len", "8192"])
    assert fault.startswith("--max-modle-len: vLLM 0.20.1 does not know it; the nearest is --max-model-len")


def test_all_faults_come_at_once() -> None:
    faults = check(["m", "--port", "http", "--swap-space", "4", "--dtype", "fp16", "--reasoning-parser", "x"])
    assert [fault.split(":")[0] for fault in faults] == [
        "--port",
        "--dtype",
        "--swap-space",
        "--reasoning-parser",
    ]


def test_unknown_flags_are_named_even_where_argparse_stops() -> None:
    faults = check(["m", "--swap-space", "4", "--port"])
    assert [fault.split(":")[0] for fault in faults] == ["--port", "--swap-space"]


def test_every_removed_flag_is_really_unknown() -> None:
    assert [flag for flag in vllm_cli.REMOVED if flag in load().flags] == []
    for flag in vllm_cli.REMOVED:
        assert "removed" in check(["m", flag, "1"])[0]


def test_every_default_passes_its_own_argument() -> None:
    refused = []
    for argument in load().arguments:
        default = argument.default
        if argument.type == "bool" or default is None or "object" in str(default) or argument.dest == "model":
            continue
        words = [json.dumps(default)] if argument.type.startswith("json") else default
        words = [str(word) for word in words] if isinstance(words, list) else [str(words)]
        if words and check(["m", argument.flags[0], *words]):
            refused.append((argument.flags[0], words))
    assert refused == []


def test_rocm_has_fewer_quantizations_than_the_parser() -> None:
    int8 = ["m", "--quantization", "int8_per_channel_weight_only"]
    assert check(int8) == []
    assert rocm_errors(int8)[0].startswith("--quantization: vLLM 0.20.1 refuses 'int8_per_channel_weight_only'")
    assert rocm_errors(["m", "--quantization", "compressed-tensors"]) == []
    assert rocm_errors(["m"]) == []
    assert rocm_errors(["m", "--quantization"]) == []  # check() says so


@pytest.mark.parametrize(
    ("text", "number"), [("32768", 32768), ("32k", 32000), ("32K", 32768), ("25.6k", 25600), (" 2M ", 2 << 20)]
)
def test_human_int(text: str, number: int) -> None:
    assert human_int(text) == number
    assert human_int_or_auto(text) == number


@pytest.mark.parametrize("text", ["", "k", "1.5K", "1kk", "1e3", "auto"])
def test_no_human_int(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a number|fraction"):
        human_int(text)


def test_suffixes_in_json_only_outside_strings() -> None:
    assert json_config('{"a": 80m, "b": "80m"}') == {"a": 80_000_000, "b": "80m"}


def test_plain_tokens_join_dotted_keys() -> None:
    words, fault = plain_tokens(["--a_b.c_d.e", "1k", "--a-b.c_d.f=x", "--a-b.l+", "1,2", "--port", "1", "-O3"])
    assert fault is None
    assert words[:-1] == ["--port", "1", "--optimization-level", "3", "--a-b"]
    assert json.loads(words[-1]) == {"c_d": {"e": 1000, "f": "x"}, "l": ["1", "2"]}


@pytest.mark.parametrize(
    ("word", "folded"),
    [("--a_b", "--a-b"), ("--a_b=c_d", "--a-b=c_d"), ("--a_b.c_d", "--a-b.c_d"), ("a_b", "a_b"), ("-a_b", "-a_b")],
)
def test_fold_dashes(word: str, folded: str) -> None:
    assert fold_dashes(word) == folded


WORD = st.one_of(st.text(max_size=12), st.sampled_from(sorted(load().flags)), st.sampled_from(["-O", "--", "1", "{}"]))


@given(st.lists(WORD, max_size=6))
def test_never_raises(words: list[str]) -> None:
    assert all(isinstance(fault, str) and fault for fault in check(words))
    rocm_errors(words)


def test_needs_no_vllm() -> None:
    code = "import sys, ojai.engines.vllm.cli as c; c.check(['m']); print({'torch', 'vllm'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
