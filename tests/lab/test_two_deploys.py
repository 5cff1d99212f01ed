"""Two deploys at once, over SSH: real runs of pyinfra against booted containers, one of them cut off in every way."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ojai.connection.lock import PATIENCE
from tests.lab.machine import ROOT, Lab

LAB = Lab(ROOT / ".lab-two")
FILE = "/run/ojai-deploy.lock"

INVENTORY = """
from runpy import run_path

hosts = [(name, {**data, **DATA}) for name, data in run_path(MOLECULE)["molecule"]]
"""

#: The work begins with a file, and ends when another one is there.
DEPLOY = """
from pyinfra import config, host
from pyinfra.operations import server
from ojai.connection import configure_connection
from ojai.roles import preflight

config.SUDO = True
configure_connection(host)
if preflight.can_read_ledger():
    server.shell(name="Work", commands=["touch /run/working; until [ -e /run/enough ]; do sleep 0.2; done"])
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[str, str]]:
    """Two containers that nobody has deployed to."""
    LAB.ojai("lab", "down", "--destroy")
    up = LAB.ojai("lab", "container", "one", "two")
    assert up.returncode == 0, up.stderr
    yield "one", "two"
    down = LAB.ojai("lab", "down", "--destroy")
    assert down.returncode == 0, down.stderr


def root(name: str, command: str) -> str:
    done = LAB.ojai("lab", "ssh", name, "--", f"sudo sh -c {shlex.quote(command)}")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def start(pair: tuple[str, str], tmp_path: Path) -> Iterator[Start]:
    """``start(*options)`` begins a run; on host two its work is done at once."""
    for name in pair:
        root(name, "rm -f /run/working /run/enough")
    root("two", "touch /run/enough")
    (tmp_path / "deploy.py").write_text(DEPLOY)
    runs: list[subprocess.Popen[str]] = []

    def begin(*options: str, **data: str) -> subprocess.Popen[str]:
        text = INVENTORY.replace("MOLECULE", repr(str(ROOT / "molecule" / "default" / "inventory.py")))
        inventory = tmp_path / f"inventory{len(runs)}.py"
        inventory.write_text(text.replace("DATA", repr(data)))
        mode = [] if "--dry" in options else ["--yes"]
        argv = [sys.executable, "-m", "pyinfra", *mode, *options, str(inventory), str(tmp_path / "deploy.py")]
        pipe = subprocess.PIPE
        environment = LAB.environment()
        runs.append(subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True))
        return runs[-1]

    yield begin
    for name in pair:
        root(name, "touch /run/enough")
    for run in runs:
        run.kill()
        run.communicate()


def until_it_works() -> None:
    root("one", "for i in $(seq 150); do [ -e /run/working ] && exit; sleep 0.2; done; exit 1")


def ended(run: subprocess.Popen[str]) -> tuple[int, str, dict[str, str]]:
    """Its status, what it said, and its recap by host."""
    said = run.communicate(timeout=120)[0]
    assert "Traceback" not in said, said[-3000:]
    words = dict(re.findall(r"^    (one|two) +(\S+)  ", said.partition("--> Recap:")[2], re.MULTILINE))
    return run.returncode, said, words


def runs_now(start: Start) -> str:
    """What a run says that finds host one free."""
    root("one", "touch /run/enough")
    status, said, words = ended(start("--limit", "one"))
    assert (status, words["one"]) == (0, "ok"), said[-3000:]
    return said


def test_the_second_is_refused_there_and_goes_on_elsewhere(start):
    first = start("--limit", "one")
    until_it_works()
    status, said, words = ended(start())
    assert (status, words) == (1, {"one": "REFUSED", "two": "ok"}), said[-3000:]
    since = root("one", f"cut -f1 {FILE}")
    who = f"{os.environ.get('USER', 'root')} on {os.uname().nodename}, since {since}"
    assert f"[one] preflight: deploy lock: found another deploy running here: {who} (`pyinfra " in said
    root("one", "touch /run/enough")
    assert ended(first)[::2] == (0, {"one": "ok"})
    assert "did not end in order" not in runs_now(start)


def test_a_controller_that_was_killed_is_followed_at_once(start):
    first = start("--limit", "one")
    until_it_works()
    first.kill()
    began = time.monotonic()
    said = runs_now(start)
    assert re.search(r"\[one\] the last deploy here did not end in order: \S+ on ", said)
    assert time.monotonic() - began < PATIENCE


@pytest.mark.whole
def test_a_controller_whose_network_is_gone_is_followed_after_a_while(start):
    """As the host sees it: no packet, and no end of the connection."""
    first = start("--limit", "one")
    until_it_works()
    first.send_signal(signal.SIGSTOP)
    assert ended(start())[2]["one"] == "REFUSED"
    time.sleep(PATIENCE)
    assert "did not end in order" in runs_now(start)
    first.send_signal(signal.SIGCONT)
    assert ended(first)[0] in (0, 1)


@pytest.mark.whole
def test_two_that_start_together(start):
    both = [start("--limit", "one"), start("--limit", "one")]
    until_it_works()
    while all(run.poll() is None for run in both):
        time.sleep(0.2)
    root("one", "touch /run/enough")
    assert sorted(ended(run)[2]["one"] for run in both) == ["REFUSED", "ok"]


@pytest.mark.whole
def test_a_dry_run_beside_a_deploy_says_so_and_takes_nothing(start):
    first = start("--limit", "one")
    until_it_works()
    status, said, words = ended(start("--dry"))
    assert (status, words["one"]) == (0, "ok"), said[-3000:]
    assert re.search(r"\[one\] a deploy is running here: \S+ on ", said)
    assert not re.search(r"\[two\] a deploy is running here", said)
    root("one", "touch /run/enough")
    assert ended(first)[2] == {"one": "ok"}


@pytest.mark.whole
def test_rollback_takes_it_too(start, tmp_path):
    first = start("--limit", "one")
    until_it_works()
    inventory = tmp_path / "inventory0.py"
    done = LAB.ojai("rollback", "--yes", "--limit", "one", str(inventory))
    assert done.returncode == 1
    assert "deploy lock: found another deploy running here: " in done.stdout + done.stderr
    root("one", "touch /run/enough")
    assert ended(first)[0] == 0


def test_the_lock_goes_with_the_power(start):
    first = start("--limit", "one")
    until_it_works()
    record = json.loads((LAB.folder / "state.json").read_text())["containers"]["one"]
    os.kill(record["process"]["pid"], signal.SIGKILL)
    assert LAB.ojai("lab", "container", "one").returncode == 0
    status, said, words = ended(first)
    assert (status, words["one"]) == (1, "FAILED"), said[-3000:]
    assert "did not end" not in runs_now(start), "the new boot knows nothing of it"


@pytest.mark.whole
def test_with_a_password_for_sudo(start):
    script = (
        "useradd -m -s /bin/bash asked && install -d -o asked -m 700 ~asked/.ssh && "
        "install -o asked -m 600 ~ojai/.ssh/authorized_keys ~asked/.ssh/ && echo asked:of-the-tests | chpasswd && "
        "echo 'asked ALL=(ALL) ALL' > /etc/sudoers.d/asked"
    )
    root("one", script)
    root("one", "rm -f /run/enough")
    first = start("--limit", "one", ssh_user="asked", _sudo_password="of-the-tests")
    until_it_works()
    assert ended(start("--limit", "one"))[2]["one"] == "REFUSED"
    root("one", "touch /run/enough")
    assert ended(first)[2]["one"] == "ok"
