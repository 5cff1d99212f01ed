"""A long command that fails: its last words, the cause in plain words, what to do, and which disk is full."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from paramiko import SSHException
from pyinfra.connectors.util import CommandOutput, OutputLine

from ojai.operations import progress

STATE = SimpleNamespace(print_output=False)


class Failing:
    """A host on which every command fails with these words, but for the look at its disks."""

    name, print_prefix = "mini", "[mini] "
    current_op_global_arguments = {"_sudo": True}  # noqa: RUF012

    def __init__(self, said: str, disks: str = "", lost: bool = False) -> None:
        self.said, self.disks, self.lost = said, disks, lost
        self.commands: list[str] = []

    def run_shell_command(self, command, **arguments):
        assert arguments["_sudo"] is True
        self.commands.append(command)
        if command.startswith("df "):
            return True, CommandOutput([OutputLine("stdout", line) for line in self.disks.splitlines()])
        if self.lost:
            raise SSHException("SSH session not active")
        return False, CommandOutput([OutputLine("stderr", line) for line in self.said.splitlines()])


@pytest.fixture
def errors(monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(progress.logger, "error", lines.append)
    return lines


def test_a_cause_that_is_known_is_told_with_what_to_do(errors):
    host = Failing('Error response from daemon: Get "https://r.example/v2/": dial tcp: i/o timeout')
    assert progress.run(STATE, host, "docker pull x", "pulling x") is False
    assert errors[0].startswith("[mini] pulling x: failed after ")
    assert "dial tcp" in errors[1]
    assert errors[2].startswith("[mini] cause: the registry does not answer")
    assert errors[3].startswith("[mini] what to do: ")
    assert len(host.commands) == 1


def test_a_full_disk_is_named_with_what_is_left(errors):
    host = Failing("write /x: no space left on device", "/ has 0 MiB free of 953869 MiB\n/boot has 3 inodes free")
    assert progress.run(STATE, host, "docker pull x", "pulling x") is False
    assert "[mini] cause: the disk is full" in errors
    assert errors[-2:] == [
        "[mini] found: / has 0 MiB free of 953869 MiB",
        "[mini] found: /boot has 3 inodes free",
    ]


def test_what_is_not_known_is_shown_and_nothing_is_made_up(errors):
    assert progress.run(STATE, Failing("a thing that nobody has seen"), "x", "doing") is False
    assert [line for line in errors if "cause" in line or "what to do" in line] == []
    assert "[mini] a thing that nobody has seen" in errors


def test_a_lost_connection_is_no_traceback(errors):
    assert progress.run(STATE, Failing("", lost=True), "x", "doing") is False
    assert "doing: failed after" in errors[0]
