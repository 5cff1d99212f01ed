"""The engine: a process of its own, as in vLLM, which loads the model and then waits to be stopped.

It is a fork of the server. Its name is VLLM::EngineCor (Linux cuts at 15 characters; the real one is
VLLM::EngineCore). Killed with -9 it takes TunableOp's results with it; stopped, it writes them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import mmap
import os
import signal
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from . import tunableop
from .environment import Environment
from .loading import Loaded, load
from .logs import LoadError, error, info, set_process

PROCESS_NAME = "VLLM::EngineCore"


@dataclass(frozen=True)
class Engine:
    """A started engine: its process id, and the parent's end of the socket between the two."""

    pid: int
    channel: socket.socket

    def receive(self) -> Loaded | None:
        """Return what was loaded once the engine says so, or None if it is gone."""
        with contextlib.suppress(ConnectionError):
            line = self.channel.recv(65536)
            if line:
                return Loaded(**json.loads(line))
        return None

    def stop(self) -> None:
        """Ask the engine to end properly; it answers by closing the socket."""
        with contextlib.suppress(OSError):
            self.channel.sendall(b"stop")

    def wait(self) -> int:
        """Wait for the process to end and return its exit status (negative: the signal)."""
        try:
            _, status = os.waitpid(self.pid, 0)
        except ChildProcessError:
            return 0
        return os.waitstatus_to_exitcode(status)


class _Terminated(Exception):
    pass


def _on_terminate(signum: int, frame: object) -> None:
    raise _Terminated


def _run(arguments: argparse.Namespace, environment: Environment, channel: socket.socket) -> int:
    mappings: list[mmap.mmap] = []
    loaded = False
    try:
        try:
            result = load(arguments, environment, mappings)
        except LoadError as failed:
            error("core.py", "EngineCore failed to start.")
            error("core.py", str(failed))
            print(f"{failed}", file=sys.stderr, flush=True)
            return 1
        loaded = True
        channel.sendall(json.dumps(asdict(result)).encode())
        order = channel.recv(16)
    except (_Terminated, ConnectionError):
        order = b"stop" if loaded else b""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if order == b"stop":
        tunableop.write_at_exit(environment)
        info("core.py", "EngineCore stopped.")
    return 0


def start(arguments: argparse.Namespace, environment: Environment, close: list[socket.socket]) -> Engine:
    """Fork the engine. Call it before any thread is started; `close` are sockets the child must not keep."""
    ours, theirs = socket.socketpair()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        theirs.close()
        return Engine(pid, ours)
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, _on_terminate)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for other in (ours, *close):
            other.close()
        with contextlib.suppress(OSError):
            Path("/proc/self/comm").write_text(PROCESS_NAME[:15])
        set_process("EngineCore")
        status = _run(arguments, environment, theirs)
    except BaseException as unexpected:
        print(f"{type(unexpected).__name__}: {unexpected}", file=sys.stderr, flush=True)
    finally:
        sys.stdout.flush()
        os._exit(status)
