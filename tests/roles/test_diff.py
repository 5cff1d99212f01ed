"""``--diff`` shows what becomes of our files and of our part of daemon.json, and nothing of an environment file."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def dry_diff(host):
    argv = [
        sys.executable,
        "-m",
        "pyinfra",
        "--dry",
        "--diff",
        "--limit",
        host,
        "inventory/fake.py",
        "deploy.py",
    ]
    environment = {**os.environ, "HF_TOKEN": "hf_sentinelSENTINEL"}
    done = subprocess.run(
        argv, cwd=ROOT, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    shown = done.stdout + done.stderr
    assert done.returncode == 0, shown
    assert shown.find("hf_sentinelSENTINEL") < 0
    return shown


def test_diff_shows_our_files_and_no_environment_file():
    shown = dry_diff("@fake/mini-00")
    assert "+vm.overcommit_memory = 1" in shown and "+ExecStart=/usr/bin/docker" in shown
    # the ledger's format, what unattended-upgrades leaves alone, sysctl drop-in, ROCm source, pin, loader path, unit;
    # the gateway's configuration, programs and three units; what the surface's record is made by
    assert shown.count("+++ as it should be") == 15
    assert ".env:" not in shown and "daemon.json" not in shown


def test_diff_shows_our_part_of_daemon_json_where_there_is_one():
    shown = dry_diff("@fake/mini-02")
    assert "/etc/docker/daemon.json:" in shown and '+        "https://registry.example.net"' in shown
    assert "log-driver" not in shown.replace("--log-driver=json-file", "")
