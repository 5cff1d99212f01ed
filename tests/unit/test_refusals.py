"""Rule 2 of decision 10: what cannot work is refused while looking. A refusal while changes are made says why."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import ojai.operations
import ojai.preflight

#: Operation with refusals -> the check of preflight that says the same earlier, or why it can only be known later.
REFUSALS: dict[str, tuple[str, ...] | str] = {
    "apt.packages": ("packages on hold", "apt pins"),
    "docker.image": "it is about a login on this machine, not about the host: nothing was sent",
    "files.folders": ("data folder",),
    "files.json_merged": ("daemon.json",),
    "groups.devices": ("GPU driver",),
    "kernel.at_least": "which kernel runs is known after the reboot",
    "kernel.reboot_if_required": "which kernel comes up is known after the reboot",
    "kernel.ttm_limit": ("TTM limit",),
    "preflight.recheck": "the GPU's memory is known after the reboot",
    "release.restored": "it is all that `ojai rollback` does: nothing was changed before it",
    "service.running": ("systemd drop-ins",),
    "tune.tuned": "it is all that `ojai tune` does: nothing was changed before it",
    "weights.client": "it is about this machine, not about the host: nothing was sent",
    "sysctl.drop_in": ("kernel parameters", "set up by hand"),
}


def refusing() -> dict[str, int]:
    """Function of ojai/operations -> its calls of ``refuse``."""
    found: Counter[str] = Counter()
    for file in Path(ojai.operations.__file__).parent.glob("*.py"):
        for function in ast.walk(ast.parse(file.read_text())):
            if isinstance(function, ast.FunctionDef):
                calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
                count = sum(isinstance(call.func, ast.Name) and call.func.id == "refuse" for call in calls)
                if count:
                    found[f"{file.stem}.{function.name}"] += count
    return found


def test_every_refusal_while_changes_are_made_is_listed():
    assert set(refusing()) == set(REFUSALS)


def test_what_is_said_to_be_found_earlier_is_a_check_of_preflight():
    sources = "\n".join(file.read_text() for file in Path(ojai.preflight.__file__).parent.glob("*.py"))
    checks = set(re.findall(r'FailedCheck\(\s*f?"([^"]+)"', sources))
    for name, earlier in REFUSALS.items():
        assert isinstance(earlier, str) or set(earlier) <= checks, name
