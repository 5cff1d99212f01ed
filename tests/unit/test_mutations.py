"""The list of damages: complete, readable, and the page that is generated from it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import drift, results
from tests.lab.machine import ROOT, Deploy
from tests.lab.mutations import MUTATIONS, SAMPLE, Mutation, batches, compatible, named, pending

ROLES = sorted(path for path in (ROOT / "roles").glob("*.py") if path.stem != "__init__")

#: Functions of a role that take away or look instead of applying.
NOT_APPLYING = ("remove", "passes")


def _pattern(value: ast.expr) -> str:
    """The name of an operation as a regular expression: what is only known at run time is any text."""
    if isinstance(value, ast.Constant):
        return re.escape(str(value.value))
    assert isinstance(value, ast.JoinedStr), ast.dump(value)
    return "".join(re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".+" for part in value.values)


def _operations_of(path: Path) -> Iterator[tuple[str, str | None]]:
    """Every call of an operation in a role: where it is, and the pattern of its full name (None without a name)."""
    tree = ast.parse(path.read_text())
    modules = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module in ("ojai.operations", "pyinfra.operations")
        for alias in node.names
    }
    for function in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
        if function.name in NOT_APPLYING:
            continue
        titles = [
            decorator.args[0].value
            for decorator in function.decorator_list
            if isinstance(decorator, ast.Call) and isinstance(decorator.args[0], ast.Constant)
        ]
        prefix = re.escape(f"{titles[0]} | ") if titles else ""
        for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
            called = call.func
            if not (
                isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and called.value.id in modules
            ):
                continue
            names = [keyword.value for keyword in call.keywords if keyword.arg == "name"]
            yield f"{path.name}:{call.lineno}", prefix + _pattern(names[0]) if names else None


OPERATIONS = [found for path in ROLES for found in _operations_of(path)]


@pytest.mark.parametrize(("where", "pattern"), OPERATIONS, ids=[f"{where} {name}" for where, name in OPERATIONS])
def test_every_operation_of_every_role_is_touched_by_a_mutation(where, pattern):
    assert pattern, f"{where}: an operation without a name"
    touched = {name for mutation in MUTATIONS for name in (*mutation.operations, *mutation.hidden)}
    assert any(re.fullmatch(pattern, name) for name in touched), f"{where}: no mutation touches {pattern}"


@pytest.mark.parametrize("path", [*ROLES, ROOT / "deploy.py"], ids=lambda path: path.name)
def test_a_role_has_no_operation_that_the_reader_does_not_see(path):
    """It knows operations by their module: a role imports those, and of what is in them at most constants."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not [alias.name for alias in node.names if "operations" in alias.name]
        elif isinstance(node, ast.ImportFrom) and "operations" in (node.module or ""):
            assert path.name != "deploy.py", "deploy.py calls roles, no operations"
            within = node.module not in ("ojai.operations", "pyinfra.operations")
            assert not within or all(alias.name.isupper() for alias in node.names), ast.unparse(node)


def test_the_operations_of_the_roles_are_found():
    """The reader of the roles reads: a few that are known to be there, one of each kind of name."""
    found = [pattern for _, pattern in OPERATIONS]
    assert re.escape("Sysctl | Set kernel parameters") in found
    assert re.escape("Recheck GPU memory after the reboot") in found
    assert any(pattern and re.fullmatch(pattern, "vLLM | vllm-gemma4: start the service") for pattern in found)
    assert len(found) > 25


def test_every_operation_that_a_mutation_names_exists():
    for mutation in MUTATIONS:
        for name in (*mutation.operations, *mutation.may, *mutation.hidden):
            assert any(pattern and re.fullmatch(pattern, name) for _, pattern in OPERATIONS), (mutation.name, name)


def test_there_are_enough_and_each_has_its_own_name():
    names = [mutation.name for mutation in MUTATIONS]
    assert len(set(names)) == len(names) >= 60


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_is_whole(mutation: Mutation):
    re.compile(mutation.named)
    re.compile(mutation.refused)
    assert mutation.damage.strip()
    assert mutation.operations or mutation.refused, "nothing would be seen of it"
    assert bool(mutation.refused) == bool(mutation.why) == bool(mutation.undo), "a refusal has a reason and a way out"
    assert not mutation.undo_boots or mutation.undo
    assert not mutation.then or mutation.boots
    assert not re.search(mutation.named, ""), "it would be named by nothing at all"


