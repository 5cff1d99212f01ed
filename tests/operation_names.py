"""The names of the deploy's operations: each has a short key in operations.yaml, and a dry run shows what exists."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
INVENTORY = ROOT / "tests" / "roles" / "inventories" / "every_operation.py"
TABLE = Path(__file__).with_name("operations.yaml")

#: Key -> name, as the deploy shows it.
NAMES: dict[str, str] = yaml.safe_load(TABLE.read_text())["operations"]

#: Name -> key.
KEYS = {name: key for key, name in NAMES.items()}


@cache
def collected() -> frozenset[str]:
    """The names of all operations in a dry run of the deploy, without those of a removal."""
    argv = [sys.executable, "-m", "pyinfra", "--json", str(INVENTORY), "deploy.py"]
    done = subprocess.run(argv, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    return frozenset(entry["name"] for entry in json.loads(done.stdout)["plan"] if ": removal | " not in entry["name"])
