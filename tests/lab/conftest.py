"""A virtual machine of these tests' own, and the two commands a person would type at it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".lab-test"
INVENTORY = "inventory/lab.py"

#: Longest that one command may take (seconds); a first deploy under emulation needs a few minutes.
PATIENCE = 1500


def run(*argv: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A command of the project, in the project's folder, for the tests' own lab."""
    environment = {**os.environ, "OJAI_LAB_DIR": str(FOLDER), "NO_COLOR": "1", **(env or {})}
    return subprocess.run(
        argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def ojai(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "ojai", *words, env=env)


@dataclass(frozen=True)
class Deploy:
    """One run of the deploy. ``changed``: names of the operations that changed something."""

    status: int
    changed: list[str]
    errors: int
    failed_hosts: list[str]
    output: str


def deploy(*words: str, env: dict[str, str] | None = None) -> Deploy:
    done = run(sys.executable, "-m", "pyinfra", "-y", "--json", *words, INVENTORY, "deploy.py", env=env)
    try:
        results = json.loads(done.stdout)["results"]
    except ValueError:
        return Deploy(done.returncode, [], 0, [], done.stdout + done.stderr)
    changed = [operation["name"] for operation in results["operations"] if operation["success"]]
    return Deploy(
        done.returncode, changed, results["totals"]["error"], results["failed_hosts"], done.stdout + done.stderr
    )


@dataclass(frozen=True)
class Guest:
    """The virtual machine, over the lab's own ssh."""

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        return ojai("lab", "ssh", "lab", "--", command)

    def text(self, command: str) -> str:
        done = self.run(command)
        assert done.returncode == 0, f"`{command}`: {done.stderr}"
        return done.stdout.strip()

    def root(self, command: str) -> str:
        return self.text(f"sudo sh -c {shlex.quote(command)}")

    def fingerprint(self) -> str:
        """What a deploy could change: installed packages, files under /etc and /srv, units, groups."""
        return self.root(
            "dpkg-query -W; find /etc /srv /opt /boot /usr/lib/modules -xdev "
            "\\( -path /etc/ssh/ssh_host* -o -name '*.log' \\) -prune -o -type f -printf '%p %s %T@ %m %u\\n' | sort; "
            "systemctl list-unit-files --no-legend --no-pager; getent group; uname -r; sysctl vm.overcommit_memory; "
            "cat /proc/sys/kernel/random/boot_id"
        )


@pytest.fixture(scope="session")
def stock() -> Iterator[Guest]:
    """A guest that nobody has deployed to yet, on its stock kernel."""
    keep = bool(os.environ.get("OJAI_LAB_KEEP"))  # for work on the tests themselves: a guest that is there is taken
    if not keep:
        ojai("lab", "down", "--destroy")
    up = ojai("lab", "up")
    assert up.returncode == 0, up.stderr
    yield Guest()
    if keep:
        return
    down = ojai("lab", "down", "--destroy")
    assert down.returncode == 0, down.stderr


@pytest.fixture(scope="session")
def first(stock: Guest) -> tuple[Deploy, str, str]:
    """The first deploy; with the guest's kernel release and boot id from before it."""
    before = stock.text("uname -r; cat /proc/sys/kernel/random/boot_id").split()
    return deploy(), before[0], before[1]


@pytest.fixture(scope="session")
def guest(stock: Guest, first: tuple[Deploy, str, str]) -> Guest:
    """A guest that has been deployed to."""
    assert first[0].status == 0, first[0].output[-6000:]
    return stock
