"""Running commands on a host from within an operation: progress while they run, the cause when they fail."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

import click
import gevent
from pyinfra import logger
from pyinfra.api import FactBase, FunctionCommand, Host, State, StringCommand

from ojai.diagnosis import Catalogue, explain
from ojai.pyinfra_internals import CONNECTOR_ARGUMENT_KEYS, CommandOutput, SSHException

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


def one_line(state: State) -> bool:
    """Whether a line can move: on a terminal, with one host. Those of several hosts would write over each other."""
    return sys.stderr.isatty() and len(state.inventory) == 1


def follow(state: State, host: Host, work: gevent.Greenlet[Any, Any], status: str, **arguments: Any) -> None:
    """Until ``work`` is done, tell what its command writes into the file ``status`` on the host.

    In a line that moves, or every :data:`HEARTBEAT` seconds.
    """
    moving, moved = one_line(state), False
    while not work.ready():
        work.join(timeout=MOVES if moving else HEARTBEAT)
        if work.ready():
            break
        _, said = ask(host, f"cat {status} 2>/dev/null", **arguments)
        for line in said.stdout_lines:
            if moving:
                click.echo(f"\r\x1b[2K{host.print_prefix}{line}", nl=False, err=True)
                moved = True
            else:
                say(host, line)
    if moved:
        click.echo(err=True)


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
        follow(state, host, work, status, **arguments)
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
