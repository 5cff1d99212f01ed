"""64 streams at once through a gateway, while the engine behind it is killed and comes back.

    python -m tests.gateway.load SECONDS     with the vLLM of `make contract-server`; the page is written

Its engine is killed with all its processes, as `docker kill` does, and started again at once, as systemd does.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.gateway import figures, nginx
from tools.contract import server

STREAMS = 64


@dataclass(frozen=True)
class Client:
    """What ``ojai open`` tells, and a client with it."""

    url: str
    authority: str
    model: str
    key: str
    #: seconds that it waits for the next bytes
    patience: float = 60

    @property
    def hello(self) -> dict[str, object]:
        return {"model": self.model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}

    def asks(self, body: dict[str, object], header: str | None = None) -> bytes:
        """All that comes back for a chat: with its key, or with this header."""
        at = urlsplit(self.url)
        host, text = str(at.hostname), json.dumps(body)
        header = f"Authorization: Bearer {self.key}" if header is None else header
        head = ["POST /v1/chat/completions HTTP/1.1", f"Host: {host}", "Connection: close", *filter(None, [header])]
        head += ["Content-Type: application/json", f"Content-Length: {len(text)}"]
        context = ssl.create_default_context(cafile=self.authority)
        with (
            socket.create_connection((host, at.port or 443), self.patience) as plain,
            context.wrap_socket(plain, server_hostname=host) as connection,
        ):
            connection.sendall("\r\n".join([*head, "", text]).encode())
            found = b""
            with suppress(ConnectionError, ssl.SSLError):
                while piece := connection.recv(65536):
                    found += piece
            return found


def streams(client: Client, seconds: float, kill: Callable[[], None], **body: object) -> dict[str, float]:
    """What came of them, as the page has it; AssertionError if it is not as it should be.

    + kill: ends the engine; called after a third of the time
    """
    end = time.monotonic() + seconds
    answers: list[tuple[float, bytes]] = []

    def one_after_the_other(_: int) -> None:
        while time.monotonic() < end:
            answer = client.asks({**client.hello, "max_tokens": 24, "stream": True, **body})
            answers.append((time.monotonic(), answer))
            time.sleep(0.5)

    with ThreadPoolExecutor(STREAMS) as pool:
        running = [pool.submit(one_after_the_other, number) for number in range(STREAMS)]
        time.sleep(seconds / 3)
        kill()
        killed = time.monotonic()
        for one in running:
            one.result()
    whole = [at for at, answer in answers if answer.startswith(b"HTTP/1.1 200 ") and b"data: [DONE]" in answer]
    refused = [at for at, answer in answers if answer.startswith((b"HTTP/1.1 503 ", b"HTTP/1.1 429 "))]
    cut = [at for at, answer in answers if answer.startswith(b"HTTP/1.1 200 ") and b"data: [DONE]" not in answer]
    again = min((at for at in whole if at > killed + 2), default=0.0) - killed
    print(
        f"{STREAMS} streams, {seconds:.0f} s: {len(answers)} requests, {len(whole)} whole, {len(refused)} refused, "
        f"{len(cut)} cut off by the kill; served again after {again:.1f} s"
    )
    assert len(whole) + len(refused) + len(cut) == len(answers), "a request without an answer or a clear error"
    assert all(abs(at - killed) < 10 for at in cut) and len(cut) <= STREAMS, (
        "streams were cut that the kill did not cut"
    )
    assert len(whole) >= STREAMS and refused and again > 0, "it did not recover by itself"
    return {
        "streams": STREAMS,
        "seconds": round(seconds),
        "requests": len(answers),
        "whole": len(whole),
        "refused": len(refused),
        "cut": len(cut),
        "again": round(again, 1),
    }


def main(seconds: float) -> None:
    """With the real engine, on this machine."""
    port, place = nginx.free_port(), server.PLACE
    engine = server.started(place, port, "--max-num-seqs", "16")

    def kill() -> None:
        nonlocal engine
        os.killpg(engine.pid, signal.SIGKILL)
        engine.wait()
        engine = server.started(place, port, "--max-num-seqs", "16")

    try:
        assert server.answers(engine, port), "vLLM did not start"
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            folder.chmod(0o755)
            with nginx.running(folder, port) as gateway:
                url, key = f"https://localhost:{gateway.port}/v1", nginx.KEYS["laptop"]
                client = Client(url, str(gateway.authority), server.MODEL, key, patience=600)
                workers = gateway.workers()
                # A random model may end its answer at once.
                found = streams(client, seconds, kill, ignore_eos=True)
                assert gateway.workers() == workers, "the gateway was restarted"
    finally:
        os.killpg(engine.pid, signal.SIGKILL)
    figures.record("real", **found)


if __name__ == "__main__":
    main(float(sys.argv[1]))
