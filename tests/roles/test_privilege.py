"""An account that may not use sudo is told so, and what to do, before anything else is asked of its host."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INVENTORY = """
from ojai.fake import fake_host
name, data = fake_host("locked", {})
answers = {"id -u": {"success": False, "stderr": "sudo: a password is required"}, **data["fake_responses"]}
hosts = [(name, {**data, "fake_responses": answers}), fake_host("open", {})]
"""


def test_a_host_without_sudo_is_refused_and_the_other_goes_on(tmp_path):
    inventory = tmp_path / "closed.py"
    inventory.write_text(INVENTORY)
    done = subprocess.run(
        [sys.executable, "-m", "pyinfra", "--dry", str(inventory), "deploy.py"],
        cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    found, _, recap = done.stderr.partition("--> Recap:")
    told = [line for line in found.splitlines() if "privilege" in line]
    assert done.returncode == 1
    assert len(told) == 1 and "@fake/locked" in told[0] and "a password is required" in told[0]
    assert "--use-sudo-password" in told[0]
    assert "Traceback" not in done.stderr
    assert "@fake/locked  REFUSED  privilege: found" in recap and "@fake/open    ok  " in recap
    assert "@fake/open" in done.stdout + done.stderr
