"""A client that sends exactly the bytes that it is given, over TLS, and reads what comes back."""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from tests.gateway import figures
from tests.gateway.nginx import KEYS, Gateway

KEY = KEYS["laptop"]
BEARER = f"Authorization: Bearer {KEY}"


@dataclass(frozen=True)
class Answer:
    """Everything that came back on one connection."""

    data: bytes

    @property
    def statuses(self) -> list[int]:
        """Of every answer in it, in their order."""
        return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", self.data)]

    @property
    def status(self) -> int:
        return self.statuses[0]

    def header(self, name: str) -> str:
        for line in self.data.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n"):
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        return ""

    @property
    def body(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[2]


@contextmanager
def connected(
    gateway: Gateway, timeout: float = 20, context: ssl.SSLContext | None = None, name: str = "gateway.test"
) -> Iterator[ssl.SSLSocket]:
    figures.count("connections")
    context = context or ssl.create_default_context(cafile=str(gateway.authority))
    with (
        socket.create_connection(("127.0.0.1", gateway.port), timeout) as plain,
        context.wrap_socket(plain, server_hostname=name) as found,
    ):
        yield found


def read(connection: ssl.SSLSocket) -> bytes:
    """All that comes until the other side closes."""
    data = b""
    try:
        while piece := connection.recv(65536):
            data += piece
    except (ConnectionError, ssl.SSLError):
        pass
    return data


def send(gateway: Gateway, data: bytes, timeout: float = 20) -> Answer:
    """What one connection brings for these bytes. They should ask that it be closed, or it takes a while."""
    with connected(gateway, timeout) as connection:
        with suppress(ConnectionError, ssl.SSLError):  # it may be answered before all of it was sent
            connection.sendall(data)
        return Answer(read(connection))


def request(method: str, target: str, *headers: str, body: bytes = b"", version: str = "HTTP/1.1") -> bytes:
    """A request as a well-behaved client writes it, but for what it is given."""
    lines = [f"{method} {target} {version}", "Host: gateway.test", "Connection: close", *headers]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def timed(gateway: Gateway, data: bytes) -> list[tuple[float, bytes]]:
    """The pieces of an answer, each with the seconds that had passed."""
    pieces = []
    with connected(gateway) as connection:
        started = time.monotonic()
        connection.sendall(data)
        while piece := connection.recv(65536):
            pieces.append((time.monotonic() - started, piece))
    return pieces
