"""A role of a user's own reads the free part of the host data, beside the project's roles."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_role_reads_vars(tmp_path):
    inventory = tmp_path / "own.py"
    inventory.write_text(
        "own = [('@fake/own', {'fake_delay': 0, 'vars': {'site': 'berlin', 'backup': {'keep': 7}}})]\n"
    )
    deploy = tmp_path / "own_deploy.py"
    deploy.write_text(
        "from pyinfra import host\n"
        "from pyinfra.operations import server\n"
        "from ojai.settings.inventory import settings_of\n"
        "settings_of(host)\n"
        "own = host.data.vars\n"
        "server.shell(name=f\"Back up {own['site']}, keep {own['backup']['keep']}\", commands=['true'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pyinfra", "--dry", str(inventory), str(deploy)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Back up berlin, keep 7" in done.stderr
