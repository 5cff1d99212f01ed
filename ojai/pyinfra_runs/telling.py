"""The verdict of ``ojai verify``, told to those who watch a host: as samples in a file there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from ojai import watch
from ojai.pyinfra_runs.collect import failure_of
from ojai.pyinfra_runs.drift import GIVEN
from ojai.pyinfra_runs.verification import DRIFT, Verdict
from ojai.settings.inventory import Entry
from ojai.settings.lock import VARIABLE

#: The environment variable by which the text comes to ``verdict_deploy.py``.
VERDICT = "OJAI_VERDICT"

#: Seconds that it may take.
_TIMEOUT = 60


def tell(entry: Entry, verdict: Verdict) -> str | None:
    """Leave the verdict on its host, if that is watched and was reached; why that failed, or None."""
    if not watch.wanted(entry.settings) or verdict.state not in ("ok", "failed"):
        return None
    counts = {outcome: verdict.count(outcome) for outcome in ("passed", "failed", "skipped")}
    drifted = [check.outcome == "failed" for check in verdict.checks if check.area == DRIFT]
    text = watch.verdict(counts, any(drifted) if drifted else None, time.time())
    data = {"_sudo": True, **entry.data}
    deploy = Path(__file__).with_name("verdict_deploy.py")
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "pyinfra", "-y", GIVEN, str(deploy)],
            cwd=deploy.parent,
            env={**os.environ, VARIABLE: "", VERDICT: text},
            input=json.dumps([{"name": entry.name, "groups": entry.groups, "data": data}]),
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {_TIMEOUT} s"
    if done.returncode == 0:
        return None
    return failure_of(entry.name, done.stderr) or " ".join(done.stderr.splitlines()[-3:])
