"""An engine that writes down whatever reaches it, and answers at once, as a stream, or not at all."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ojai.engines import get
from tests.gateway import figures

#: Method and path of all that the gateway passes on.
OFFERED = {(method, one.path) for one in get("vllm").offered for method in one.methods}


@dataclass(frozen=True)
class Got:
    """A request as it came in."""

    line: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


@dataclass
class Engine:
    """What has come in, and the port that it came by."""

    port: int = 0
    got: list[Got] = field(default_factory=list)
    #: seconds between the parts of a stream, and how many there are
    pause: float = 0.3
    parts: int = 4

    def take(self) -> list[Got]:
        """What has come in since the last time."""
        found, self.got = self.got, []
        return found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    engine: Engine

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline:
            self.close_connection = True
            return
        if not self.parse_request():
            figures.count("unlisted")
            self.engine.got.append(Got(self.raw_requestline.decode("latin-1"), (), b""))
            return
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = b"".join(iter(self._chunk, b""))
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        line = self.raw_requestline.decode("latin-1").strip()
        figures.count("reached")
        if tuple(line.split(" ")[:2]) not in OFFERED:
            figures.count("unlisted")
        self.engine.got.append(Got(line, tuple(self.headers.items()), body))
        if b'"stream": true' in body:
            self._stream()
        else:
            answer = json.dumps({"line": line}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)
        self.wfile.flush()

    def _chunk(self) -> bytes:
        size = int(self.rfile.readline().split(b";")[0], 16)
        data = self.rfile.read(size)
        self.rfile.readline()
        return data

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(self.engine.parts):
            data = f"data: {number}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()
            time.sleep(self.engine.pause)
        self.wfile.write(b"0\r\n\r\n")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that went away


@contextmanager
def recording(port: int = 0) -> Iterator[Engine]:
    """One that runs until the block ends."""
    engine = Engine()
    server = _Server(("127.0.0.1", port), type("Handler", (_Handler,), {"engine": engine}))
    engine.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield engine
    finally:
        server.shutdown()
        server.server_close()