def test_the_sample_has_one_of_every_role_that_can_be_run_together():
    sample = [named(name) for name in SAMPLE]
    assert sorted(mutation.role for mutation in sample) == sorted({m.role for m in MUTATIONS} - {"Preflight"})
    docker, vllm = (next(m for m in sample if m.role == role) for role in ("Docker", "vLLM"))
    assert not compatible(docker, vllm) and not {*docker.operations} & {"Docker | Start Docker"}
    assert all(
        compatible(one, other)
        for one in sample
        for other in sample
        if one is not other and {one.role, other.role} != {"Docker", "vLLM"}
    )


def test_batches_keep_all_and_hide_nothing():
    made = batches(list(MUTATIONS))
    assert [m for batch in made for m in batch if m not in MUTATIONS] == []
    assert sum(map(len, made)) == len(MUTATIONS)
    for batch in made:
        for number, one in enumerate(batch):
            for other in batch[number + 1 :]:
                assert not set(one.operations[:1]) & {*other.operations, *other.may}
                assert not set(other.operations[:1]) & {*one.operations, *one.may}
                assert {one.role, other.role} != {"Docker", "vLLM"} or one.preflight


def test_the_page_has_every_mutation_and_is_fresh():
    assert drift.PAGE.read_text() == drift.page(results.load(drift.KIND)), "run python -m tests.lab.drift --page"
    kept = results.load(drift.KIND)
    assert [name for name, record in kept.items() if record["survived"]] == [], "a survivor is a defect, not a footnote"
    assert len(kept) >= 60
    for mutation in MUTATIONS:
        assert drift.PAGE.read_text().count(f"\n| {results.cell(mutation.name)} |") == 1, mutation.name


def test_a_survivor_stands_in_the_page():
    mutation = MUTATIONS[0]
    record = drift.Seen(mutation, caught=["kernel: x"], faults=["it was not mended"]).record(3, 99.6, "abc")
    text = drift.page({mutation.name: record})
    assert f"| {mutation.name} | kernel: x | SURVIVED |" in text
    assert "1 SURVIVED" in text and f"{len(MUTATIONS) - 1} not run" in text


ONE = Mutation("one", "R", "true", "one", ("R | a",), ("R | b",))
TWO = Mutation("two", "S", "true", "two", ("S | c",))
NO = Mutation("no", "T", "true", "no", ("T | d",), refused="because", why="w", undo="u")


def _deploy(status: int, changed: list[str], output: str = "") -> Deploy:
    return Deploy(status, changed, 0, [], output)


def _faults(mutations: list[Mutation], done: Deploy) -> dict[str, list[str]]:
    seen = [drift.Seen(mutation) for mutation in mutations]
    drift.judge_deploy(seen, done)
    return {one.mutation.name: one.faults for one in seen}


def test_a_deploy_that_mends_just_what_it_should_has_no_faults():
    for changed in (["R | a", "S | c"], ["R | a", "R | b", "S | c"]):
        assert _faults([ONE, TWO], _deploy(0, changed)) == {"one": [], "two": []}


@pytest.mark.parametrize(
    ("done", "one", "two"),
    [
        (_deploy(0, ["R | a"]), [], ["the deploy did not report: S | c"]),
        (
            _deploy(0, ["R | a", "S | c", "X | y"]),
            ["the deploy also reported: X | y"],
            ["the deploy also reported: X | y"],
        ),
        (_deploy(1, ["R | a", "S | c"], "broke"), *2 * [["the deploy ended with status 1: broke"]]),
        (_deploy(0, ["R | a", "S | c"], "Traceback"), *2 * [["the deploy ended with a traceback"]]),
    ],
)
def test_a_survivor_is_seen(done, one, two):
    assert _faults([ONE, TWO], done) == {"one": one, "two": two}


def test_a_refusal_must_come_with_its_words_and_change_nothing():
    assert _faults([NO], _deploy(1, [], "because")) == {"no": []}
    assert _faults([NO], _deploy(0, [])) == {"no": ["the deploy did not refuse"]}
    assert _faults([NO], _deploy(1, [], "x")) == {"no": ["the refusal does not say because: x"]}
    assert _faults([NO], _deploy(1, ["T | d"], "because")) == {"no": ["the deploy also reported: T | d"]}


def test_a_check_that_names_it_is_told_by_area_and_name():
    red = drift.Verified(
        False, ["rocm: one key: /etc/a\nis gone", "drift: the deploy: the next deploy would: R | a; S | c"]
    )
    assert red.caught("one key.*gone") == ["rocm: one key"]
    assert red.caught(pending("S | c")) == ["drift: the deploy"]
    assert red.caught("R . b") == []
