"""One host's trouble is that host's: what goes wrong while one is looked at or changed does not end the others' run.

pyinfra raises what a deploy file, a fact or an operation raises for one host, and ends the run of all of them.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import click
from pyinfra import logger
from pyinfra.api import FunctionCommand, Host, State
from pyinfra.api.exceptions import DeployError, PyinfraError

from ojai.connection.lock import release
from ojai.connection.recap import note_refusal
from ojai.pyinfra_internals import cli_prints, cli_util, ctx_host, operations


def refuse_host(state: State, host: Host, text: str) -> None:
    """Leave this host as it is, with the reason; the others go on. Raises ``DeployError`` if it was the last."""
    note_refusal(host, text)
    release(host)
    # Not state.fail_hosts: in a run without -y it asks whether to go on before the reasons are printed.
    state.failed_hosts.add(host)
    state.active_hosts.discard(host)
    if not state.active_hosts:
        raise DeployError("\n".join(f"{host.name}: {line}" for line in text.splitlines()))
    for line in text.splitlines():
        logger.error(f"{host.print_prefix}{line}")


def keep_hosts_apart() -> None:
    """Let what a host's deploy or operation raises fail that host alone; once a process."""
    util, prints = cli_util(), cli_prints()
    if hasattr(util._parallel_load_hosts, "__wrapped__"):
        return
    util._parallel_load_hosts = _looked_at_apart(util._parallel_load_hosts)
    operations.run_host_op = _changed_apart(operations.run_host_op)  # type: ignore[assignment]
    prints.json_encode = _with_dataclasses(prints.json_encode)


def _looked_at_apart(load: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(load)
    def wrapped(state: State, callback: Callable[[], None], name: str) -> None:
        def one() -> None:
            host: Host = ctx_host.get()
            try:
                callback()
            except Exception as error:
                if host not in state.failed_hosts:
                    refuse_host(state, host, f"preflight: {_sentence(error)}")
                elif isinstance(error, PyinfraError):  # pyinfra ends the run: no host is left, or nobody said go on
                    raise

        load(state, one, name)

    return wrapped


def _changed_apart(run: Callable[[State, Host, str], bool]) -> Callable[[State, Host, str], bool]:
    @functools.wraps(run)
    def wrapped(state: State, host: Host, op_hash: str) -> bool:
        data = state.ops[host].get(op_hash)
        if data is not None and not hasattr(data.command_generator, "__wrapped__"):
            data.command_generator = _failing(data.command_generator, host)
        return run(state, host, op_hash)

    return wrapped


def _failing(commands: Callable[[], Iterator[Any]], host: Host) -> Callable[[], Iterator[Any]]:
    """Commands that end in one that fails, where pyinfra's own would raise."""

    def fail(state: State, host: Host, message: str) -> bool:
        logger.error(f"{host.print_prefix}{message}")
        return False

    @functools.wraps(commands)
    def wrapped() -> Iterator[Any]:
        try:
            yield from commands()
        except Exception as error:
            if isinstance(error, PyinfraError) and host in host.state.failed_hosts:
                raise
            yield FunctionCommand(fail, (_sentence(error),), {})

    return wrapped


def _sentence(error: Exception) -> str:
    """What was raised and where, in one line; the traceback with ``--debug``."""
    error = getattr(error, "exception", error)  # as pyinfra's command line wraps it
    logger.debug("".join(traceback.format_exception(error)))
    if isinstance(error, (PyinfraError, click.ClickException)):
        return str(error).strip()
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in Path(frame.filename).parts] or frames
    where = f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
    text = " ".join(str(error).split())
    return (
        f"the host's answers: found {type(error).__name__}: {text}{where}; expected answers that can be read. "
        "What to do: see what is asked there, and what the host answers to it; `--debug` shows the traceback."
    )


def _with_dataclasses(encode: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """So that ``pyinfra INVENTORY fact`` prints our facts, which are dataclasses."""

    @functools.wraps(encode)
    def wrapped(value: Any) -> Any:
        if isinstance(value, frozenset):
            return sorted(value)
        return asdict(value) if is_dataclass(value) and not isinstance(value, type) else encode(value)

    return wrapped
