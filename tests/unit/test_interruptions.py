"""The points at which a deploy is cut: what each names is really there, and the page is made of what was measured."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.lab import chaos, results  # noqa: E402
from tests.lab.cutting import NotReachedError, Running  # noqa: E402
from tests.lab.interruptions import CONTAINER, CUTS, POINTS, PROBE, STAGES, Point, named  # noqa: E402
from tests.lab.machine import Lab  # noqa: E402

#: What an interruption has to be tried at, by the issue: words of an operation or a name.
MUST = ("dpkg configures", "image: it is pulled", "not yet booted", "waited for", "apt-get update", "initramfs")


def titles() -> set[str]:
    """Every title of a role and of an operation, as they stand in the roles."""
    text = "\n".join(path.read_text() for path in (ROOT / "roles").glob("*.py"))
    return {name.removeprefix("{server.name}: ") for name in re.findall(r'(?:name=|@deploy\()f?"([^"]+)"', text)}


def test_there_are_enough_of_them_in_each_of_the_three_ways():
    assert len(POINTS) >= 25
    assert Counter(point.cut for point in POINTS).keys() == set(CUTS)
    for words in MUST:
        assert any(words in point.name for point in POINTS), words


def test_names_are_told_apart():
    assert len({point.name for point in POINTS}) == len(POINTS)
    assert all(named(point.name) is point for point in POINTS)


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
def test_a_point_is_at_an_operation_that_there_is(point: Point):
    role, _, operation = point.operation.partition(" | ")
    assert role in titles()
    assert operation.removeprefix("vllm-gemma4: ") in titles()
    assert point.start in (*STAGES, CONTAINER)
    re.compile(point.left)
    re.compile(point.console)


@pytest.mark.parametrize("text", [PROBE, *(point.when for point in POINTS if point.when)])
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


def test_a_point_that_is_missed_is_told(running):
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
        "fault": "",
        **values,
    }


def test_the_page_counts_what_was_survived_and_hides_nothing():
    one, two = POINTS[0].name, POINTS[1].name
    page = chaos.page({one: result(), two: result(fault="a further run changed A|B", again=["A|B"])})
    assert f"Survived: 1 of 2 that were run; {len(POINTS) - 2} were not run." in page
    rows = [line for line in page.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == len(POINTS)
    assert "44 passed, 0 failed | 0 changes" in rows[0]
    assert "**a further run changed A\\|B**" in rows[1]
    assert all("not run yet" in row for row in rows[2:])


def test_the_committed_page_is_made_from_the_committed_results():
    kept = results.load(chaos.KIND)
    assert chaos.PAGE.read_text() == chaos.page(kept)
    assert [name for name, result in kept.items() if result["fault"]] == [], "what was not survived is a defect"
