"""A program on a host whose input and output stay open: what is sent and received as it comes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyinfra.api import Host

from ojai.pyinfra_internals import SSHConnector


class NotConnectedError(Exception):
    """There is no connection to the host."""


@dataclass(frozen=True)
class Channel:
    """Both ends of a program. ``receive`` gives nothing more when it has ended; ``close`` ends its input."""

    send: Callable[[bytes], object]
    receive: Callable[[int], bytes]
    close: Callable[[], object]


def start(host: Host, command: str, timeout: float | None) -> Channel:
    """Start a command, wrapped for sudo and the like already. ``timeout``: seconds that an answer may take."""
    if isinstance(host.connector, SSHConnector):
        transport = host.connector.client and host.connector.client.get_transport()
        if not transport:
            raise NotConnectedError("no connection")
        channel = transport.open_session(timeout=timeout)
        channel.settimeout(timeout)
        channel.set_combine_stderr(True)
        channel.exec_command(command)
        return Channel(channel.sendall, channel.recv, channel.close)
    # In a session of its own: Ctrl-C is for the run, which then ends it.
    process: Any = subprocess.Popen(
        command,
        shell=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        start_new_session=True,
    )
    return Channel(process.stdin.write, process.stdout.read, process.stdin.close)
