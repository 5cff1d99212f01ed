"""Facts from recorded answers: ``facts/<module>.<Fact>/<case>.yaml`` has the host's ``output`` and the ``fact``.

That the commands give such output is shown in test_facts_for_real.py.
"""

import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest
import yaml
from operation_harness import declared, typed
from pyinfra.api import FactBase

import ojai.facts

HERE = Path(__file__).parent / "facts"
CASES = sorted(HERE.glob("*/*.yaml"))


def facts() -> dict[str, type]:
    """``module.Name`` -> class, of everything under ``ojai.facts``."""
    found = {}
    for entry in pkgutil.walk_packages(ojai.facts.__path__, "ojai.facts."):
        module = importlib.import_module(entry.name)
        for name, value in inspect.getmembers(module, inspect.isclass):
            if issubclass(value, FactBase) and value.__module__ == module.__name__:
                found[f"{entry.name.removeprefix('ojai.facts.')}.{name}"] = value
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}-{case.stem}")
def test_recorded(case):
    kind = facts()[case.parent.name]
    recorded = yaml.safe_load(case.read_text())
    assert kind().process(recorded["output"].splitlines()) == typed(declared(kind), recorded["fact"])


def test_every_fact_has_recordings():
    assert set(facts()) == {case.parent.name for case in CASES}


@pytest.mark.parametrize("name", sorted(facts()))
def test_the_default_is_of_the_declared_type(name):
    """What pyinfra answers for a host that says nothing: a roles' first dry run meets it."""
    kind = facts()[name]
    default = kind().default()
    assert typed(declared(kind), default) == default
