"""An inventory for pyinfra, ``ojai.pyinfra_runs.given_host.inventory``: one host, as JSON on standard input."""

from __future__ import annotations

import json
import sys
from functools import cache
from typing import Any


@cache  # pyinfra asks for it, and so does the check of all data in config.py
def inventory() -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """The host in each of its groups."""
    host = json.load(sys.stdin)
    return {group: [(host["name"], host["data"])] for group in host["groups"] or ["given"]}
