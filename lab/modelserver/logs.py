"""Log lines in vLLM's form, on standard output; and the way to die with one."""

from __future__ import annotations

import os
import sys
import time
from typing import NoReturn

_process = "APIServer"


class LoadError(Exception):
    """vLLM would stop here: `str()` is its last line (type and message)."""


def set_process(name: str) -> None:
    """Name the process that logs (`APIServer`, `EngineCore`), as vLLM prefixes its lines."""
    global _process
    _process = name


def log(level: str, where: str, message: str) -> None:
    """Print one log line: level (INFO, WARNING, ERROR), the file it would come from, the message."""
    stamp = time.strftime("%m-%d %H:%M:%S")
    prefix = f"({_process} pid={os.getpid()}) "
    for line in message.splitlines() or [""]:
        print(f"{prefix}{level} {stamp} [{where}] {line}", flush=True)


def info(where: str, message: str) -> None:
    """Log at INFO."""
    log("INFO", where, message)


def warning(where: str, message: str) -> None:
    """Log at WARNING."""
    log("WARNING", where, message)


def error(where: str, message: str) -> None:
    """Log at ERROR."""
    log("ERROR", where, message)


def fail(message: str, status: int = 1) -> NoReturn:
    """Print a message on standard error and end the process with that status."""
    print(message, file=sys.stderr, flush=True)
    raise SystemExit(status)
