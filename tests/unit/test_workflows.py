"""The workflow files: what they use is pinned, what they run is there. test_installed.py runs the example for users."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "repository"
WORKFLOWS = [*ROOT.glob(".github/workflows/*.yml"), *EXAMPLE.glob(".github/workflows/*.yml")]


def steps(file):
    jobs = yaml.safe_load(file.read_text())["jobs"].values()
    return [step for job in jobs for step in job["steps"]]


def test_there_is_one_for_the_project_and_one_for_users():
    assert [file.name for file in WORKFLOWS] == ["ci.yml", "ojai.yml"]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_actions_are_pinned_to_a_commit_and_say_which_version_it_is(file):
    used = re.findall(r"uses: (.*)", file.read_text())
    assert used and len(used) == len([step for step in steps(file) if "uses" in step])
    for line in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_what_they_run_is_there(file):
    top = EXAMPLE if EXAMPLE in file.parents else ROOT
    targets = "\n".join(path.read_text() for path in (*top.glob("Makefile"), *top.glob("mk/*.mk")))
    ran = "\n".join(step.get("run", "") for step in steps(file))
    expected = re.findall(r"^make (.+)$", ran, re.MULTILINE)
    assert expected or top == EXAMPLE  # whose users have no make
    for target in " ".join(expected).split():
        assert re.search(rf"^{re.escape(target)}:", targets, re.MULTILINE), target
    files = re.findall(r"(?:^|\s)([\w/]+\.(?:py|txt))\b", ran)
    assert files
    for name in files:
        assert (top / name).exists(), name
