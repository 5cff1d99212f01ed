"""What decides what the host does is as after the last deploy, or it is known why not. A check a kind."""

import json
from dataclasses import asdict

import pytest

from ojai import surface


@pytest.fixture(scope="session")
def report(mini, pytestconfig):
    """What is another than was recorded. By itself, the answer that costs most of what this area costs."""
    words = ["--deep"] if pytestconfig.getoption("--deep") else []
    found = surface.read(mini.run(surface.command("report", *words)).stdout)
    if found.error:
        pytest.fail(f"found no record of the surface ({found.error}); expected that of the last deploy", pytrace=False)
    return found


def test_the_surface_was_recorded(report, record_property):
    record_property("surface", json.dumps({**asdict(report), "differences": [asdict(d) for d in report.differences]}))
    parts = ", ".join(f"{part} {seconds:.1f} s" for part, seconds in (report.cost or {}).items())
    record_property("note", f"{report.things} things: {parts}")


@pytest.fixture
def explained(mini, report, record_property):
    def judge(name):
        kind = surface.kinds()[name]
        found = [
            str(d) for d in surface.unexplained(mini.settings, report.differences) if d.kind(mini.settings) == kind
        ]
        if found:
            text = f"unexplained: {'; '.join(found)}. What to do: {kind.todo}"
            if kind.red:
                pytest.fail(text, pytrace=False)
            record_property("warning", text)

    return judge


def test_the_next_boot_does_what_was_deployed(explained):
    explained("boot")


def test_nobody_else_may_change_what_ojai_manages(explained):
    explained("who")


def test_what_runs_was_started_so(explained):
    explained("runs")


def test_nothing_stands_before_the_programs_that_ojai_calls(explained):
    explained("tools")


def test_apt_trusts_and_prefers_the_same(explained):
    explained("trust")


def test_no_file_system_hides_what_ojai_manages(explained):
    explained("mounts")


def test_notes_and_models_are_as_they_were_recorded(explained):
    explained("data")


def test_everything_else_is_explained(explained):
    explained("other")
