"""What a long run has seen, kept in a JSON file a kind, from which the pages of docs/reference are written."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from ojai.lab.image import ENGINES
from tests.lab.machine import ROOT

FOLDER = Path(__file__).with_name("results")
REFERENCE = ROOT / "docs" / "reference"

#: The lab's engine unless another one is asked for, whose results are kept in a file of their own.
DEFAULT, *OTHERS = ENGINES

#: What is kept of one case. Every kind has ``passed``, ``failures``, ``seconds`` and ``commit``.
Record = dict[str, Any]


def _path(kind: str, engine: str) -> Path:
    return FOLDER / (f"{kind}.json" if engine == DEFAULT else f"{kind}-{engine}.json")


def load(kind: str, engine: str = DEFAULT) -> dict[str, Record]:
    """The results of a kind (``drift``, ``interruptions``, ``upgrades``) by name; none when it was never run."""
    path = _path(kind, engine)
    return json.loads(path.read_text()) if path.exists() else {}


def save(kind: str, results: dict[str, Record], engine: str = DEFAULT) -> None:
    """Write them, one rename: a run that is cut short loses nothing."""
    FOLDER.mkdir(exist_ok=True)
    path = _path(kind, engine)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    new.replace(path)


def commit() -> str:
    """The commit that is being measured, with ``+`` when the code differs from it."""
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    code = ["deploy.py", "config.py", "inventory", "roles", "ojai", "templates", "profiles", "lab", "tests/host"]
    dirty = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", *code], cwd=ROOT, check=False)
    return head.stdout.strip() + ("+" if dirty.returncode else "")


def cell(text: str) -> str:
    """Text as it may stand in a cell of a Markdown table."""
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
