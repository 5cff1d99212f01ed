"""Long commands that are seen to work: their lines are shown as they come, with a heartbeat when none does."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import gevent
from pyinfra import logger
from pyinfra.api import FunctionCommand, Host, State

from ojai.diagnosis import explain
from ojai.pyinfra_internals import CONNECTOR_ARGUMENT_KEYS, CommandOutput, SSHException

#: What to do once a step has failed, before the host is given up: put back what worked.
OnFailure = Callable[[State, Host], None]

#: Seconds of silence after which a long command is said to be still at work.
HEARTBEAT = 15.0


def connector_arguments(host: Host) -> dict[str, Any]:
    """How the operation now running reaches its host (sudo, environment, …), for commands run from within it."""
    current: Mapping[str, Any] = cast("Mapping[str, Any]", host.current_op_global_arguments or {})
    return {key: current[key] for key in CONNECTOR_ARGUMENT_KEYS if key in current}


def say(host: Host, text: str) -> None:
    """One line of progress, with the host's prefix."""
    logger.info(f"{host.print_prefix}{text}")


def complain(host: Host, text: str) -> None:
    """One error, every line of it with the host's prefix."""
    for line in text.splitlines():
        logger.error(f"{host.print_prefix}{line}")


def ask(host: Host, command: str, **arguments: Any) -> tuple[bool, CommandOutput]:
    """Run ``command`` on the host; where the connection is lost it has failed, and said nothing.

    pyinfra takes what is raised from within an operation for a bug in it, and shows a traceback.
    """
    try:
        success, output = host.run_shell_command(command, **arguments)
    except (OSError, EOFError, SSHException):
        return False, CommandOutput([])
    return success, output


def run(
    state: State, host: Host, command: str, doing: str, show: bool = False, on_failure: OnFailure | None = None
) -> bool:
    """Run ``command`` on the host while saying every :data:`HEARTBEAT` seconds what it is ``doing``.

    ``show``: its lines are shown as they come; else only the last 40, when it fails. ``on_failure`` is called when it
    failed. True when it succeeded.
    """
    arguments = connector_arguments(host)
    started = time.monotonic()
    say(host, f"{doing} …")
    work = gevent.spawn(ask, host, command, print_output=show or state.print_output, **arguments)
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
        _explain(host, output.output_lines, arguments)
        if on_failure:
            on_failure(state, host)
    return success


#: File systems with less than 200 MiB or 1000 files to spare, and how much: those that can be meant by "full".
_FULL = (
    "df -P -B1M -x tmpfs -x devtmpfs -x overlay -x squashfs | awk 'NR > 1 && $4 < 200 "
    '{print $6 " has " $4 " MiB free of " $2 " MiB"}\'; '
    "df -P -i -x tmpfs -x devtmpfs -x overlay -x squashfs | awk 'NR > 1 && $2 > 0 && $4 < 1000 "
    '{print $6 " has " $4 " inodes free"}\''
)


def _explain(host: Host, lines: list[str], arguments: dict[str, Any]) -> None:
    """Say what is known to be behind such words."""
    for finding in explain(lines, "failures-installing")[:1]:
        complain(host, f"cause: {finding.cause}\nwhat to do: {finding.fix}\nsource: {finding.source}")
        if "disk is full" in finding.cause:
            _, output = ask(host, _FULL, **arguments)
            complain(host, "\n".join(f"found: {line}" for line in output.stdout_lines))


def with_progress(command: str, doing: str, show: bool = False, on_failure: OnFailure | None = None) -> FunctionCommand:
    """A command to yield from an operation: :func:`run` with these words."""
    words: dict[str, Any] = {"show": True} if show else {}
    return FunctionCommand(run, (command, doing), {**words, **({"on_failure": on_failure} if on_failure else {})})


def _refuse(state: State, host: Host, text: str) -> bool:
    complain(host, text)
    return False


def refuse(text: str) -> FunctionCommand:
    """A step to yield that fails the host with ``text`` and changes nothing.

    Raising instead would end the run of every host, with a traceback: pyinfra does not catch what an operation
    raises while it executes.
    """
    return FunctionCommand(_refuse, (text,), {})
