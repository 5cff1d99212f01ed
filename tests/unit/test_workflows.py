"""The workflow files: what they use is pinned, what they run is there, and the example for users works."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "inventory-repository"
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
    targets = "\n".join(path.read_text() for path in (ROOT / "Makefile", *ROOT.glob("mk/*.mk")))
    ran = "\n".join(step.get("run", "") for step in steps(file))
    expected = re.findall(r"^make (.+)$", ran, re.MULTILINE)
    assert expected
    for target in " ".join(expected).split():
        assert re.search(rf"^{re.escape(target)}:", targets, re.MULTILINE), target
    for word in re.findall(r"(?:inventory/|^|\s)([\w/]+\.py)\b", ran):
        assert any((top / word).exists() for top in (ROOT, ROOT / "inventory", EXAMPLE)), word


@pytest.fixture
def repository(tmp_path):
    """A copy of the example, with ojai where its workflow checks it out."""
    place = tmp_path / "mine"
    shutil.copytree(EXAMPLE, place)
    (place / "provisioner").symlink_to(ROOT)
    return place


def ran(repository, *words):
    argv = [sys.executable, "-m", *words]
    return subprocess.run(
        argv, cwd=repository / "provisioner", capture_output=True, text=True, check=False, timeout=120
    )


def test_the_examples_pull_request_job_works_as_it_stands(repository):
    planned = ran(repository, "ojai", "plan", str(repository / "fleet.py"))
    assert planned.returncode == 0, planned.stdout + planned.stderr
    tried = ran(repository, "pyinfra", "--dry", str(repository / "fake.py"), "deploy.py")
    assert tried.returncode == 0, tried.stderr
    assert "@fake/mini-01" in tried.stderr and "@fake/mini-02" in tried.stderr


@pytest.mark.parametrize(
    ("fault", "named"),
    [("kernel_rebot: never", "kernel_rebot"), ("services: [{profile: gemma-4-e5b}]", "gemma-4-e5b")],
)
def test_the_examples_pull_request_job_fails_on_a_mistake_and_names_it(repository, fault, named):
    fleet = repository / "fleet.yaml"
    fleet.write_text(fleet.read_text().replace("ssh_hostname: 192.0.2.11", f"ssh_hostname: 192.0.2.11\n    {fault}", 1))
    for words in (("ojai", "plan", "fleet.py"), ("pyinfra", "--dry", "fake.py", "deploy.py")):
        *words, last = [str(repository / word) if word in ("fleet.py", "fake.py") else word for word in words]
        done = ran(repository, *words, last)
        assert done.returncode != 0
        assert named in done.stdout + done.stderr and "Traceback" not in done.stderr
