"""`ojai budget`, as a user runs it, and the page of docs/reference that is made of it."""

import importlib.util
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ojai import profiles
from ojai.cli import main
from ojai.memory import HostMemory
from ojai.profiles import budgets
from ojai.sizes import GB, GIB

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["budget", *arguments], prog_name="ojai")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def asked(*arguments: str) -> dict[str, Any]:
    status, output = run(*arguments, "--json")
    found: dict[str, Any] = json.loads(output)
    assert status == (0 if found["fits"] else 1)
    return found


@pytest.mark.parametrize(
    ("arguments", "amount"),
    [
        (["gemma-4-e4b", "--max-model-len", "131072"], 2_505_310_208),
        (["gemma-4-e2b", "--max-model-len", "131072"], 912_654_336),
        (["gemma-4-31b", "--max-model-len", "32768"], 10_247_208_960),
        (["gemma-4-26b-a4b", "--max-model-len", "32768", "--block-size", "32"], 2_565_079_040),
    ],
)
def test_the_published_figures(arguments: list[str], amount: int) -> None:
    found = asked(*arguments, "--max-num-batched-tokens", "8192")
    assert found["kv_bytes_per_sequence"] == amount


def test_the_published_pool() -> None:
    found = asked("gemma-4-26b-a4b", "--gpu-memory", "64GB", "--max-num-batched-tokens", "8192")
    assert found["kv_available_bytes"] == 4_880_000_000
    assert found["kv_tokens"] == 62_337
    assert f"{found['max_concurrency']:.2f}" == "1.90"


def test_the_keys_a_program_relies_on() -> None:
    found = asked("gemma-4-e4b")
    assert {
        "weights_bytes",
        "kv_bytes_per_sequence",
        "kv_available_bytes",
        "max_concurrency",
        "kv_tokens",
        "fits",
        "reasons",
    } <= set(found)
    assert found["fits"] is True and found["reasons"] == []
    assert found["weights_bytes"] == 15_200_000_000
    assert found["gpu_bytes"] == 64 * GIB


def test_a_profile_s_own_choices_count() -> None:
    found = asked("gemma-4-26b-a4b")
    assert (found["max_model_len"], found["block_size"], found["max_num_seqs"]) == (32768, 32, 4)
    assert found["gpu_memory_utilization"] == 0.92


def test_what_does_not_fit_says_why_and_what_would() -> None:
    found = asked("gemma-4-26b-a4b", "--gpu-memory", "16GiB")
    assert found["fits"] is False and found["reasons"]
    assert found["suggestion"] == "needs a carve-out of at least 56 GiB: set 64 GB in the BIOS"
    status, output = run("gemma-4-26b-a4b", "--gpu-memory", "16GiB")
    assert status == 1
    assert "Does not fit." in output and "set 64 GB in the BIOS" in " ".join(output.split())


def test_fp8_is_computed_and_said_to_be_unsupported() -> None:
    two = asked("gemma-4-e4b", "--kv-cache-dtype", "auto")
    one = asked("gemma-4-e4b", "--kv-cache-dtype", "fp8")
    assert one["kv_bytes_per_sequence"] * 2 == two["kv_bytes_per_sequence"]
    assert one["fits"] and any(
        "a deploy refuses it: fp8-kv: " in note and "gfx1150 has no fp8" in note for note in one["notes"]
    )
    assert not any("FP8" in note for note in two["notes"])


def test_loading_is_judged_when_the_os_is_known() -> None:
    small = ("gemma-4-26b-a4b", "--os-memory", "22GiB")
    refused = asked(*small, "--overcommit-memory", "0", "--swap", "8GiB")
    assert refused["load_ok"] is False and "cannot be mapped" in refused["reasons"][0]
    assert asked(*small)["load_ok"] is True


def test_gtt_names_the_pages() -> None:
    found = asked("gemma-4-26b-a4b", "--regime", "gtt", "--gpu-memory", "48GiB", "--os-memory", "120GiB")
    assert found["suggestion"] == "needs at least 56 GiB of GTT: set gtt_limit to 56GiB (ttm.pages_limit 14680064)"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gemma-4-e4"], "did you mean 'gemma-4-e4b'"),
        (["nothing-like-it"], "known:"),
        ([], "Missing argument 'PROFILE'"),
        (["gemma-4-e4b", "--gpu-memory", "64G"], "GiB"),
        (["gemma-4-e4b", "--gpu-memory", "0GiB"], "above zero"),
        (["gemma-4-e4b", "--max-model-len", "0"], "x>=1"),
        (["gemma-4-e4b", "--kv-cache-dtype", "int3"], "'auto', 'fp8'"),
        (["gemma-4-e4b", "--gpu-memory-utilization", "1.5"], "0<x<=1"),
        (["gemma-4-e4b", "--gpu-memory-utilization", "0"], "0<x<=1"),
        (["gemma-4-e4b", "--accelerator", "gfx1105"], "did you mean gfx115"),
        (["gemma-4-e4b", "--regime", "gtt", "--gpu-memory", "96GiB", "--os-memory", "64GiB"], "pages_limit"),
        (["gemma-4-26b-a4b", "--max-num-batched-tokens", "2"], "max_num_seqs"),
    ],
)
def test_a_question_that_is_not_understood(arguments: list[str], said: str) -> None:
    status, output = run(*arguments)
    assert status == 2
    assert said in " ".join(output.split())
    assert "Traceback" not in output


