"""An inventory for pyinfra, ``ojai.pyinfra_runs.given_host.inventory``: hosts, as JSON on standard input."""

from __future__ import annotations

import json
import sys
from functools import cache
from typing import Any


@cache  # pyinfra asks for it, and so does the check of all data in config.py
def inventory() -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """The hosts in each of their groups."""
    found: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for host in json.load(sys.stdin):
        for group in host["groups"] or ["given"]:
            found.setdefault(group, []).append((host["name"], host["data"]))
    return found
