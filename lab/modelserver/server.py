"""The program: parse, bind, start the engine, serve, and stop as vLLM does.

Status: 0 after SIGTERM or SIGINT, and after the engine died while serving (so `Restart=on-failure` would leave
it down); 1 when it cannot start; 2 for a wrong command line.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from typing import NoReturn

from . import NOTICE, VERSION, arguments, bench, engine
from .api import Server
from .environment import Environment, read
from .logs import error, fail, info
from .state import DEAD, DRAINING, State

SECRET = ("api_key", "hf_token")
EXIT_AFTER_ENGINE_DEATH = 3.0
"""Seconds between the engine's death and the server's own end (3.5 s were measured on vLLM 0.28)."""
STREAMS_LAST_WORDS = 0.3
"""Seconds given to open streams to send their error event."""


def bind(host: str | None, port: int) -> socket.socket:
    """Return a TCP socket bound to the address; ends the process with status 1 when it is taken or bad."""
    family = socket.AF_INET6 if host and ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host or "", port))
    except socket.gaierror as bad:
        fail(f"socket.gaierror: {bad} (--host {host})")
    except (OSError, OverflowError) as bad:
        fail(f"{type(bad).__name__}: {bad} (--host {host or '0.0.0.0'} --port {port})")
    return listener


def _log_start(parsed: argparse.Namespace, model: str) -> None:
    info("api_server.py", NOTICE)
    info("api_server.py", f"vLLM API server version {VERSION}, serving model {model}")
    given = {name: "***" if name in SECRET else getattr(parsed, name) for name in parsed.given}
    info("utils.py", f"non-default args: {given}")


class Signals:
    """SIGTERM and SIGINT as a socket that becomes readable."""

    def __init__(self) -> None:
        self.reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)

    def sockets(self) -> list[socket.socket]:
        """Return both ends, which a forked child must not keep."""
        return [self.reader, self._writer]


def _stop(state: State, started: engine.Engine) -> None:
    timeout = state.arguments.shutdown_timeout
    info("launcher.py", f"Shutdown initiated (timeout={timeout})")
    state.phase = DRAINING
    if timeout and not state.wait_until_idle(timeout):
        info("launcher.py", f"requests still running after {timeout} s are aborted")
    state.abort.set()
    started.stop()
    state.wait_until_idle(STREAMS_LAST_WORDS)
    # `running` falls to zero before the last words are written: leave the threads a moment for them.
    time.sleep(0.05)
    started.wait()
    info("launcher.py", "Shutting down FastAPI HTTP server.")


def serve(parsed: argparse.Namespace, environment: Environment) -> int:
    """Serve until told to stop or the engine dies; return the exit status."""
    state = State(parsed, environment)
    _log_start(parsed, state.model)
    listener = bind(parsed.host, parsed.port)
    signals = Signals()
    started = engine.start(parsed, environment, [listener, *signals.sockets()])
    server = Server(listener, state)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    readable, _, _ = select.select([signals.reader, started.channel], [], [])
    if signals.reader in readable:
        with contextlib.suppress(ProcessLookupError):
            os.kill(started.pid, signal.SIGTERM)
        started.wait()
        info("launcher.py", "terminated while loading")
        return 0
    loaded = started.receive()
    if loaded is None:
        status = started.wait()
        error("utils.py", f"Engine core process ended with {status} while loading.")
        print(
            "RuntimeError: Engine core initialization failed. See root cause above. "
            f"Failed core proc(s): {{'EngineCore': {status}}}",
            file=sys.stderr,
            flush=True,
        )
        return 1
    state.ready(loaded)
    info("api_server.py", f"Starting vLLM server on http://{parsed.host or '0.0.0.0'}:{parsed.port}")
    print("INFO:     Application startup complete.", flush=True)

    readable, _, _ = select.select([signals.reader, started.channel], [], [])
    if signals.reader in readable:
        _stop(state, started)
        return 0
    state.phase = DEAD
    state.abort.set()
    error("core_client.py", f"Engine core died unexpectedly (status {started.wait()}), shutting down client.")
    select.select([signals.reader], [], [], EXIT_AFTER_ENGINE_DEATH)
    return 0


def main(words: Sequence[str] | None = None) -> NoReturn:
    """Run `vllm` with these words, by default the process's own, and end the process."""
    try:
        environment = read()
    except ValueError as bad:
        fail(f"ojai lab's stand-in: {bad}")
    if environment.crash_at == "start":
        fail("RuntimeError: OJAI_LAB_CRASH_AT=start: the ojai lab's stand-in was told to die here")
    words = sys.argv[1:] if words is None else words
    if list(words[:2]) == ["bench", "serve"]:
        raise SystemExit(bench.main(words[2:]))
    parsed = arguments.command(words, arguments.load_contract())
    status = serve(parsed, environment)
    # Not through the interpreter's own end: threads still hold connections there, and it may stumble over them.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
