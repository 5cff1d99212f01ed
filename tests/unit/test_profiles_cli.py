"""`ojai profiles`, and the pages generated from the profiles."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from resolving import resolve

from ojai.cli import main
from ojai.profiles import load, names

ROOT = Path(__file__).parents[2]


def run(*arguments, **options):
    return CliRunner().invoke(main, ["profiles", *arguments], **options)


def test_json_has_what_was_asked_for():
    result = run("--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)["profiles"]
    assert [profile["name"] for profile in found] == list(names())
    for profile in found:
        assert profile["engine"] == "vllm"
        assert profile["docker_argv"][:2] == ["docker", "run"]
        assert profile["image"] in profile["docker_argv"]
        assert profile["docker_argv"][-len(profile["engine_argv"]) :] == profile["engine_argv"]
        assert profile["engine_argv"][0] == profile["model"]
        assert profile["weights_bytes"] == load(profile["name"]).weights_bytes


def test_json_is_the_units_command():
    (found,) = json.loads(run("--json", "gemma-4-26b-a4b").stdout)["profiles"]
    assert found["docker_argv"] == list(resolve(load("gemma-4-26b-a4b")).command.docker_argv)
    assert found["refusals"] == []


def test_json_tells_what_stands_against_a_profile():
    (found,) = json.loads(run("--json", "gemma-4-26b-a4b-int8").stdout)["profiles"]
    assert [refusal["code"] for refusal in found["refusals"]] == ["quantization-not-on-rocm"]


def test_the_table_has_every_profile_and_no_colour():
    result = run()
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    for name in names():
        assert any(line.split()[0] == name for line in lines if line.strip()), name
    row = next(line for line in lines if line.startswith("gemma-4-e4b "))
    for text in ("google/gemma-4-E4B-it", "15.2 GB", "131,072", "vllm/vllm-openai-rocm:v0.20.1"):
        assert text in row
    assert "\x1b" not in result.stdout


def test_one_profile_explains_its_command():
    result = run("gemma-4-e4b")
    assert result.exit_code == 0
    line = next(line for line in result.stdout.splitlines() if line.startswith("-e HSA_ENABLE_SDMA=0"))
    assert "copy engines" in line


def test_an_unknown_name_is_a_usage_error():
    result = run("gemma-4-e4")
    assert result.exit_code == 2
    assert "did you mean 'gemma-4-e4b'" in result.stderr
    assert "Traceback" not in result.output


def test_an_unknown_accelerator_is_a_usage_error():
    result = run("--accelerator", "gfx1105")
    assert result.exit_code == 2
    assert "gfx1150" in result.stderr


def test_help_shows_examples():
    result = run("--help")
    assert result.exit_code == 0
    assert "ojai profiles gemma-4-e4b" in result.stdout


def test_the_name_completes():
    result = CliRunner().invoke(
        main,
        [],
        prog_name="ojai",
        env={"_OJAI_COMPLETE": "bash_complete", "COMP_WORDS": "ojai profiles gemma-4-31", "COMP_CWORD": "2"},
    )
    assert result.stdout.split() == ["plain,gemma-4-31b", "plain,gemma-4-31b-qat-w4a16"]


@pytest.mark.parametrize("page", ["profiles.md", "deviations.md"])
def test_the_pages_are_fresh(page):
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import profile_table
    finally:
        sys.path.pop(0)
    stale = f"docs/reference/{page} is stale: run python tools/profile_table.py"
    assert (ROOT / "docs" / "reference" / page).read_text(encoding="utf-8") == profile_table.PAGES[page](), stale


def test_the_check_can_fail(tmp_path):
    code = (
        "import pathlib, sys, profile_table as t; t.DIRECTORY = pathlib.Path(sys.argv[1]);"
        "first = t.main(['--check']); t.main([]); sys.exit(10 * first + t.main(['--check']))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT / "tools", capture_output=True, text=True, check=False
    )
    assert result.returncode == 10, result.stderr
    assert "profiles.md is stale" in result.stderr
