"""The connection to a host: without delay, and watched, so that a host that is gone ends the run instead of holding it.

And how a run tells of it: pyinfra's tracebacks as sentences, and a recap of every host at the end.
"""

from __future__ import annotations

import atexit
import functools
import logging
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from getpass import getpass
from pathlib import Path
from typing import Any

import gevent
from gevent.select import select
from pyinfra import logger
from pyinfra.api import Host
from pyinfra.api.exceptions import ConnectError, PyinfraError

from ojai.connection import thrift
from ojai.connection.alone import keep_hosts_apart
from ojai.connection.answers import mark_answers
from ojai.connection.reads import reading, remember
from ojai.connection.recap import recap
from ojai.pyinfra_internals import (
    CONNECTOR_ARGUMENT_KEYS,
    LocalConnector,
    SFTPError,
    SSHConfig,
    SSHConnector,
    SSHException,
    Transport,
    cli_module,
    pop_global_arguments,
    ssh_client,
    ssh_util,
    util,
)

#: Seconds between two keepalive requests.
INTERVAL = 15.0

#: Seconds between two looks whether the connection is still open.
POLL = 0.5

#: Seconds to wait for the answer before the connection is given up. Any answer will do, a refusal too.
TIMEOUT = 45.0


class NoTerminalError(PyinfraError, OSError):
    """A password is needed, and there is nobody to ask. Of these two kinds, pyinfra fails the host or ends the run."""


@dataclass(frozen=True)
class _Watch:
    """A connection under watch, and what a line about its host begins with."""

    prefix: str
    transport: Transport
    work: gevent.Greenlet[..., None]


# What paramiko logs there with a traceback, such as a banner that does not come, it also raises.
logging.getLogger("paramiko.transport").setLevel(logging.CRITICAL)

# pyinfra raises these where no host is left, and says so. gevent would show where, with a traceback, before that.
gevent.get_hub().NOT_ERROR = (*gevent.get_hub().NOT_ERROR, PyinfraError)

_WATCHES: dict[str, _Watch] = {}


def prepare_run() -> None:
    """Called by ``config.py``, before pyinfra connects: sentences instead of tracebacks, and a recap at the end."""
    cli = cli_module()
    for module in (util, ssh_util, cli):
        module.getpass = _getpass  # type: ignore[union-attr]
    cli._do_confirm = _confirming(cli._do_confirm)
    cli.input = _input
    if not hasattr(SSHConnector.connect, "__wrapped__"):
        SSHConnector.connect = _failing_alone(SSHConnector.connect)  # type: ignore[method-assign,assignment]
        SSHConfig.lookup = _without_a_jump_to_none(SSHConfig.lookup)  # type: ignore[method-assign]
        ssh_client.append_hostkey = _in_a_folder(ssh_client.append_hostkey)
        ssh_client.get_host_keys = _of_files_that_exist(ssh_client.get_host_keys)
    thrift.install()
    keep_hosts_apart()
    mark_answers()
    recap()


def _getpass(prompt: str) -> str:
    try:
        return getpass(prompt)
    except EOFError:
        raise NoTerminalError(
            f"{prompt.strip(': ')}: there is no terminal to ask on. What to do: start the run in one, or give the "
            "password on standard input or in the host's data (_sudo_password, ssh_key_password)."
        ) from None


def _input() -> str:
    """pyinfra's question waits here without holding up what keeps connections and locks alive."""
    with suppress(OSError, ValueError):  # what has no file descriptor is read at once
        select([sys.stdin], [], [])
    return input()


def _confirming(confirm: Callable[[str], bool]) -> Callable[[str], bool]:
    @functools.wraps(confirm)
    def wrapped(msg: str) -> bool:
        try:
            return confirm(msg)
        except EOFError:
            if "continue?" in msg:  # without some hosts, which only looks: before a change there is another question
                return True
            raise NoTerminalError("there is no terminal to confirm the changes on. What to do: add --yes.") from None

    return wrapped


def _failing_alone(connect: Callable[[SSHConnector], None]) -> Callable[[SSHConnector], None]:
    """pyinfra ends the run of all hosts when the key of one cannot be read."""

    @functools.wraps(connect)
    def wrapped(self: SSHConnector) -> None:
        try:
            connect(self)
        except ConnectError:
            raise
        except PyinfraError as error:
            raise ConnectError(f"{error}. What to do: look at ssh_key in the host's data") from None
        except RecursionError:
            raise ConnectError("its ProxyJump leads back to itself. What to do: look at ~/.ssh/config") from None

    return wrapped


def _without_a_jump_to_none(lookup: Callable[..., Any]) -> Callable[..., Any]:
    """``ProxyJump none`` is ssh's word for a direct connection; pyinfra would jump by a host of that name."""

    @functools.wraps(lookup)
    def wrapped(self: SSHConfig, hostname: str) -> Any:
        found = lookup(self, hostname)
        if found.get("proxyjump", "").lower() == "none":
            del found["proxyjump"]
        return found

    return wrapped


