"""Running commands on a host from within an operation: progress while they run, the cause when they fail."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any, ClassVar, TypeVar, cast

import click
import gevent
from pyinfra import logger
from pyinfra.api import FactBase, FunctionCommand, Host, State, StringCommand

from ojai.diagnosis import Catalogue, explain
from ojai.pyinfra_internals import CONNECTOR_ARGUMENT_KEYS, CommandOutput, SSHException, spinner

T = TypeVar("T")

#: What to do after a step has failed, before the host is given up: restore what worked.
OnFailure = Callable[[State, Host], None]

#: Seconds without output after which a long command is reported as still running.
HEARTBEAT = 15.0

#: Seconds between two states of a line that moves.
MOVES = 2.0


def connector_arguments(host: Host) -> dict[str, Any]:
    """How the running operation reaches its host (sudo, environment, …), for commands that it runs itself."""
    current: Mapping[str, Any] = cast("Mapping[str, Any]", host.current_op_global_arguments or {})
    return {key: current[key] for key in CONNECTOR_ARGUMENT_KEYS if key in current}


def say(host: Host, message: str) -> None:
    """Print one line of progress, with the host's prefix."""
    logger.info(f"{host.print_prefix}{message}")


def complain(host: Host, message: str) -> None:
    """Print an error, each line with the host's prefix."""
    for line in message.splitlines():
        logger.error(f"{host.print_prefix}{line}")


def ask(host: Host, command: str | StringCommand, **arguments: Any) -> tuple[bool, CommandOutput]:
    """Run ``command`` on the host. If the connection is lost, it has failed without output.

    pyinfra would print a traceback for an exception that is raised within an operation.
    """
    try:
        success, output = host.run_shell_command(command, **arguments)
    except (OSError, EOFError, SSHException):
        return False, CommandOutput([])
    return success, output


def read(host: Host, fact: FactBase[T], **arguments: Any) -> T:
    """Read a fact now, while an operation runs; its default if the host does not answer."""
    success, output = ask(host, fact.command(**arguments), **connector_arguments(host))
    return fact.process(output.stdout_lines) if success else fact.default()


class _Spinner:
    """In place of the terminal for pyinfra's spinner: it rests while lines are shown, which it would write over."""

    @staticmethod
    def write(text: str) -> None:
        if not _Lines.shown:
            sys.stderr.write(text)

    @staticmethod
    def flush() -> None:
        if not _Lines.shown:
            sys.stderr.flush()


