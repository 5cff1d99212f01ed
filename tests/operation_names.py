"""The names of the deploy's operations: each has a short key in operations.yaml, and a dry run shows what exists."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import yaml

from ojai.settings import inventory
from ojai.settings.lock import VARIABLE, Lock, models_of, profile_hash

ROOT = Path(__file__).resolve().parents[1]
INVENTORY = ROOT / "tests" / "roles" / "inventories" / "every_operation.py"
TABLE = Path(__file__).with_name("operations.yaml")

#: Key -> name, as the deploy shows it.
NAMES: dict[str, str] = yaml.safe_load(TABLE.read_text())["operations"]

#: Name -> key.
KEYS = {name: key for key, name in NAMES.items()}


def lock() -> Lock:
    """A lock that fits every host of the inventory, and has a package of one of them."""
    services = [one for entry in inventory.read(str(INVENTORY)) for one in entry.settings.resolved]
    files = {"config.json": {"size": 1, "hash": "0" * 40}}
    image = {"digest": f"sha256:{'0' * 64}", "engine": "vllm 0.20.1", "contract": "0" * 64}
    kernel = {"linux-generic-hwe-24.04": "6.17.0-20.20"}
    return Lock.model_validate(
        {
            "ojai": "0",
            "images": {one.image: image for one in services if "@" not in one.image},
            "models": {name: {"commit": "0" * 40, "files": files} for one in services for name in models_of(one)},
            "packages": {f"kernel {name}": {"taken": "20261101T000000Z", "versions": kernel} for name in kernel},
            "profiles": {one.profile.name: profile_hash(one.profile.name) for one in services},
        }
    )


@cache
def collected() -> frozenset[str]:
    """The names of all operations in a dry run of the deploy, without those of a removal."""
    argv = [sys.executable, "-m", "pyinfra", "--json", str(INVENTORY), "deploy.py"]
    with tempfile.NamedTemporaryFile("w", suffix=".lock") as file:
        file.write(lock().text())
        file.flush()
        done = subprocess.run(
            argv,
            cwd=ROOT,
            env={**os.environ, VARIABLE: file.name},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        )
    return frozenset(entry["name"] for entry in json.loads(done.stdout)["plan"] if ": removal | " not in entry["name"])
