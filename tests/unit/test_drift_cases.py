"""The drift cases: complete, readable, run together only where that hides nothing, and judged strictly."""

from __future__ import annotations

import re
from typing import ClassVar

import pytest

from tests.lab import drift, pages, results
from tests.lab.backends import TestHost, Verified
from tests.lab.batches import batches, compatible
from tests.lab.cases import DRIFT, SAMPLE, DriftCase, pending
from tests.lab.machine import ROOT, Deploy, Lab
from tests.lab.run import KINDS
from tests.operation_names import KEYS, NAMES, collected

PAGE = KINDS["drift"].path


def test_the_table_of_operations_is_what_a_dry_run_names():
    """So every operation has a name of ours, and a renamed one must be renamed in the table."""
    assert set(KEYS) == collected()
    assert len(KEYS) == len(NAMES) > 25


def test_the_dry_run_reaches_every_operation_of_the_roles():
    """What no host of its inventory led to would be missed by the tests above and below."""
    for path in (ROOT / "roles").glob("*.py"):
        applying = re.split(r"^def remov", path.read_text(), flags=re.MULTILINE)[0]
        for name in re.findall(r'\bname=f?"([^"]+)"', applying):
            pattern = re.sub(r"\\{.+?\\}", ".+", re.escape(name))
            assert any(re.fullmatch(rf"(\w+ \| )?{pattern}", found) for found in collected()), (path.name, name)


@pytest.mark.parametrize("key", sorted(NAMES))
def test_every_operation_of_every_role_has_a_case(key):
    touched = {name for case in DRIFT for name in (*case.operations, *case.hidden)}
    # What only `adopt: true` brings needs another host than a provisioned one: one that was set up by hand.
    # What only a setting brings is in a test of its own.
    names = (
        "test_adoption.py",
        "test_gateway.py",
        "test_first_fetch.py",
        "test_lock.py",
        "test_secrets.py",
        "test_watch.py",
    )
    texts = "".join((ROOT / "tests" / "lab" / name).read_text() for name in names)
    elsewhere = re.findall(r'NAMES\["((?:adopt|firewall|gateway|network|versions|vllm|watch)-[a-z-]+)"\]', texts)
    assert NAMES[key] in touched or key in elsewhere


def test_there_are_enough_and_each_has_its_own_name():
    names = [case.name for case in DRIFT]
    assert len(set(names)) == len(names) >= 60


@pytest.mark.parametrize("case", DRIFT, ids=lambda case: case.name)
def test_a_case_is_whole(case: DriftCase):
    re.compile(case.detection)
    re.compile(case.refused)
    assert case.inject.strip()
    assert case.operations or case.refused or case.left, "nothing would be seen of it"
    assert bool(case.refused) == bool(case.why), "a refusal has a reason"
    assert bool(case.refused or case.stays) <= bool(case.undo), "and a way out"
    assert not case.undo_boots or case.undo
    assert not case.then or case.boots
    assert case.harmless or not re.search(case.detection, ""), "it would be detected by nothing at all"


def test_the_sample_has_one_of_every_role_that_can_be_run_together():
    assert sorted(case.role for case in SAMPLE) == sorted(
        {case.role for case in DRIFT} - {"Preflight", "Surface", "Harmless", "Reader"}
    )
    docker, vllm = (next(case for case in SAMPLE if case.role == role) for role in ("Docker", "vLLM"))
    assert not compatible(docker, vllm) and NAMES["docker-running"] not in docker.operations
    assert all(
        compatible(one, other)
        for one in SAMPLE
        for other in SAMPLE
        if one is not other and {one.role, other.role} != {"Docker", "vLLM"}
    )


def test_batches_keep_all_and_hide_nothing():
    made = batches(DRIFT)
    assert [case for batch in made for case in batch if case not in DRIFT] == []
    assert sum(map(len, made)) == len(DRIFT)
    for batch in made:
        for number, one in enumerate(batch):
            for other in batch[number + 1 :]:
                assert not set(one.operations[:1]) & {*other.operations, *other.may}
                assert not set(other.operations[:1]) & {*one.operations, *one.may}
                assert {one.role, other.role} != {"Docker", "vLLM"} or one.preflight


def test_the_page_has_every_case_and_is_fresh():
    kept = results.load("drift")
    others = {engine: results.load("drift", engine) for engine in results.OTHERS}
    assert PAGE.read_text() == pages.drift(kept, others), "run python -m tests.lab.run drift --page"
    assert [name for name, record in kept.items() if not record["passed"]] == [], "a failure is a defect"
    assert len(kept) >= 60
    for case in DRIFT:
        assert PAGE.read_text().count(f"\n| {results.cell(case.name)} |") == 1, case.name


