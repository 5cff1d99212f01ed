"""The runner of failure tests: files of cases that are wrong are refused with their place, and the right cases run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from tests.lab import inputs, results, run
from tests.lab.backends import Verified
from tests.lab.cases import DRIFT, CaseError, DriftCase, load


def case(text: str = "", **changed: str) -> str:
    entry = {"name": "one", "inject": "rm {{FILE}}", "detected_by": "x", "operations": "[sysctl]", **changed}
    lines = "".join(
        f"    {key}: {value!r}\n" if key != "operations" else f"    {key}: {value}\n" for key, value in entry.items()
    )
    return f"role: R\n{text}cases:\n  -\n{lines}"


DEFINE = "define: {FILE: /etc/x}\n"


def test_a_defined_text_is_filled_in_and_dockers_own_braces_stay(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(case("define: {TOP: /etc, FILE: '{{TOP}}/x'}\n", undo="docker inspect -f '{{.State}}{{end}}'"))
    (found,) = load(DriftCase, path)
    assert (found.role, found.inject, found.undo) == ("R", "rm /etc/x", "docker inspect -f '{{.State}}{{end}}'")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (case(DEFINE, injekt="x"), ("r.yaml: case 'one'", "injekt")),
        (case(), ("r.yaml: case 'one'", "'FILE' is not defined")),
        (case("define: {FILE: '{{NONE}}'}\n"), ("r.yaml: define", "'NONE' is not defined")),
        (case(DEFINE, operations="[no-such]"), ("r.yaml: case 'one'", "'no-such'", "operations.yaml")),
        (case(DEFINE).replace("inject", "undo"), ("r.yaml: case 'one'", "inject", "required")),
        (case(DEFINE) + case(DEFINE).partition("cases:\n")[2], ("r.yaml: case 'one'", "two of this name")),
        (case(DEFINE) + "more: 1\n", ("r.yaml", "unknown key more")),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(tmp_path, text, words):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(CaseError) as caught:
        load(DriftCase, path)
    for word in words:
        assert word in str(caught.value)


def chosen(*words: str, records: Mapping[str, results.Record] | None = None) -> list[str]:
    return [one.name for one in run.choose(run.parser().parse_args(words), records or {})]


def test_a_resumed_run_leaves_out_what_passed_while_nothing_it_depends_on_has_changed(monkeypatch):
    cases = {case.name: case for case in DRIFT if case.role == "Ledger"}
    one, two, three = cases
    kept = {name: {"passed": name != two, "inputs": inputs.of(case)} for name, case in cases.items()}
    words = ("drift", "--role", "Ledger", "--resume")
    assert chosen(*words, records=kept) == [two]
    assert chosen(*words, records={**kept, three: {"passed": True}}) == [two, three], "nobody knows what it ran on"
    kept[one]["inputs"] = inputs.of(replace(cases[one], inject="true", operations=(), may=(), hidden=()))
    assert chosen(*words, records=kept) == [one, two], "the case itself has changed"
    monkeypatch.setattr(inputs, "_content", lambda role: "another role")
    assert chosen(*words, records=kept) == [one, two, three]


def test_a_case_depends_on_its_role_its_checks_and_what_these_import():
    found = {str(file.relative_to(inputs.ROOT)) for file in inputs.files("Sysctl")}
    needed = {"roles/sysctl.py", "tests/host/test_sysctl.py", "ojai/operations/sysctl.py", "ojai/operations/files.py"}
    assert needed <= found and not {"roles/docker.py", "tests/host/test_docker.py", "ojai/cmdline/verify.py"} & found
    assert {"ojai/surface/program.py", "ojai/data/surface.yaml", "ojai/preflight/surface.py"} <= {
        str(file.relative_to(inputs.ROOT)) for file in inputs.files("Harmless")
    }


def test_cases_are_chosen_by_name_role_and_what_passed():
    one, two, three = (case.name for case in DRIFT if case.role == "Ledger")
    assert chosen("drift", "--role", "Ledger") == [one, two, three]
    assert chosen("drift", "--only", two, "--only", one) == [one, two]
    assert len(chosen("interruptions")) >= 35 and len(chosen("upgrades")) >= 16
    with pytest.raises(ValueError, match="no case is called 'x'"):
        chosen("upgrades", "--only", "x")
    with pytest.raises(ValueError, match="no case is of the role X"):
        chosen("drift", "--role", "X")


@pytest.mark.parametrize(
    ("words", "on_vm", "on_container"),
    [
        (["drift"], 133, 0),
        (["drift", "--on", "container"], 0, 52),
        (["interruptions"], 22, 13),
        (["upgrades"], 16, 0),
        (["upgrades", "--on", "container"], 0, 15),
    ],
)
def test_each_case_is_run_on_a_machine_that_can_hold_it(capsys, words, on_vm, on_container):
    assert run.main([*words, "--list"]) == 0
    machines = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    for machine, least in (("vm", on_vm), ("container", on_container)):
        assert machines.count(machine) >= least and bool(machines.count(machine)) == bool(least)


def test_a_case_that_does_not_fit_is_refused_by_name(capsys):
    assert run.main(["drift", "--on", "container", "--only", "the kernel's metapackage is removed"]) == 2
    assert "not on a container: the kernel's metapackage is removed" in capsys.readouterr().err


def test_a_record_replaces_the_one_before_and_those_of_no_case_go(monkeypatch, tmp_path):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    monkeypatch.setattr(results, "REFERENCE", tmp_path)
    name = next(case.name for case in DRIFT)
    record = results.Record(passed=False, detected_by=[], together=1, on="vm")
    results.save("drift", {"of no case": record, name: record})
    run.remember("drift", name, {**record, "passed": True, "fixed_by": []}, "overlay2")
    assert list(results.load("drift")) == [name] and results.load("drift")[name]["passed"]
    assert "FAILED" not in (tmp_path / "drift.md").read_text()


@pytest.mark.parametrize("names", [("ok", "error"), ("good", "trouble")])
def test_both_names_of_a_verdict_are_read(names):
    ok, error = names
    assert Verified.of({ok: True, error: ""}, []) == Verified(True, [])
    assert Verified.of({ok: False, error: "no answer"}, []) == Verified(False, [], "no answer")
