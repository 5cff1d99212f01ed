"""Every operation of ours, a fixture for each code path: ``operations/<module>.<operation>/<path>.yaml``."""

import importlib
import pkgutil
from pathlib import Path

import pytest
import yaml
from operation_harness import make_tests

import ojai.operations

HERE = Path(__file__).parent / "operations"
FOLDERS = sorted(folder for folder in HERE.iterdir() if folder.is_dir())

for folder in FOLDERS:
    globals()[f"Test_{folder.name.replace('.', '_')}"] = make_tests(folder.name, folder)


def operations() -> set[str]:
    """``module.name`` of everything under ``ojai.operations`` that ``@operation`` made."""
    found = set()
    for entry in pkgutil.iter_modules(ojai.operations.__path__):
        module = importlib.import_module(f"ojai.operations.{entry.name}")
        for name, value in vars(module).items():
            inner = getattr(value, "_inner", None)
            if inner is not None and inner.__module__ == module.__name__:
                found.add(f"{entry.name}.{name}")
    return found


def test_every_operation_has_fixtures():
    assert operations() == {folder.name for folder in FOLDERS}


@pytest.mark.parametrize("name", [folder.name for folder in FOLDERS])
def test_fixtures_show_a_change_and_a_noop_or_an_error(name):
    """One fixture an operation is a habit; two that end differently are a test."""
    ends = set()
    for file in (HERE / name).glob("*.yaml"):
        fixture = yaml.safe_load(file.read_text())
        steps = fixture.get("commands") or []
        refused = bool(steps) and isinstance(steps[0], list) and steps[0][0] == "_refuse"
        ends.add("error" if "exception" in fixture or refused else "change" if steps else "noop")
    assert len(ends) > 1, f"{name}: only {ends}"
