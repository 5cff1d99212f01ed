"""The places at which a deploy is cut off, and how a deploy under way is followed; the page has what was measured."""

from __future__ import annotations

import re
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.lab import pages, results
from tests.lab.cases import INTERRUPTIONS, Interruption, named
from tests.lab.cutting import PROBE, NotReachedError, Running
from tests.lab.interruptions import CUTS, STAGES
from tests.lab.machine import Lab
from tests.lab.run import KINDS
from tests.operation_names import collected

#: Where an interruption does most harm: words of a case's name.
MUST = ("dpkg configures", "image: it is pulled", "not yet booted", "waited for", "apt-get update", "initramfs")


def test_there_are_enough_of_them_in_each_of_the_three_ways():
    assert len(INTERRUPTIONS) >= 25
    assert Counter(case.cut for case in INTERRUPTIONS).keys() == set(CUTS)
    for words in MUST:
        assert any(words in case.name for case in INTERRUPTIONS), words


def test_names_are_told_apart():
    assert len({case.name for case in INTERRUPTIONS}) == len(INTERRUPTIONS)
    assert all(named(INTERRUPTIONS, case.name) is case for case in INTERRUPTIONS)


@pytest.mark.parametrize("case", INTERRUPTIONS, ids=lambda case: case.name)
def test_a_case_is_at_an_operation_that_there_is(case: Interruption):
    assert case.operation in collected()
    assert case.start in (*STAGES, "container")
    re.compile(case.left)
    re.compile(case.console)


@pytest.mark.parametrize("text", [PROBE, *(case.when for case in INTERRUPTIONS if case.when)])
def test_what_the_guest_is_asked_is_shell(text: str):
    subprocess.run(["bash", "-n", "-c", f"until {text}\ndo :; done" if text != PROBE else text], check=True)


class Scripted(Lab):
    """A lab whose deploy is a script."""

    script = ""

    def deploy_argv(self, *words: str) -> list[str]:
        return ["bash", "-c", type(self).script]


@pytest.fixture
def running(tmp_path, monkeypatch):
    def start(script: str) -> Running:
        monkeypatch.setattr(Scripted, "script", script)
        return Running(Scripted(tmp_path))

    return start


def test_a_deploy_under_way_is_followed_and_killed_with_all_it_started(running):
    deploy = running("echo '--> Starting operation: A | one' >&2; sleep 77.5 & echo $! >&2; wait; echo late >&2")
    deploy.wait_for("Starting operation: A | one", 10)
    assert deploy.operation == "A | one"
    assert deploy.wait(0) is None
    while len(deploy.lines) < 2:
        assert deploy.wait(0.05) is None
    child = Path(f"/proc/{deploy.lines[1]}")
    assert child.exists()
    deploy.kill()
    end = time.monotonic() + 10  # a killed process takes a moment to end
    while running_still(child) and time.monotonic() < end:
        time.sleep(0.05)
    assert not running_still(child)
    assert "late" not in deploy.lines


def running_still(process: Path) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_place_that_is_missed_is_told(running):
    deploy = running("echo other >&2; exit 3")
    with pytest.raises(NotReachedError, match=r"ended before 'Starting'.*other"):
        deploy.wait_for("Starting", 10)
    slow = running("sleep 60")
    with pytest.raises(NotReachedError, match="within 0 s"):
        slow.wait_for("Starting", 0.2)
    slow.kill()


def result(**values: object) -> dict[str, object]:
    return {
        "rerun_status": 0,
        "rerun_seconds": 61.2,
        "verify": "44 passed, 0 failed",
        "again": [],
        "left": ["dpkg: half-installed x"],
        "deploy_ended": "killed",
        "failures": [],
        **values,
        "passed": not values.get("failures"),
    }


def test_the_page_counts_what_passed_and_hides_nothing():
    one, two = INTERRUPTIONS[0].name, INTERRUPTIONS[1].name
    page = pages.interruptions({one: result(), two: result(failures=["a further run changed A|B"], again=["A|B"])}, {})
    assert f"Passed: 1 of 2 that were run; {len(INTERRUPTIONS) - 2} not run." in page
    rows = [line for line in page.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == len(INTERRUPTIONS)
    assert "44 passed, 0 failed | 0 changes" in rows[0]
    assert "**a further run changed A\\|B**" in rows[1]
    assert all("not run" in row for row in rows[2:])


def test_the_committed_page_is_made_from_the_committed_results():
    kept = results.load("interruptions")
    others = {engine: results.load("interruptions", engine) for engine in results.OTHERS}
    assert KINDS["interruptions"].path.read_text() == pages.interruptions(kept, others)
    assert [name for name, record in kept.items() if not record["passed"]] == [], "a failure is a defect"
