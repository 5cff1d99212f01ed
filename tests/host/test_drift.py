"""The deploy itself finds nothing to change: no managed file, package or service has been touched by hand."""

import json
import subprocess
import sys

import pytest


def _told(said: str) -> str:
    """Why the deploy refuses the host, in one line; else the last that it said."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return "the next deploy would refuse: " + " ".join([line for line in lines if "preflight" in line] or lines[-5:])


def test_the_deploy_would_change_nothing(entry, pytestconfig):
    argv = [sys.executable, "-m", "pyinfra", "--json", "--limit", entry.name, pytestconfig.getoption("--inventory")]
    # Without -y this only looks; the plan names what a run would change.
    done = subprocess.run([*argv, pytestconfig.getoption("--deploy")], capture_output=True, text=True, check=False)
    # pytest shortens what an assertion says; this has to name all.
    if done.returncode != 0:
        pytest.fail(_told(done.stderr), pytrace=False)
    plan = json.loads(done.stdout)["plan"]
    pending = [operation["name"] for operation in plan if entry.name in operation["hosts_with_change"]]
    if pending:
        pytest.fail(f"the next deploy would: {'; '.join(pending)}", pytrace=False)
