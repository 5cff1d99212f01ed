"""Fixtures of operations, by pyinfra's own harness, with the facts' dataclasses.

pyinfra_testing hands an operation the fixture's plain mappings. Our facts answer with dataclasses and tuples, and the
operations use their methods, so :class:`Host` turns a fixture's value into the type that the fact declares
(``FactBase[T]``), and refuses a key that this type has not. In a fixture, ``!python module:name`` is an object of
Python's (for arguments that are functions).
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from contextlib import nullcontext
from types import NoneType
from typing import Any, get_args, get_origin
from unittest.mock import patch

import yaml
from pydantic import TypeAdapter

# pyinfra's command line patches the whole process for gevent when it is imported; these tests need none of that.
with patch("gevent.monkey.patch_all"):
    import pyinfra_cli  # noqa: F401
    from pyinfra_testing import operations as pyinfra_operations
    from pyinfra_testing.util import FakeFact, FakeHost, FakeState

HOST = "mini"


def declared(fact: type) -> Any:
    """The type that a fact of ours answers with; None for pyinfra's own, which declare none."""
    for base in getattr(fact, "__orig_bases__", ()):
        if fact.__module__.startswith("ojai."):
            return get_args(base)[0]
    return None


def typed(kind: Any, value: Any) -> Any:
    """``value`` of a fixture as ``kind``. Raises KeyError for a key that ``kind`` does not have."""
    _known(kind, value)
    return TypeAdapter(kind).validate_python(value)


def _known(kind: Any, value: Any) -> None:
    kinds = [member for member in get_args(kind) or (kind,) if member is not NoneType]
    if get_origin(kind) is dict:
        for entry in value.values():
            _known(kinds[1], entry)
    elif isinstance(value, Mapping) and dataclasses.is_dataclass(kinds[0]):
        unknown = set(value) - {field.name for field in dataclasses.fields(kinds[0])}
        if unknown:
            raise KeyError(f"{kinds[0].__name__} has no {', '.join(sorted(unknown))}")


class Host(FakeHost):
    """The harness's host, whose facts have the types of ours."""

    def get_fact(self, fact_cls: type, *args: Any, **kwargs: Any) -> Any:
        value = super().get_fact(fact_cls, *args, **kwargs)
        value = value.data if isinstance(value, FakeFact) else value
        kind = declared(fact_cls)
        return typed(kind, value) if kind else value


def create_host(state: FakeState, name: str | None = None, facts: Any = None, data: Any = None) -> Host:
    """What the harness makes its host with."""
    return Host(state, name or HOST, facts or {}, data or {})


def python(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
    """``!python module:name``."""
    module, name = loader.construct_scalar(node).split(":")
    return getattr(importlib.import_module(module), name)


yaml.SafeLoader.add_constructor("!python", python)


def make_tests(path: str, folder: Any) -> type:
    """A test class for ``module.operation`` of ours with one test for each fixture in ``folder``."""
    made = pyinfra_operations.make_operation_tests("ojai.operations", path, folder)
    # It would replace os.stat and open for files of the controller, of which no operation of ours takes any.
    made = patch.object(pyinfra_operations, "patch_files", lambda files: nullcontext())(made)
    return patch.object(pyinfra_operations, "create_host", create_host)(made)