def test_a_failure_stands_in_the_page():
    case = DRIFT[0]
    outcome = drift.Outcome(case, detected_by=["kernel: x"], failures=["it was not fixed"])
    text = pages.drift({case.name: outcome.record(3, 99.6, "abc", "vm")}, {})
    assert f"| {case.name} | kernel: x | FAILED |" in text
    assert "1 FAILED" in text and f"{len(DRIFT) - 1} not run" in text


A, B, C, D = list(NAMES.values())[:4]
ONE = DriftCase("one", "R", "true", "one", ("kernel-metapackage",), ("kernel-ttm",))
TWO = DriftCase("two", "S", "true", "two", ("kernel-boot-files",))
NO = DriftCase("no", "T", "true", "no", ("kernel-reboot",), refused="because", why="w", undo="u")


def test_a_case_has_the_names_of_its_operations():
    assert (ONE.operations, ONE.may, TWO.operations, NO.operations) == ((A,), (B,), (C,), (D,))


def _deploy(status: int, changed: list[str], output: str = "") -> Deploy:
    return Deploy(status, changed, 0, [], output)


def _failures(cases: list[DriftCase], done: Deploy) -> dict[str, list[str]]:
    outcomes = [drift.Outcome(case) for case in cases]
    drift.judge_deploy(outcomes, done)
    return {one.case.name: one.failures for one in outcomes}


def test_a_deploy_that_fixes_just_what_it_should_has_no_failures():
    for changed in ([A, C], [A, B, C]):
        assert _failures([ONE, TWO], _deploy(0, changed)) == {"one": [], "two": []}


@pytest.mark.parametrize(
    ("done", "one", "two"),
    [
        (_deploy(0, [A]), [], [f"the deploy did not report: {C}"]),
        (_deploy(0, [A, C, "X | y"]), *2 * [["the deploy also reported: X | y"]]),
        (_deploy(1, [A, C], "broke"), *2 * [["the deploy ended with status 1: broke"]]),
        (_deploy(0, [A, C], "Traceback"), *2 * [["the deploy ended with a traceback"]]),
    ],
)
def test_a_failure_is_seen(done, one, two):
    assert _failures([ONE, TWO], done) == {"one": one, "two": two}


def test_a_refusal_must_come_with_its_words_and_change_nothing():
    assert _failures([NO], _deploy(1, [], "because")) == {"no": []}
    assert _failures([NO], _deploy(0, [])) == {"no": ["the deploy did not refuse"]}
    assert _failures([NO], _deploy(1, [], "x")) == {"no": ["the refusal does not say because: x"]}
    assert _failures([NO], _deploy(1, [D], "because")) == {"no": [f"the deploy also reported: {D}"]}


def test_a_check_that_detects_it_is_told_by_area_and_name():
    red = Verified(False, ["rocm: one key: /etc/a\nis gone", "drift: the deploy: the next deploy would: R | a; S | c"])
    assert drift.detecting(red, "one key.*gone") == ["rocm: one key"]
    assert drift.detecting(red, pending("S | c")) == ["drift: the deploy"]
    assert drift.detecting(red, "R . b") == []


class Scripted(TestHost):
    """A host that only writes down when it is put back."""

    resets: ClassVar[list[bool]] = []

    def reset(self, dirty: bool) -> None:
        self.resets.append(dirty)


THREE = DriftCase("three", "S", "true", "three", ("kernel-boot-files",))


@pytest.mark.parametrize("error", [True, False])
def test_what_fails_together_is_run_again_in_smaller_pieces(monkeypatch, error):
    """A chain, then its batches, then each case of the batch that fails: `two` alone is at fault."""
    runs = []

    def run_chain(host, chain):
        runs.append([[case.name for case in batch] for batch in chain])
        if error and any(TWO in batch for batch in chain):
            raise TimeoutError("no answer")
        answer = [[drift.Outcome(case, failures=["x"] * (case is TWO)) for case in batch] for batch in chain]
        bad = [batch for batch in answer if any(one.failures for one in batch)]
        return bad[:1] or answer

    monkeypatch.setattr(drift, "run_chain", run_chain)
    host = Scripted(Lab(ROOT))
    host.resets.clear()
    found = [
        (name, record["passed"], record["together"])
        for name, record in drift.run_all(lambda _: host, [[ONE], [TWO, THREE]], 2, "vm")
    ]
    assert runs[:3] == [[["one"], ["two", "three"]], [["one"]], [["two", "three"]]]
    together = 1 if error else 2
    assert sorted(found) == [("one", True, 1), ("three", True, together), ("two", False, 1)]
    assert host.resets[:4] == [False, True, False, True]
