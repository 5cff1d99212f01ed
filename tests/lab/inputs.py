"""What the result of a drift case depends on: while none of it changes, a run that is resumed leaves the case out.

The case itself; its role, its checks and its templates; every module of ojai that these import, at any distance, and
the data that those read; how a case is run and judged.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from dataclasses import asdict
from functools import cache
from pathlib import Path

import grimp

from tests.lab.cases import DriftCase
from tests.lab.machine import ROOT

#: What judges every case.
_COMMON = tuple(ROOT / "tests" / "lab" / name for name in ("drift.py", "contained.py", "contained_deploy.py"))

#: Cases that are no role's, and what they are about.
_ROLES = {"Harmless": "surface"}

#: What a role's module reads or is preceded by, without an import.
_BESIDE = {"surface": ("ojai.surface.program", "ojai.preflight.host")}


@cache
def _graph() -> grimp.ImportGraph:
    return grimp.build_graph("ojai")


def _file(module: str) -> Path:
    found = importlib.util.find_spec(module)
    assert found and found.origin, module
    return Path(found.origin).resolve()


def files(role: str) -> set[Path]:
    """The files of this project that the cases of a role depend on."""
    name = _ROLES.get(role, role.lower())
    module, checks = f"ojai.roles.{name}", ROOT / "tests" / "host" / f"test_{name}.py"
    imported = re.findall(r"^(?:from|import) (ojai[\w.]*)", checks.read_text(), re.MULTILINE) if checks.exists() else []
    graph = _graph()
    starts = {module, *_BESIDE.get(name, ()), *imported} & graph.modules
    modules = starts.union(*(graph.find_upstream_modules(one) for one in starts))
    found = {_file(one) for one in modules}
    named = {one for file in found for one in re.findall(r'resources\.data\("([^"]+)"\)', file.read_text())}
    found |= {ROOT / "ojai" / "data" / f"{one}.yaml" for one in named}
    found |= {file for file in (ROOT / "templates" / name).rglob("*") if file.is_file()}
    return {*found, *_COMMON, *([checks] if checks.exists() else [])}


@cache
def _content(role: str) -> str:
    digest = hashlib.sha256()
    for file in sorted(files(role)):
        digest.update(f"{file.relative_to(ROOT)}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def of(case: DriftCase) -> str:
    """One hash over all of it."""
    said = "".join(f"{name}={value!r}\n" for name, value in sorted(asdict(case).items()))
    return hashlib.sha256(f"{_content(case.role)}\n{said}".encode()).hexdigest()[:16]
