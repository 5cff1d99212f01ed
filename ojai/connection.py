"""The connection to a host, tuned."""

from __future__ import annotations

import socket
from typing import Any

from pyinfra.api import Host
from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS, pop_global_arguments
from pyinfra.connectors.ssh import SSHConnector


def without_delay(host: Host) -> None:
    """Send small packets at once: paramiko never sets TCP_NODELAY, which costs some 40 ms a command.

    A connection through a proxy command is no socket, and one made anew after a reboot has the old setting.
    """
    if not isinstance(host.connector, SSHConnector) or host.connector.client is None:
        return
    transport = host.connector.client.get_transport()
    if transport is not None and isinstance(transport.sock, socket.socket):
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def refused_by_sudo(host: Host) -> str | None:
    """What the host says when a command is run with the privileges of this run, if it refuses; None when it works."""
    arguments, _ = pop_global_arguments(host.state, host, {})
    given: dict[str, Any] = {key: value for key, value in arguments.items() if key in CONNECTOR_ARGUMENT_KEYS}
    success, output = host.run_shell_command("id -u", **given)
    if success:
        return None
    return " ".join(output.output_lines).strip() or "no answer"
