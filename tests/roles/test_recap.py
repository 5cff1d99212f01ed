"""The end of a run tells every host apart: ok, unreachable, refused, failed, stopped. And no traceback on the way."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

INVENTORY = """
from ojai.fake import fake_host
nowhere = {"ssh_hostname": "127.0.0.1", "ssh_port": 1}
name, old = fake_host("old", {})
_report = old["fake_responses"]["ojai-host-report"]
old["fake_responses"]["ojai-host-report"] = [line.replace("24.04", "22.04") for line in _report]
hosts = [
    ("dead", nowhere),
    ("keyless", {**nowhere, "ssh_key": "/not/there"}),
    (name, old),
    fake_host("good", {"removed": True}),
]
"""

#: Of the two, one fails; run on this machine.
FAILING = """
from pyinfra import host
from pyinfra.operations import server
from ojai.connection import configure_connection

configure_connection(host)
server.shell(name="Change", commands=["true"])
server.shell(name="Check", commands=["echo no space left >&2; {command}"])
server.shell(name="Change more", commands=["true"])
"""


def pyinfra(*words, cwd=ROOT, **env):
    """pyinfra without a terminal: exit status, standard output, what it said before the recap, and that by host."""
    done = subprocess.run(
        [sys.executable, "-m", "pyinfra", *map(str, words)],
        cwd=cwd, env={**os.environ, **env}, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        start_new_session=True, timeout=120,
    )  # fmt: skip
    before, _, recap = done.stderr.partition("--> Recap:\n")
    assert "Traceback" not in done.stderr and "internal exception" not in done.stderr, done.stderr
    lines = [re.split(r"\s\s+", line.strip(), maxsplit=2) for line in recap.splitlines()]
    return done.returncode, done.stdout, before, {line[0]: tuple(line[1:]) for line in lines}


@pytest.fixture
def inventory(tmp_path):
    file = tmp_path / "four.py"
    file.write_text(INVENTORY)
    return file


@pytest.mark.parametrize("options", [["--dry"], ["-y"], ["-y", "--json"]], ids=" ".join)
def test_every_host_is_in_the_recap_with_the_reason(inventory, options):
    status, stdout, _, recap = pyinfra(*options, inventory, "deploy.py")
    assert status == 1
    assert list(recap) == ["dead", "keyless", "@fake/old", "@fake/good"]
    assert recap["dead"][0] == "UNREACHABLE" and "Could not connect" in recap["dead"][1]
    assert recap["keyless"][0] == "UNREACHABLE" and "No such private key file: /not/there" in recap["keyless"][1]
    assert "ssh_key" in recap["keyless"][1]
    assert recap["@fake/old"] == ("REFUSED", "operating system: found Ubuntu 22.04.4 LTS; expected Ubuntu 24.04.")
    verb = "would change something" if options == ["--dry"] else "changed something"
    assert recap["@fake/good"][0] == "ok" and re.fullmatch(rf"\d+ of \d+ operations {verb}", recap["@fake/good"][1])
    if "--json" in options:
        json.loads(stdout)


def test_a_run_of_which_no_host_was_reached_has_one_too(inventory):
    status, _, _, recap = pyinfra("-y", inventory, "deploy.py", "--limit", "dead", "--limit", "keyless")
    assert status == 1 and [line[0] for line in recap.values()] == ["UNREACHABLE", "UNREACHABLE"]


def test_a_run_that_connects_to_nothing_has_none(tmp_path):
    file = tmp_path / "faulty.py"
    file.write_text("hosts = [('mini', {'kernel_reboot': 'sometimes'})]\n")
    assert pyinfra("--dry", file, "deploy.py")[0::3] == (1, {})


def test_the_last_host_that_fails_is_told_with_its_operation_and_its_words(tmp_path):
    (tmp_path / "d.py").write_text(FAILING.format(command="false"))
    status, _, _, recap = pyinfra("-y", "@local", "d.py", cwd=tmp_path)
    assert (status, recap) == (1, {"@local": ("FAILED", "Check: no space left")})


def test_what_an_operation_may_fail_in_is_no_failure(tmp_path):
    (tmp_path / "d.py").write_text(FAILING.format(command='false"], _ignore_errors=True, _env={"A": "b"})#'))
    status, _, _, recap = pyinfra("-y", "@local", "d.py", cwd=tmp_path)
    assert (status, recap["@local"]) == (0, ("ok", "2 of 3 operations changed something"))


@pytest.mark.parametrize(
    ("option", "command", "said"), [("-y", "true", True), ("--dry", "true", False), ("-y", "false", False)]
)
def test_a_run_that_changed_a_host_says_what_comes_next(tmp_path, option, command, said):
    (tmp_path / "config.py").write_text("from ojai.connection import prepare_run\n\nprepare_run()\n")
    text = FAILING.format(command=command)
    text += (
        "from ojai.connection.recap import note_next\nnote_next({'open': 'says how to chat', 'status': 'how it is'})\n"
    )
    (tmp_path / "d.py").write_text(text)
    _, _, before, _ = pyinfra(option, "@local", "d.py", cwd=tmp_path)
    line = "--> Next: `ojai open @local` says how to chat; `ojai status @local` how it is"
    assert (line in before.splitlines()) == said


@pytest.mark.parametrize("option", ["-y", "--dry"])
def test_a_run_that_breaks_off_is_not_ok(tmp_path, option):
    if option == "--dry":
        (tmp_path / "config.py").write_text("from ojai.connection import prepare_run\n\nprepare_run()\n")
    (tmp_path / "d.py").write_text(f"{FAILING.format(command='true')}\nraise RuntimeError('mistake of the deploy')\n")
    done = subprocess.run(
        [sys.executable, "-m", "pyinfra", option, "@local", "d.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    last = done.stderr.rstrip().splitlines()[-1].split()
    assert done.returncode == 1
    if option == "-y":  # without config.py
        assert last == ["@local", "STOPPED", "after", "0", "of", "3", "operations"]
    else:
        assert last[:2] == ["@local", "REFUSED"] and "found RuntimeError: mistake of the deploy (d.py:" in " ".join(
            last
        )
        assert "Traceback" not in done.stderr


def test_changes_that_nobody_can_confirm_are_not_made():
    status, _, before, recap = pyinfra(ROOT / "inventory" / "fake.py", "deploy.py", "--limit", "@fake/mini-00")
    assert status == 1 and "there is no terminal to confirm the changes on. What to do: add --yes." in before
    assert recap["@fake/mini-00"][0] == "STOPPED"


@pytest.fixture
def sudo(tmp_path):
    """A PATH whose sudo wants a password, as sudo itself says it."""
    file = tmp_path / "bin" / "sudo"
    file.parent.mkdir()
    file.write_text("#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n")
    file.chmod(0o755)
    return f"{file.parent}:{os.environ['PATH']}"


def test_a_password_that_nobody_can_be_asked_for_is_one_sentence(sudo):
    status, _, before, recap = pyinfra("--dry", "@local", "deploy.py", PATH=sudo)
    assert status == 1 and before.count("there is no terminal to ask on") == 1
    assert recap["@local"][0] == "REFUSED" and "no terminal" in recap["@local"][1]


def test_nor_is_it_asked_for_before_anything_else(sudo):
    status, _, before, recap = pyinfra("--dry", "--same-sudo-password", "@local", "deploy.py", PATH=sudo)
    assert (status, recap) == (1, {})
    assert "sudo password: there is no terminal to ask on" in before and "_sudo_password" in before