def test_help_explains_itself() -> None:
    status, output = run("--help")
    assert status == 0
    for word in ("PROFILE", "--gpu-memory", "64GiB", "Examples:", "Exit status"):
        assert word in output


def test_the_bars_add_up() -> None:
    status, output = run("gemma-4-26b-a4b", "--os-memory", "64GiB")
    assert status == 0
    bars = {line.split()[0]: line.split()[1] for line in output.splitlines() if line.startswith(("has", "needs"))}
    assert len(bars["has"]) == 60
    marks = {mark: bars["has"].count(mark) for mark in dict.fromkeys(bars["has"])}
    shares = [52 * GB / GIB, 2 * GB / GIB, 8.59, 5.12, 64]
    for count, share in zip(marks.values(), shares, strict=True):
        assert count == pytest.approx(share * 60 / 128, abs=1)
    assert bars["needs"].count("█") == bars["has"].count("█")


def in_a_terminal(**environment: str) -> str:
    """What `ojai budget` prints to a terminal of 80 columns."""
    reader, writer = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    with subprocess.Popen(
        [sys.executable, "-c", "from ojai.cli import main; main()", "budget", "gemma-4-e4b"],
        stdout=writer,
        stderr=writer,
        cwd=ROOT,
        env={**kept, "TERM": "xterm-256color", "COLUMNS": "80", **environment},
    ):
        os.close(writer)
        shown = b""
        while True:
            try:
                part = os.read(reader, 65536)
            except OSError:
                break
            if not part:
                break
            shown += part
    os.close(reader)
    return shown.decode()


def test_colour_in_a_terminal_and_none_where_none_is_wanted() -> None:
    assert "\x1b[34m" in in_a_terminal()
    plain = in_a_terminal(NO_COLOR="1")
    assert "Fits." in plain
    assert not any(f"\x1b[{code}m" in plain for code in (31, 32, 33, 34, 35, "1;32"))
    assert "\x1b[" not in run("gemma-4-e4b")[1]


def test_profiles_complete_in_the_shell() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from ojai.cli import main; main(prog_name='ojai')"],
        env={
            **os.environ,
            "_OJAI_COMPLETE": "bash_complete",
            "COMP_WORDS": "ojai budget gemma-4-26",
            "COMP_CWORD": "2",
        },
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert "plain,gemma-4-26b-a4b" in done.stdout.split()
    assert "e4b" not in done.stdout


@pytest.mark.parametrize("name", profiles.names())
def test_every_profile_has_a_budget_that_agrees_with_itself(name: str) -> None:
    found = budgets.of(profiles.load(name), HostMemory(gpu_bytes=96 * GIB))
    assert found.fits, found.reasons
    assert found.kv_bytes_per_sequence <= found.kv_available_bytes


def test_the_reference_page_is_fresh() -> None:
    spec = importlib.util.spec_from_file_location("budget_table", ROOT / "tools" / "budget_table.py")
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    written = (ROOT / "docs" / "reference" / "budget.md").read_text(encoding="utf-8")
    assert written == tool.page(), "stale: run python tools/budget_table.py"


def test_whose_planner_it_follows_is_said() -> None:
    assert "The cache follows vLLM 0.20.1's planner, which is the image's." in " ".join(run("gemma-4-e4b")[1].split())
    assert "follows vLLM 0.28.0's planner" in " ".join(run("gemma-4-12b")[1].split())
    assert asked("gemma-4-12b")["follows"] == "follows vLLM 0.28.0's planner, which is the image's"


def test_what_is_assumed_and_the_least_that_would_do_are_shown() -> None:
    status, output = run("gemma-4-e4b")
    assert status == 0
    assert "Assumed: 64 GiB of GPU memory. Give your own with --gpu-memory." in output
    assert "Least GPU memory: 22 GiB, a BIOS carve-out of 32 GB." in output
    status, output = run("gemma-4-e4b", "--gpu-memory", "64GiB")
    assert "Assumed" not in output and "Least GPU memory: 22 GiB, a BIOS carve-out of 32 GB." in output
    assert "Least GPU memory: 22 GiB.\n" in run("gemma-4-e4b", "--regime", "gtt", "--gpu-memory", "40GiB")[1]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--gpu-memory", "16"], "16 bytes is too small for a machine's memory; did you mean 16GiB?"),
        (["--gpu-memory", "512MiB"], "expected 1 GiB or more"),
        (["--os-memory", "62"], "did you mean 62GiB?"),
    ],
)
def test_an_amount_that_lacks_its_unit_is_refused_with_what_was_meant(arguments: list[str], text: str) -> None:
    status, output = run("gemma-4-e4b", *arguments)
    assert status == 2 and text in " ".join(output.split())


@pytest.mark.parametrize("name", ["26B", "gemma4-26b"])
def test_a_part_of_a_profile_s_name_finds_it(name: str) -> None:
    status, output = run(name)
    assert status == 2 and "did you mean 'gemma-4-26b-a4b'?" in output
