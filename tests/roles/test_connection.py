"""A host that is gone ends the run: a connection without a sign of life is given up, and that is said."""

from __future__ import annotations

from types import SimpleNamespace

import gevent
import pytest
from paramiko import SSHException
from pyinfra.connectors.ssh import SSHConnector
from pyinfra.connectors.util import CommandOutput, OutputLine

from ojai import connection
from ojai.operations import progress

HOST = SimpleNamespace(name="mini", print_prefix="[mini] ")


class Transport:
    """A connection that answers ``answers`` questions, then none; or that ends after ``ends`` of them."""

    def __init__(self, answers: int, ends: bool = False) -> None:
        self.left, self.ends, self.alive, self.closed = answers, ends, True, False

    def is_active(self):
        return self.alive

    def global_request(self, kind, data, wait):
        assert (kind, wait) == ("keepalive@openssh.com", True)
        self.left -= 1
        if self.left < 0:
            gevent.sleep(3600)
        if self.ends and not self.left:
            self.alive = False

    def close(self):
        self.closed = True


@pytest.fixture
def said(monkeypatch):
    monkeypatch.setattr(connection, "INTERVAL", 0.001)
    monkeypatch.setattr(connection, "POLL", 0.0005)
    monkeypatch.setattr(connection, "TIMEOUT", 0.05)
    monkeypatch.setattr(connection, "recap", lambda: None)  # of the run of another test
    lines: list[str] = []
    monkeypatch.setattr(connection.logger, "error", lines.append)
    return lines


def test_a_host_that_falls_silent_is_hung_up_on(said):
    transport = Transport(answers=3)
    with gevent.Timeout(10):
        connection.watch("[mini] ", transport)
    assert transport.closed
    assert len(said) == 1
    for word in ("[mini] connection: found it lost", "no answer", "expected", "run the deploy again"):
        assert word in said[0]


def test_a_connection_that_ends_is_told(said):
    transport = Transport(answers=2, ends=True)
    with gevent.Timeout(10):
        connection.watch("[mini] ", transport)
    assert "closed from the other side" in said[0]


def test_a_host_that_answers_is_left_in_peace(said):
    transport = Transport(answers=10**9)
    watching = gevent.spawn(connection.watch, "[mini] ", transport)
    gevent.sleep(0.2)
    assert not watching.ready()
    connection._WATCHES["mini"] = connection._Watch("[mini] ", transport, watching)
    connection.report_lost()
    connection.stop_keepalive(HOST)
    connection.stop_keepalive(HOST)
    assert watching.ready()
    assert not said and not transport.closed


def test_a_run_that_ends_at_once_with_its_connection_still_tells(said):
    transport = Transport(answers=10**9)
    watching = gevent.spawn(connection.watch, "[mini] ", transport)
    connection._WATCHES["mini"] = connection._Watch("[mini] ", transport, watching)
    transport.alive = False
    connection.report_lost()
    connection.stop_keepalive(HOST)
    connection.report_lost()
    assert len(said) == 1 and "closed from the other side" in said[0]


class Connector(SSHConnector):
    """A connection that is closed in the middle of every request, as paramiko tells of it."""

    def __init__(self, transport):
        self.asked, self.client = 0, SimpleNamespace(get_transport=lambda: transport)

    def run_shell_command(self, command):
        self.asked += 1
        if command != "true":
            raise EOFError

    put_file = get_file = run_shell_command


@pytest.mark.parametrize("method", ["run_shell_command", "put_file", "get_file"])
def test_a_connection_closed_in_the_middle_fails_its_host_and_not_the_run(said, method):
    """pyinfra catches OSError and SSHException around what it asks a host, and nothing else."""
    transport = Transport(answers=10**9)
    transport.sock = None
    host = SimpleNamespace(
        name="mini", print_prefix="[mini] ", connector=Connector(transport), data={"connector": "ssh"}
    )
    for _ in range(2):  # as after a reboot
        connection.configure_connection(host)
    connection.stop_keepalive(host)
    with pytest.raises(SSHException, match="closed from the other side"):
        getattr(host.connector, method)("whoami")
    getattr(host.connector, method)("true")
    assert host.connector.asked == 2
    assert not hasattr(getattr(host.connector, method).__wrapped__, "__wrapped__")


@pytest.mark.parametrize("lost", [OSError("gone"), EOFError(), SSHException("SSH session not active")])
def test_a_step_on_a_lost_connection_has_failed_and_raises_nothing(lost):
    def run_shell_command(command, **arguments):
        raise lost

    success, output = progress.ask(SimpleNamespace(run_shell_command=run_shell_command), "true")
    assert (success, output.output_lines) == (False, [])


def test_a_step_that_ran_has_its_answer():
    given = CommandOutput([OutputLine("stdout", "yes")])
    host = SimpleNamespace(run_shell_command=lambda command, **arguments: (arguments == {"_sudo": True}, given))
    assert progress.ask(host, "true", _sudo=True) == (True, given)
