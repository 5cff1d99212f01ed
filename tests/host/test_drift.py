"""The deploy itself finds nothing to change: no managed file, package or service has been touched by hand."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def _told(said: str) -> str:
    """Why the deploy refuses the host, in one line; else the last that it said."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return "the next deploy would refuse: " + " ".join([line for line in lines if "preflight" in line] or lines[-5:])


def test_the_deploy_would_change_nothing(entry, pytestconfig):
    argv = [sys.executable, "-m", "pyinfra", "--json", "--limit", entry.name, pytestconfig.getoption("--inventory")]
    # Without -y this only looks; the plan names what a run would change.
    done = subprocess.run(
        [*argv, pytestconfig.getoption("--deploy")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, _told(done.stderr)
    plan = json.loads(done.stdout)["plan"]
    pending = [operation["name"] for operation in plan if entry.name in operation["hosts_with_change"]]
    assert pending == [], f"the next deploy would: {'; '.join(pending)}"
