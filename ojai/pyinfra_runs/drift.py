"""Would the deploy change a host? A dry run that has to find nothing, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ojai.connection.likely import likely
from ojai.connection.lock import RUNNING
from ojai.settings.inventory import Entry
from ojai.settings.lock import VARIABLE
from ojai.settings.secrets import LOOKING

#: How the message of a host that gave no answer begins.
UNREACHABLE = "cannot be reached"

#: In place of the config.py beside the deploy, or in the current folder, where there is none.
_CONFIG = {"_sudo": True}


#: The inventory of a run that gets its hosts as data.
GIVEN = f"{__package__}.given_host.inventory"


def given(entries: Sequence[Entry], deploy: Path) -> tuple[Path, str]:
    """The folder in which a run of a deploy has its config.py, and the hosts as :data:`GIVEN` reads them."""
    folder = next((place for place in (deploy.parent, Path.cwd()) if (place / "config.py").is_file()), None)
    hosts = [
        {"name": one.name, "groups": one.groups, "data": dict(one.data) if folder else {**_CONFIG, **one.data}}
        for one in entries
    ]
    return folder or deploy.parent, json.dumps(hosts)


def find_drift(entry: Entry, deploy: Path, timeout_seconds: float | None = None) -> str | None:
    """What the deploy would change on the host, or why it would refuse it; None when it finds nothing to do.

    The host is handed over as data: the inventory is not read again. Raises ``subprocess.TimeoutExpired``.
    """
    deploy = deploy.resolve()
    folder, hosts = given([entry], deploy)
    # Without -y this only looks; the plan names what a run would change.
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pyinfra", "--json", GIVEN, str(deploy)],
        cwd=folder,
        env={**os.environ, VARIABLE: str(entry.lock or ""), LOOKING: "1"},
        input=hosts,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_seconds,
    )
    if done.returncode != 0 and f"[{entry.name}] Connected" not in done.stderr:
        reason = _reason(done.stderr, f"[{entry.name}] ").replace(f"[{entry.name}] ", "")
        where = likely(entry.name, entry.data, reason)
        return f"{UNREACHABLE} by pyinfra: {reason}. Look in the inventory at {where}"
    if done.returncode != 0:
        return f"the next deploy would refuse: {_reason(done.stderr, 'preflight')}"
    plan = json.loads(done.stdout)["plan"]
    pending = [operation["name"] for operation in plan if entry.name in operation["hosts_with_change"]]
    if not pending:
        return None
    busy = f" ({_reason(done.stderr, RUNNING)})" if RUNNING in done.stderr else ""
    return f"the next deploy would: {'; '.join(pending)}{busy}"


def _reason(stderr: str, mark: str) -> str:
    """The lines with this mark, from there on; else the last ones. All in one line."""
    lines = [line.strip() for line in stderr.partition("--> Recap")[0].splitlines() if line.strip()]
    return " ".join([line[line.index(mark) :] for line in lines if mark in line] or lines[-5:])