def _in_a_folder(append: Callable[..., None]) -> Callable[..., None]:
    """A new home has no ~/.ssh: make it, as ssh itself does. pyinfra fails there, once the host has answered."""

    @functools.wraps(append)
    def wrapped(client: Any, hostname: str, key: Any) -> None:
        file = client._host_keys_filename
        try:
            if file is not None:
                Path(file).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            append(client, hostname, key)
        except OSError as error:
            raise ConnectError(
                f"its host key cannot be noted in {file}: {error.strerror}. What to do: set ssh_known_hosts_file to a "
                "file that this account can write"
            ) from None

    return wrapped


def _of_files_that_exist(load: Callable[[tuple[str, ...]], Any]) -> Callable[[tuple[str, ...]], Any]:
    @functools.wraps(load)
    def wrapped(filenames: tuple[str, ...]) -> Any:
        return load(tuple(file for file in filenames if Path(file).exists()))

    return wrapped


def _transport(host: Host) -> Transport | None:
    if not isinstance(host.connector, SSHConnector) or host.connector.client is None:
        return None
    transport: Transport | None = host.connector.client.get_transport()
    return transport


def _failure_is_an_ssh_error(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except EOFError as error:
            raise SSHException("the connection was closed from the other side") from error
        except NoTerminalError:
            raise
        except (PyinfraError, SFTPError) as error:
            raise SSHException(str(error)) from error

    return wrapped


def configure_connection(host: Host) -> None:
    """Send small packets at once, and start the keepalive; once for every connection that is made.

    paramiko never sets TCP_NODELAY, which costs some 40 ms a command, and sends no keepalive: a run would wait forever
    for a host whose network is gone. A connection through a proxy command is no socket.

    paramiko raises EOFError when a connection is closed in the middle of a request. pyinfra takes that for an error of
    its own, and ends the run for all hosts with a traceback; an SSHException fails the one host. So does one for what
    pyinfra itself raises there, such as a helper for sudo's password that cannot be written.
    """
    mark_answers()
    recap()
    transport = _transport(host)
    if transport is None:
        if isinstance(host.connector, LocalConnector):
            remember(host)
        return
    for name in ("run_shell_command", "put_file", "get_file"):
        if name not in vars(host.connector):  # once a host, however often it is connected to
            setattr(host.connector, name, _failure_is_an_ssh_error(getattr(host.connector, name)))
    if isinstance(transport.sock, socket.socket):
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    remember(host)
    stop_keepalive(host)
    prefix = host.print_prefix
    _WATCHES[host.name] = _Watch(prefix, transport, gevent.spawn(watch, prefix, transport))


def stop_keepalive(host: Host) -> None:
    """Stop the keepalive: the host is about to reboot."""
    watching = _WATCHES.pop(host.name, None)
    if watching is not None:
        watching.work.kill()


def watch(prefix: str, transport: Transport) -> None:
    """Send a keepalive every :data:`INTERVAL` seconds; without an answer for :data:`TIMEOUT` seconds, hang up.

    Whatever waits for the host then fails at once, and the run reports it (each line with ``prefix``) and ends. Not
    given the host itself: in a deploy file that name means whichever host is current.

    Do not test the thread: gevent may report an ended one as alive. A closed connection is no longer active.
    """
    while True:
        sent = time.monotonic()
        while time.monotonic() - sent < INTERVAL:
            gevent.sleep(POLL)
            if not transport.is_active():
                _lost(prefix, "it was closed from the other side")
                return
        answer = gevent.spawn(transport.global_request, "keepalive@openssh.com", None, True)
        answer.join(TIMEOUT)
        if not answer.ready():
            answer.kill(block=False)
            _lost(prefix, f"no answer for {TIMEOUT:.0f} s")
            transport.close()
            return


@atexit.register
def report_lost() -> None:
    """Report connections that were lost where the run ended before :func:`watch` noticed."""
    for watching in _WATCHES.values():
        if not watching.work.ready() and not watching.transport.is_active():
            _lost(watching.prefix, "it was closed from the other side")


def _lost(prefix: str, found: str) -> None:
    logger.error(
        f"{prefix}connection: found it lost ({found}); expected: the host to answer. "
        "What to do: see that it runs and can be reached, then run the deploy again; it continues where it stopped."
    )


def privileges(host: Host) -> dict[str, Any]:
    """The privileges of this run on the host, as arguments of a command."""
    arguments, _ = pop_global_arguments(host.state, host, {})
    return {key: value for key, value in arguments.items() if key in CONNECTOR_ARGUMENT_KEYS}


def refused_by_sudo(host: Host) -> str | None:
    """Why the host refuses a command with the privileges of this run; None when it works."""
    try:
        with reading():
            success, output = host.run_shell_command("id -u", **privileges(host))
    except (NoTerminalError, OSError, SSHException) as error:
        return str(error)
    if success:
        return None
    return " ".join(output.output_lines).strip() or "no answer"
