"""``python -m ojai.settings.listing INVENTORY``: the hosts of an inventory as JSON, or why it cannot be read.

A process of its own: pyinfra's command line patches the one it runs in, and an inventory is a program.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

from pyinfra.api.exceptions import InventoryError

from ojai.settings.inventory import load


def main(inventory: str) -> None:
    """Print the hosts (name, groups, data), or an object with the ``error``."""
    with os.fdopen(os.dup(1), "w") as answer, contextlib.redirect_stdout(sys.stderr):
        try:
            hosts = load(inventory, cwd=str(Path.cwd()))
            text = json.dumps([{"name": h.name, "groups": list(h.groups), "data": h.data.dict()} for h in hosts])
        except (InventoryError, TypeError, ValueError) as error:
            text = json.dumps({"error": str(error).strip()})
        answer.write(text)


if __name__ == "__main__":
    main(sys.argv[1])
