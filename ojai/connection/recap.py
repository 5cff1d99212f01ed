"""The end of a run, host by host: reached, changed, failed, refused, and why."""

from __future__ import annotations

import atexit
import logging
import re
import shlex
from collections.abc import Mapping
from functools import cache
from typing import Any

import click
from pyinfra import logger
from pyinfra.api import Host, State

from ojai.connection.likely import likely
from ojai.pyinfra_internals import BaseStateCallback, StateStage, ctx_state

_OF_HOST = re.compile(r"\[(.+?)\]\s+(?!Error(?:: |$))(.*)")


class Recap(BaseStateCallback, logging.Handler):
    """Hears of failures from pyinfra's callbacks, and of their reasons from its log."""

    def __init__(self) -> None:
        logging.Handler.__init__(self, logging.ERROR)
        self.reasons: dict[str, tuple[str, str]] = {}
        self.complaints: dict[str, list[str]] = {}
        self.state: State | None = None
        self.broken_off = False
        self.inventory = ""
        self.commands: Mapping[str, str] = {}

    def watch(self, state: State) -> None:
        """Follow a run, which may not know its hosts yet."""

        def follow() -> None:
            self.state = state
            state.add_callback_handler(self)

        if state.initialised:
            follow()
            return
        init = state.init

        def init_and_follow(*args: Any, **kwargs: Any) -> None:
            init(*args, **kwargs)
            follow()

        state.init = init_and_follow  # type: ignore[method-assign]

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what was said of a host."""
        if found := _OF_HOST.match(click.unstyle(record.getMessage()).strip()):
            self.complaints.setdefault(found[1], []).append(found[2])

    def host_connect_error(self, state: State, host: Host, error: Exception) -> None:  # type: ignore[override]
        """Note why a host cannot be reached; one that reboots comes back."""
        if state.current_stage == StateStage.Connect:
            where = likely(host.name, host.data.dict(), str(error))
            self.reasons[host.name] = ("UNREACHABLE", f"{error}. Look in the inventory at {where}")

    def operation_host_start(self, state: State, host: Host, op_hash: str) -> None:  # type: ignore[override]
        """Forget what was said of the host in earlier operations."""
        self.complaints.pop(host.name, None)

    def operation_host_error(  # type: ignore[override]
        self, state: State, host: Host, op_hash: str, retry_count: int = 0, max_retries: int = 0
    ) -> None:
        """Note the operation that failed."""
        if not state.ops[host][op_hash].global_arguments["_ignore_errors"]:
            self.reasons[host.name] = ("FAILED", ", ".join(state.op_meta[op_hash].names).strip())

    def __enter__(self) -> Recap:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.broken_off = kind is not None and not issubclass(kind, (SystemExit, click.exceptions.Exit))

    def lines(self) -> list[str]:
        """A line a host; none when no host was connected to."""
        state = self.state
        if state is None or state.current_stage < StateStage.Connect:
            return []
        hosts = [host for host in state.inventory if state.is_host_in_limit(host)]
        width = max((len(host.name) for host in hosts), default=0)
        return [f"{host.name:<{width}}  {self._line(state, host)}" for host in hosts]

    def _line(self, state: State, host: Host) -> str:
        complaints = self.complaints.get(host.name, [])
        if host.name in self.reasons:
            word, reason = self.reasons[host.name]
            if word == "FAILED":
                reason = ": ".join([reason, *self._cause(state, host, complaints)])
            return f"{word}  {reason}"
        if host not in state.activated_hosts:
            return "UNREACHABLE"
        if host in state.failed_hosts:
            return f"FAILED  {complaints[0] if complaints else 'see above'}"
        done = [data.operation_meta for data in state.ops[host].values() if data.operation_meta.is_complete()]
        total = len(state.ops[host])
        if state.is_executing and len(done) == total:
            return f"ok  {sum(one.did_change() for one in done)} of {total} operations changed something"
        if self.broken_off or state.is_executing or not state.check_for_changes:
            return f"STOPPED  after {len(done)} of {total} operations"
        return f"ok  {state.meta[host].ops_change} of {total} operations would change something"

    @property
    def changed(self) -> bool:
        """Whether the run came to its end on a host, and changed something there."""
        state = self.state
        if state is None or not state.is_executing or self.broken_off:
            return False
        for host in set(state.activated_hosts) - set(state.failed_hosts):
            done = [data.operation_meta for data in state.ops[host].values() if data.operation_meta.is_complete()]
            if len(done) == len(state.ops[host]) and any(one.did_change() for one in done):
                return True
        return False

    def _cause(self, state: State, host: Host, complaints: list[str]) -> list[str]:
        """Why the operation failed: the cause that was found, else what was said first, else the last output."""
        causes = [line for line in complaints if line.startswith("cause: ")] or complaints
        if causes:
            return causes[:1]
        failed = [data.operation_meta for data in state.ops[host].values() if data.operation_meta.is_complete()]
        output = [line for one in failed if one.did_error() for line in one.stderr_lines or one.stdout_lines]
        return output[-1:]


@cache
def recap() -> Recap:
    """The recap of this process's run, printed at its end to standard error."""
    found = Recap()
    if ctx_state.isset():
        found.watch(ctx_state.get())
    logger.addHandler(found)
    context = click.get_current_context(silent=True)
    if context is not None:
        root = context.find_root()
        root.with_resource(found)
        found.inventory = str(root.params.get("inventory") or "")
    atexit.register(_print, found)
    return found


def note_refusal(host: Host, reason: str) -> None:
    """Say in the recap why the host was refused before anything was changed."""
    found = [line.removeprefix("preflight: ").partition(" What to do: ")[0] for line in reason.splitlines()]
    recap().reasons[host.name] = ("REFUSED", " ".join(found))


def note_next(commands: Mapping[str, str]) -> None:
    """Say at the end of a run that changed a host what its owner can do now: commands of ojai, and what they are for.

    They are given the run's inventory, which is known where ``config.py`` has called ``prepare_run``.
    """
    recap().commands = commands


def _print(found: Recap) -> None:
    lines = found.lines()
    if found.inventory and found.commands and found.changed:
        said = (f"`ojai {command} {shlex.quote(found.inventory)}` {use}" for command, use in found.commands.items())
        click.echo(f"--> Next: {'; '.join(said)}", err=True)
    if lines:
        click.echo("\n".join(["--> Recap:", *(f"    {line}" for line in lines)]), err=True)
