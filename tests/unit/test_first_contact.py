"""The public cases: each that failed has an outcome, shown by tests that exist, in a page that is fresh."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

from tools import first_contact_table

ROOT = Path(__file__).resolve().parents[2]
CASES = yaml.safe_load((first_contact_table.DATA / "cases.yaml").read_text())
OUTCOMES = first_contact_table.outcomes()
TESTS = sorted({test for found in OUTCOMES.values() for entry in found for test in first_contact_table.tests_of(entry)})


def test_the_page_is_fresh():
    assert first_contact_table.main(["--check"]) == 0


@pytest.mark.parametrize("case", [case for case in CASES if "fail" in case["verdict"]], ids=lambda case: case["case"])
def test_every_case_that_failed_has_an_outcome(case):
    assert OUTCOMES.get(case["case"])


def test_no_outcome_is_of_an_unknown_case():
    assert set(OUTCOMES) <= {case["case"] for case in CASES}


@pytest.mark.parametrize("test", TESTS)
def test_the_tests_that_the_page_names_exist(test):
    file, _, name = test.partition("::")
    name = name.partition("[")[0]
    if file.endswith(".yaml"):  # a fixture, or a case of the lab by its name
        text = (ROOT / file).read_text()
        assert not name or f"name: {name}" in text
        return
    functions = {
        node.name for node in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(node, ast.FunctionDef)
    }
    assert name in functions