class _Lines(logging.Handler):
    """A line for each host that works, at the end of the terminal; all of them are drawn anew with each that moves.

    What pyinfra says meanwhile goes above them: the last of its logger's handlers draws them again.
    """

    shown: ClassVar[dict[Host, str]] = {}

    @staticmethod
    def can() -> bool:
        """Whether standard error is a terminal on which a line can be drawn anew."""
        return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    @classmethod
    def put(cls, host: Host, line: str | None) -> None:
        """Show the line of a host; None: no more."""
        if line is None and host not in cls.shown:
            return
        if not any(isinstance(one, cls) for one in logger.handlers):
            logger.addHandler(cls())
            logger.addFilter(cls.clear)
            spinner().sys = SimpleNamespace(stderr=_Spinner)
        if line is None:
            cls.clear()
            del cls.shown[host]
        else:
            cls.shown[host] = line
        cls.draw()

    @classmethod
    def clear(cls, record: logging.LogRecord | None = None) -> bool:
        """Take the lines away, before something else is written."""
        if cls.shown:
            click.echo("\r\x1b[J", nl=False, err=True)
        return True

    @classmethod
    def draw(cls) -> None:
        """Write them, and go back to the first."""
        size = os.get_terminal_size(sys.stderr.fileno())
        lines = [
            f"{host.print_prefix}{line[: max(size.columns - len(click.unstyle(host.print_prefix)) - 1, 0)]}"
            for host, line in cls.shown.items()
        ]
        most = max(size.lines - 2, 1)
        if len(lines) > most:
            lines[most - 1 :] = [f"and {len(lines) - most + 1} more"]
        up = f"\x1b[{len(lines) - 1}A" if len(lines) > 1 else ""
        click.echo("\r\x1b[J" + "\n".join(lines) + f"\r{up}", nl=False, err=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Draw them again after a record."""
        if self.shown:
            self.draw()


def follow(host: Host, work: gevent.Greenlet[Any, Any], status: str, **arguments: Any) -> None:
    """Until ``work`` is done, tell what its command writes into the file ``status`` on the host.

    On a terminal in a line that moves, one for each host; else every :data:`HEARTBEAT` seconds.
    """
    moving = _Lines.can()
    try:
        while not work.ready():
            work.join(timeout=MOVES if moving else HEARTBEAT)
            if work.ready():
                break
            _, said = ask(host, f"cat {status} 2>/dev/null", **arguments)
            for line in said.stdout_lines:
                if moving:
                    _Lines.put(host, line)
                else:
                    say(host, line)
    finally:
        _Lines.put(host, None)


def run(
    state: State,
    host: Host,
    command: str,
    doing: str,
    show: bool = False,
    on_failure: OnFailure | None = None,
    status: str | None = None,
    hidden: str | None = None,
) -> bool:
    """Run a long command on the host. True if it succeeded.

    + command: shell
    + doing: what it does, reported every :data:`HEARTBEAT` seconds
    + show: print its output as it comes; otherwise only the last 40 lines, if it fails
    + on_failure: called if it fails
    + status: a file on the host in which it says how far it is
    + hidden: its standard input, so that no process list and no log has it
    """
    arguments = connector_arguments(host)
    started = time.monotonic()
    say(host, f"{doing} …")
    given = {"_stdin": hidden} if hidden else {}
    work = gevent.spawn(ask, host, command, print_output=show or state.print_output, **{**arguments, **given})
    if status:
        follow(host, work, status, **arguments)
    while not work.ready():
        work.join(timeout=HEARTBEAT)
        if not work.ready():
            say(host, f"{doing}: {time.monotonic() - started:.0f} s")
    success: bool
    output: CommandOutput
    success, output = work.get()
    if not success:
        complain(host, f"{doing}: failed after {time.monotonic() - started:.0f} s")
        complain(host, "\n".join(output.output_lines[-40:]))
        explain_failure(host, output.output_lines, "failures-installing")
        if on_failure:
            on_failure(state, host)
    return success


#: File systems with less than 200 MiB or 1000 inodes free: the candidates for "disk full".
_FULL = (
    "df -P -B1M -x tmpfs -x devtmpfs -x overlay -x squashfs | awk 'NR > 1 && $4 < 200 "
    '{print $6 " has " $4 " MiB free of " $2 " MiB"}\'; '
    "df -P -i -x tmpfs -x devtmpfs -x overlay -x squashfs | awk 'NR > 1 && $2 > 0 && $4 < 1000 "
    '{print $6 " has " $4 " inodes free"}\''
)


def explain_failure(host: Host, lines: Iterable[str], catalogue: Catalogue) -> None:
    """Print the known causes of these ``lines`` with their fix, or that none is known."""
    findings = explain(lines, catalogue)
    for finding in findings if catalogue == "failures" else findings[:1]:
        complain(host, f"cause: {finding.cause}\nwhat to do: {finding.fix}\nsource: {finding.source}")
        if catalogue == "failures-installing" and "disk is full" in finding.cause:
            _, output = ask(host, _FULL, **connector_arguments(host))
            complain(host, "\n".join(f"found: {line}" for line in output.stdout_lines))
    if not findings:
        complain(host, "This is not one of the failures that ojai can explain: see the lines above.")


def with_progress(command: str, doing: str, show: bool = False, on_failure: OnFailure | None = None) -> FunctionCommand:
    """A step that calls :func:`run` with these arguments."""
    kwargs: dict[str, Any] = {"show": True} if show else {}
    return FunctionCommand(run, (command, doing), {**kwargs, **({"on_failure": on_failure} if on_failure else {})})


def _refuse(state: State, host: Host, message: str) -> bool:
    complain(host, message)
    return False


def refuse(message: str) -> FunctionCommand:
    """A step that fails the host with ``message`` and changes nothing.

    pyinfra does not catch what an operation raises while it executes: that would end the run of every host with a
    traceback.
    """
    return FunctionCommand(_refuse, (message,), {})
