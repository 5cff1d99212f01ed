"""Running other programs for the lab, and saying how long it takes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import click

from ojai.lab.errors import LabError

TAIL_LINES = 25
"""How many of a failed command's last lines are shown."""
HEARTBEAT_SECONDS = 15


def as_root(argv: Sequence[str]) -> list[str]:
    """Return argv so that it runs as root: as it is for root, through sudo for anyone else."""
    if os.geteuid() == 0:
        return list(argv)
    if shutil.which("sudo") is None:
        raise LabError(f"{argv[0]} has to run as root, and there is no sudo here: run the lab as root, or install sudo")
    return ["sudo", *argv]


def tail(text: str, lines: int = TAIL_LINES) -> str:
    """Return the last lines of a text, indented by two spaces."""
    return "\n".join(f"  {line}" for line in text.strip().splitlines()[-lines:])


def run(
    argv: Sequence[str | Path],
    *,
    what: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    log: Path | None = None,
) -> str:
    """Run a program and return its standard output; raise LabError with its last lines if it fails.

    With `log`, output goes to that file (appended, both streams) and the return value is empty.
    """
    words = [str(word) for word in argv]
    environment = {**os.environ, **env} if env is not None else None
    try:
        if log is None:
            done = subprocess.run(
                words,
                check=False,
                env=environment,
                cwd=cwd,
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True,
                text=True,
                errors="replace",
            )
            output, said = done.stdout, done.stderr.strip() or done.stdout
        else:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as sink:
                done_raw = subprocess.run(
                    words,
                    check=False,
                    env=environment,
                    cwd=cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                )
            output, said = "", log.read_text(errors="replace") if done_raw.returncode else ""
            if done_raw.returncode:
                said += f"\n(whole log: {log})"
    except FileNotFoundError as missing:
        raise LabError(f"{what}: the program {words[0]!r} is not there") from missing
    status = done.returncode if log is None else done_raw.returncode
    if status:
        raise LabError(f"{what} failed (status {status}): {shlex.join(words)[:400]}\n{tail(said)}")
    return output


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Say on stderr what is being done, every 15 seconds how long it has taken, and at the end how long it took."""
    start = time.monotonic()
    ended = threading.Event()

    def say(text: str) -> None:
        click.echo(f"lab: {what}{text}", err=True)

    def heartbeat() -> None:
        while not ended.wait(HEARTBEAT_SECONDS):
            say(f": {time.monotonic() - start:.0f} s so far")

    teller = threading.Thread(target=heartbeat, daemon=True)
    say(" …")
    teller.start()
    outcome = "stopped after"
    try:
        yield
        outcome = "done in"
    finally:
        ended.set()
        teller.join()
        say(f": {outcome} {time.monotonic() - start:.1f} s")


def lock(handle: IO[str], what: str) -> None:
    """Take an exclusive lock on an open file; say so when another process holds it, and wait."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with step(f"waiting for another `ojai lab` that is busy with {what}"):
            fcntl.flock(handle, fcntl.LOCK_EX)
