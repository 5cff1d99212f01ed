"""One deploy at a time: real runs of pyinfra against this machine, side by side, killed, stopped and interrupted."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from real_host import RealHost

from ojai.connection import lock
from ojai.facts.report import HostReport, deploys

pytestmark = pytest.mark.skipif(not shutil.which("flock"), reason="needs util-linux")

DEPLOY = """
import os
from pyinfra import config, host
from pyinfra.operations import server
from ojai.connection import configure_connection, lock
from ojai.facts import report
from ojai.roles import preflight

report.deploys.SCRIPT = report.deploys.SCRIPT.replace(lock.FILE, "FOLDER/lock")
lock.FILE, lock.PATIENCE, lock.BEAT = "FOLDER/lock", 5, 0.2
configure_connection(host)
if preflight.can_read_ledger():
    server.shell(name="Work", commands=[os.environ["WORK"]])
"""
INVENTORY = """
answers = {"ojai-host-report": ["ojai-host-report\\t1"]}
hosts = ["@local", ("@fake/other", {"fake_delay": 0, "fake_delay_jitter": 0, "fake_responses": answers})]
"""
CONFIG = "from ojai.connection import prepare_run\nprepare_run()\n"
WORKS = "touch working; while [ ! -e enough ]; do sleep 0.1; done"
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """``start(*options)`` begins a run; the operation ends when the file ``enough`` is there."""
    for name, text in {"deploy.py": DEPLOY, "inventory.py": INVENTORY, "config.py": CONFIG}.items():
        (tmp_path / name).write_text(text.replace("FOLDER", str(tmp_path)))
    runs: list[subprocess.Popen[str]] = []

    def begin(
        *options: str, work: str = WORKS, stdin: int = subprocess.DEVNULL, path: str = ""
    ) -> subprocess.Popen[str]:
        (tmp_path / "working").unlink(missing_ok=True)
        environment = {**os.environ, "WORK": work, "NO_COLOR": "1", "PATH": f"{path}:{os.environ['PATH']}"}
        run = subprocess.Popen(
            [sys.executable, "-m", "pyinfra", *options, "inventory.py", "deploy.py"],
            cwd=tmp_path,
            env=environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        runs.append(run)
        return run

    yield begin
    (tmp_path / "enough").touch()
    for run in runs:
        run.kill()
        run.communicate()


@pytest.fixture
def until(tmp_path: Path) -> Callable[[str], None]:
    def wait(name: str) -> None:
        for _ in range(300):
            if (tmp_path / name).exists() and (name != "lock" or (tmp_path / name).read_text()):
                return
            time.sleep(0.1)
        raise AssertionError(f"{name} did not appear")

    return wait


def ended(run: subprocess.Popen[str]) -> str:
    return run.communicate(timeout=60)[0]


def recap(output: str) -> dict[str, str]:
    return dict(re.findall(r"^    (@\S+) +(\S+)  ", output.partition("--> Recap:")[2], re.MULTILINE))


def test_a_second_run_is_refused_and_its_other_hosts_go_on(start, until, tmp_path):
    first = start("--yes")
    until("working")
    second = start("--yes", work="true")
    said = ended(second)
    assert (second.returncode, recap(said)) == (1, {"@local": "REFUSED", "@fake/other": "ok"})
    who = rf"\S+ on {re.escape(os.uname().nodename)}, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
    assert re.search(
        rf"preflight: deploy lock: found another deploy running here: {who} \(`pyinfra inventory.py deploy.py`\); "
        r"expected one at a time\. What to do: wait until it ends\.",
        said,
    )
    (tmp_path / "enough").touch()
    said = ended(first)
    assert (first.returncode, recap(said)) == (0, {"@local": "ok", "@fake/other": "ok"})
    third = start("--yes")
    said = ended(third)
    assert (third.returncode, "did not end" in said) == (0, False)


def test_of_two_that_start_together_one_is_refused(start, until, tmp_path):
    both = [start("--yes"), start("--yes")]
    until("working")
    while all(run.poll() is None for run in both):
        time.sleep(0.2)
    (tmp_path / "enough").touch()
    assert sorted(recap(ended(run))["@local"] for run in both) == ["REFUSED", "ok"]


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_was_cut_off_is_recognised_and_taken_over_at_once(start, until, tmp_path, blow):
    first = start("--yes")
    until("working")
    first.send_signal(blow)
    ended(first)
    (tmp_path / "enough").touch()
    second = start("--yes", work="true")
    said = ended(second)
    assert second.returncode == 0
    assert re.search(r"the last deploy here did not end in order: \S+ on .* \(`pyinfra inventory.py deploy.py`\)", said)


def test_a_run_that_fails_leaves_the_host_as_after_any_other(start):
    first = start("--yes", work="false")
    ended(first)
    assert first.returncode == 1
    second = start("--yes", work="true")
    assert "did not end" not in ended(second)
    assert second.returncode == 0


def test_a_run_that_gives_no_sign_of_life_loses_the_lock_and_is_told(start, until, tmp_path):
    first = start("--yes")
    until("working")
    first.send_signal(signal.SIGSTOP)
    time.sleep(7)
    second = start("--yes")
    until("working")
    first.send_signal(signal.SIGCONT)
    time.sleep(4)
    (tmp_path / "enough").touch()
    said = ended(second)
    assert (second.returncode, "did not end in order" in said) == (0, True)
    assert "deploy lock: found it lost, and another deploy running: " in ended(first)


def test_a_run_that_was_asleep_takes_a_free_lock_again(start, until, tmp_path):
    first = start("--yes")
    until("working")
    first.send_signal(signal.SIGSTOP)
    time.sleep(7)
    first.send_signal(signal.SIGCONT)
    time.sleep(2)
    assert recap(ended(start("--yes", work="true")))["@local"] == "REFUSED"
    (tmp_path / "enough").touch()
    assert "deploy lock" not in ended(first)


@pytest.mark.parametrize("options", [("--dry",), ("--json",)])
def test_a_run_that_only_looks_says_so_and_takes_nothing(start, until, tmp_path, options):
    look = start(*options, work="true")
    assert "a deploy is running" not in ended(look)
    assert look.returncode == 0 and not (tmp_path / "lock").exists()
    first = start("--yes")
    until("working")
    look = start(*options, work="true")
    said = ended(look)
    assert look.returncode == 0
    assert re.search(r"\[@local\] +a deploy is running here: \S+ on .* What is found here may be half changed", said)
    (tmp_path / "enough").touch()
    assert recap(ended(first))["@local"] == "ok"


def test_looking_does_not_keep_a_run_from_starting(start, tmp_path):
    (tmp_path / "lock").touch()
    with subprocess.Popen(["flock", "--shared", str(tmp_path / "lock"), "sleep", "1"]):
        assert recap(ended(start("--yes", work="true")))["@local"] == "ok"


def test_the_lock_is_kept_while_the_run_waits_for_its_user(start, until, tmp_path):
    ours, theirs = pty.openpty()
    first = start(stdin=theirs)
    until("lock")
    time.sleep(7)
    assert recap(ended(start("--yes", work="true")))["@local"] == "REFUSED"
    (tmp_path / "enough").touch()
    os.write(ours, b"\n")
    said = ended(first)
    assert (recap(said)["@local"], "deploy lock" in said) == ("ok", False)


def test_a_login_that_greets_changes_nothing(start, tmp_path):
    (tmp_path / "bash").write_text('#!/bin/sh\necho "Welcome!\tHave fun"\nexec /bin/bash "$@"\n')
    (tmp_path / "bash").chmod(0o755)
    assert recap(ended(start("--yes", work="true", path=str(tmp_path))))["@local"] == "ok"


def test_a_host_that_cannot_lock_is_refused_with_what_it_said(start, tmp_path):
    (tmp_path / "bash").write_text("#!/bin/sh\necho 'no such thing' >&2\nexit 3\n")
    (tmp_path / "bash").chmod(0o755)
    said = ended(start("--yes", work="true", path=str(tmp_path)))
    assert recap(said) == {"@local": "REFUSED", "@fake/other": "ok"}
    assert "deploy lock: found no such thing; expected to take" in said


def test_the_report_names_the_run_that_holds_the_lock(tmp_path):
    place = tmp_path / "lock"
    command = HostReport().command().replace(lock.FILE, str(place))
    host = RealHost()

    def running() -> lock.Run | None:
        done = host.sh(command)
        assert (done.returncode, done.stderr) == (0, "")
        found = HostReport().process(done.stdout.splitlines())
        assert found is not None
        return found.running

    assert running() is None
    place.write_text("2026-11-27 09:00:03 UTC\tada on laptop\tpyinfra inventory/ojai.py deploy.py\n")
    assert running() is None, "a record of a run that is over"
    with subprocess.Popen(["flock", str(place), "cat"], stdin=subprocess.PIPE) as holder:
        for _ in range(100):
            if found := running():
                break
        holder.communicate()
    assert str(found) == "ada on laptop, since 2026-11-27 09:00:03 UTC (`pyinfra inventory/ojai.py deploy.py`)"
    assert lock.FILE in deploys.SCRIPT


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ("--yes --data _sudo_password=secret inventory/a.py deploy.py", "pyinfra inventory/a.py deploy.py"),
        ("-y --ssh-password secret @local a.py b.py --limit x", "pyinfra @local a.py b.py"),
    ],
)
def test_passwords_on_the_command_line_are_not_written_down(monkeypatch, words, command):
    monkeypatch.setattr(sys, "argv", ["pyinfra", *words.split()])
    lock.invocation.cache_clear()
    try:
        assert lock._who().partition("\t")[2] == command
    finally:
        lock.invocation.cache_clear()
