"""The connection to a host: tuned, and watched, so that a host that is gone ends the run instead of holding it."""

from __future__ import annotations

import atexit
import functools
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gevent
from paramiko import SSHException, Transport
from pyinfra import logger
from pyinfra.api import Host
from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS, pop_global_arguments
from pyinfra.api.exceptions import PyinfraError
from pyinfra.connectors.ssh import SSHConnector

#: Seconds between two questions whether the host is still there.
EVERY = 15.0

#: Seconds between two looks whether the connection is still open.
LOOK = 0.5

#: Seconds to wait for the answer before the connection is given up. Any answer will do, a refusal too.
TIMEOUT = 45.0


@dataclass(frozen=True)
class _Watch:
    """A connection under watch, and what a line about its host begins with."""

    prefix: str
    transport: Transport
    work: gevent.Greenlet[..., None]


# What paramiko tells there with a traceback, a banner that does not come for instance, it also raises.
logging.getLogger("paramiko.transport").setLevel(logging.CRITICAL)

# pyinfra raises these where no host is left, and says so. gevent would show where, with a traceback, before that.
gevent.get_hub().NOT_ERROR = (*gevent.get_hub().NOT_ERROR, PyinfraError)

_WATCHES: dict[str, _Watch] = {}


def _transport(host: Host) -> Transport | None:
    if not isinstance(host.connector, SSHConnector) or host.connector.client is None:
        return None
    transport: Transport | None = host.connector.client.get_transport()
    return transport


def _closed_is_an_ssh_error(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except EOFError as error:
            raise SSHException("the connection was closed from the other side") from error

    return wrapped


def configure_connection(host: Host) -> None:
    """Send small packets at once, and watch the connection; once for every connection that is made.

    paramiko never sets TCP_NODELAY, which costs some 40 ms a command, and asks nothing of a silent host: one whose
    network is gone would be waited for without end. A connection through a proxy command is no socket.

    paramiko tells of one that is closed in the middle of a request with EOFError. pyinfra takes that for an error of
    its own, and ends the run for all hosts with a traceback; an SSHException fails the one host.
    """
    transport = _transport(host)
    if transport is None:
        return
    for name in ("run_shell_command", "put_file", "get_file"):
        if name not in vars(host.connector):  # once a host, however often it is connected to
            setattr(host.connector, name, _closed_is_an_ssh_error(getattr(host.connector, name)))
    if isinstance(transport.sock, socket.socket):
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stop_keepalive(host)
    prefix = host.print_prefix
    _WATCHES[host.name] = _Watch(prefix, transport, gevent.spawn(watch, prefix, transport))


def stop_keepalive(host: Host) -> None:
    """Stop watching: the host is about to go away because it was told to."""
    watching = _WATCHES.pop(host.name, None)
    if watching is not None:
        watching.work.kill()


def watch(prefix: str, transport: Transport) -> None:
    """Ask every :data:`EVERY` seconds for a sign of life; without one for :data:`PATIENCE` seconds, hang up.

    Whatever waits for the host then fails at once, and the run says so (each line with ``prefix``) and ends. Not given
    the host itself: in a deploy file that is a name whose meaning depends on who asks.

    A connection that was closed is no longer active. Its thread is no witness: gevent can take one that has ended for
    alive.
    """
    while True:
        asked = time.monotonic()
        while time.monotonic() - asked < EVERY:
            gevent.sleep(LOOK)
            if not transport.is_active():
                _lost(prefix, "it was closed from the other side")
                return
        sign = gevent.spawn(transport.global_request, "keepalive@openssh.com", None, True)
        sign.join(TIMEOUT)
        if not sign.ready():
            sign.kill(block=False)
            _lost(prefix, f"no sign of life for {TIMEOUT:.0f} s")
            transport.close()
            return


@atexit.register
def report_lost() -> None:
    """Say which connections were lost, where the run ended before :func:`watch` came to it."""
    for watching in _WATCHES.values():
        if not watching.work.ready() and not watching.transport.is_active():
            _lost(watching.prefix, "it was closed from the other side")


def _lost(prefix: str, found: str) -> None:
    logger.error(
        f"{prefix}connection: found it lost ({found}); expected: the host to answer. "
        "What to do: see that it runs and can be reached, then run the deploy again; it goes on from where it was."
    )


def refused_by_sudo(host: Host) -> str | None:
    """What the host says when a command is run with the privileges of this run, if it refuses; None when it works."""
    arguments, _ = pop_global_arguments(host.state, host, {})
    given: dict[str, Any] = {key: value for key, value in arguments.items() if key in CONNECTOR_ARGUMENT_KEYS}
    success, output = host.run_shell_command("id -u", **given)
    if success:
        return None
    return " ".join(output.output_lines).strip() or "no answer"
