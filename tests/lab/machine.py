"""A lab of one's own, and the two commands a person would type at it. What tests.lab uses of ojai is imported here."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ojai.pyinfra_runs.converge import changes, failures
from ojai.pyinfra_runs.verification import CHECKS, read_junit

__all__ = ["CHECKS", "INVENTORY", "ROOT", "Deploy", "Guest", "Lab", "read_junit", "renamed"]

ROOT = Path(__file__).resolve().parents[2]
INVENTORY = "inventory/lab.py"

#: Longest that one command may take (seconds); a first deploy under emulation needs a few minutes.
TIMEOUT = 1500


def renamed(values: Mapping[str, Any], name: str, former: str) -> Any:
    """A value of ``ojai verify --json`` by its name, or by the name that it had up to 0.1.0."""
    return values[name] if name in values else values[former]


@dataclass(frozen=True)
class Deploy:
    """One run of the deploy. ``changed``: names of the operations that changed something."""

    status: int
    changed: list[str]
    errors: int
    failed_hosts: list[str]
    output: str

    @classmethod
    def of(cls, status: int, stdout: str, stderr: str) -> Deploy:
        """Read what ``pyinfra --json`` printed; when its only host fails it prints no document, only its progress."""
        try:
            results = json.loads(stdout)["results"]
        except ValueError:
            changed = [change.operation for change in changes(stderr.splitlines())]
            return cls(status, changed, len(failures(stderr.splitlines())), [], stdout + stderr)
        changed = [operation["name"] for operation in results["operations"] if operation["success"]]
        return cls(status, changed, results["totals"]["error"], results["failed_hosts"], stdout + stderr)


@dataclass(frozen=True)
class Lab:
    """The lab whose state is in ``folder``, with one host called ``lab``, and what is deployed to it.

    ``env``: the environment that the inventory wants.
    """

    folder: Path
    inventory: str = INVENTORY
    deploy_file: str = "deploy.py"
    env: dict[str, str] = field(default_factory=dict)

    def environment(self, env: dict[str, str] | None = None) -> dict[str, str]:
        """The environment of a command that is to use this lab."""
        suite = os.environ.get("OJAI_LAB_SUITE", "trixie")
        mine = {"OJAI_LAB_DIR": str(self.folder), "OJAI_LAB_SUITE": suite, "NO_COLOR": "1"}
        return {**os.environ, **mine, **self.env, **(env or {})}

    def run(self, *argv: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """A command of the project, in the project's folder."""
        return subprocess.run(
            argv, cwd=ROOT, env=self.environment(env), capture_output=True, text=True, timeout=TIMEOUT, check=False
        )

    def ojai(self, *words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """``ojai`` with these words."""
        return self.run(sys.executable, "-m", "ojai", *words, env=env)

    def deploy_argv(self, *words: str) -> list[str]:
        """The deploy's command line, ``words`` before the inventory."""
        return [sys.executable, "-m", "pyinfra", "-y", "--json", *words, self.inventory, self.deploy_file]

    def deploy(self, *words: str, env: dict[str, str] | None = None) -> Deploy:
        """The deploy, to its end."""
        done = self.run(*self.deploy_argv(*words), env=env)
        return Deploy.of(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Guest:
    """The lab's host, over the lab's own ssh."""

    lab: Lab

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        return self.lab.ojai("lab", "ssh", "lab", "--", command)

    def text(self, command: str) -> str:
        done = self.run(command)
        assert done.returncode == 0, f"`{command}`: {done.stderr}"
        return done.stdout.strip()

    def root(self, command: str) -> str:
        return self.text(f"sudo sh -c {shlex.quote(command)}")

    def counted(self, what: Callable[[], Deploy]) -> tuple[int, Deploy]:
        """How many commands sshd ran for ``what``, by its own log; and what that gave."""
        names = "--identifier=sshd --identifier=sshd-session"
        logged = f"journalctl {names} --output=cat | grep --count '^Starting session: command'"
        asked = f"sleep 1; journalctl --sync; {logged} || true"  # its own session is among them
        place = "/etc/ssh/sshd_config.d/00-count.conf"
        self.root(f"echo LogLevel VERBOSE >{place}; systemctl reload ssh")
        try:
            before = int(self.root(asked))
            found = what()
            after = int(self.root(asked))
        finally:
            self.root(f"rm {place}; systemctl reload ssh")
        return after - before - 1, found

    def fingerprint(self) -> str:
        """What a deploy could change: installed packages, files under /etc and /srv, units, groups."""
        return self.root(
            "dpkg-query -W; find /etc /srv /opt /boot /usr/lib/modules -xdev "
            "\\( -path /etc/ssh/ssh_host* -o -name '*.log' \\) -prune -o -type f -printf '%p %s %T@ %m %u\\n' | sort; "
            "systemctl list-unit-files --no-legend --no-pager | grep -v '^session-.*scope'; getent group; uname -r; "
            "sysctl vm.overcommit_memory; "
            "cat /proc/sys/kernel/random/boot_id"
        )
