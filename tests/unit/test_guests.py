"""The steps on each guest: what is planned, what becomes of a guest whose first deploy fails, and the page."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from ojai.lab.image import ENGINES
from ojai.lab.suites import SUITES
from tests.lab import guests, pages, results
from tests.lab.backends import TestHost, Verified
from tests.lab.cases import GUESTS
from tests.lab.machine import ROOT, Deploy, Lab
from tests.lab.run import KINDS, main


def steps(**chosen: str) -> list[guests.Step]:
    return [case for case in guests.CASES if case.guest.name == chosen["guest"] and case.on == chosen["on"]]


def test_every_suite_is_a_guest_and_every_guest_a_suite():
    assert {guest.system for guest in GUESTS} == set(SUITES)
    assert {guest.engine for guest in GUESTS} == set(ENGINES)
    assert len({case.name for case in guests.CASES}) == len(guests.CASES)


def test_the_steps_of_a_guest_begin_with_its_first_deploy(capsys):
    assert main(["guests", "--guest", "forky", "--list"]) == 0
    listed = [line.split(": ")[1] for line in capsys.readouterr().out.splitlines()]
    assert listed == list(guests.STEPS) and listed[0] == "first deploy" and listed[-1] == "removal"
    assert main(["guests", "--guest", "sid"]) == 2
    assert "there is no guest sid" in capsys.readouterr().err


@dataclass(frozen=True)
class Scripted(TestHost):
    """A host whose deploys end as they are told to, in this order."""

    deploys: list[Deploy] = field(default_factory=list)

    def deploy(self, *words: str) -> Deploy:
        return self.deploys.pop(0)

    def verify(self) -> Verified:
        return Verified(True, [], passed=26)


DONE = Deploy(0, [], 0, [], "")
CHANGED = replace(DONE, changed=["Docker | Install Docker Engine"])


@pytest.fixture
def run(monkeypatch, tmp_path):
    """``run(deploys, steps)``: the records of these steps on a host of which only the deploys are real."""
    monkeypatch.setattr(guests, "_make_anew", lambda host, guest: None)
    monkeypatch.setattr(guests, "must", lambda done: None)
    monkeypatch.setattr(Lab, "ojai", lambda self, *words, **env: None)
    monkeypatch.setattr("tests.lab.machine.Guest.root", lambda self, command: "6.17.0-1033-oem\n255.4")

    def steps_run(deploys: list[Deploy], count: int) -> dict[str, results.Record]:
        host = Scripted(Lab(tmp_path / "lab"), deploys=deploys)
        return dict(guests.run(host, steps(guest="noble", on="container")[:count], keep=True))

    return steps_run


def test_each_step_is_judged_by_itself(run):
    found = run([CHANGED, DONE, DONE, DONE, DONE], 3)
    assert [record["passed"] for record in found.values()] == [True, True, True]
    assert [record["found"] for record in found.values()] == ["1 changes", "0 changes", "26 checks"]
    assert guests.about(found, GUESTS[0], "container") == ["6.17.0-1033-oem", "255.4"]


def test_a_second_run_that_changes_something_has_failed(run):
    record = run([CHANGED, DONE, CHANGED], 2)["noble, container: second run"]
    assert not record["passed"] and "Install Docker Engine" in record["failures"][0]


def test_without_its_first_deploy_nothing_more_is_run(run):
    found = run([replace(DONE, status=1, output="E: no")], 3)
    assert list(found) == ["noble, container: first deploy"]
    assert "status 1: E: no" in found["noble, container: first deploy"]["failures"][0]


def test_the_page_is_the_one_that_the_results_give():
    seen = results.load("guests")
    assert KINDS["guests"].path.read_text() == pages.guests(seen, {}), "run python -m tests.lab.run guests --page"
    assert {name for name, one in seen.items() if not one["passed"]} == set()


def test_a_step_that_failed_stands_out_on_the_page():
    record = {"passed": False, "failures": ["x"], "found": "", "about": [], "commit": "abc", "on": "vm", "seconds": 1}
    text = pages.guests({"forky, vm: first deploy": record}, {})
    assert "**FAILED** (`abc`)" in text and "; 1 FAILED;" in text


def test_what_a_guest_cannot_meet_is_just_what_fails_on_it():
    @dataclass(frozen=True)
    class Failing(Scripted):
        failed: tuple[str, ...] = ()

        def verify(self) -> Verified:
            return Verified(not self.failed, list(self.failed), passed=58)

    lab = Lab(ROOT)
    host = Failing(lab, failed=("rocm: rocminfo sees the gpu: `rocminfo` exited 1: /dev/kfd: no",))
    assert guests.verify(host, ["rocm: rocminfo sees the gpu"], "no GPU") == "58 checks; not 1: no GPU"
    for failed, unmet in ((host.failed, ()), ((), ["rocm: rocminfo sees the gpu"]), (host.failed, ["rocm: another"])):
        with pytest.raises(guests.Failed):
            guests.verify(replace(host, failed=failed), unmet, "no GPU")
