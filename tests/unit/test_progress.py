"""The lines of hosts that fetch at the same time, on a terminal and in a log: by pyinfra itself, on fake hosts."""

from __future__ import annotations

import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl
from pathlib import Path

import pytest

#: Three hosts whose step takes six seconds. One of them does not answer when it is asked how far it is.
DEPLOY = """
import gevent
from pyinfra import host
from pyinfra.operations import python

from ojai.operations import progress
from ojai.pyinfra_internals import CommandOutput, OutputLine

progress.MOVES, progress.HEARTBEAT = 0.2, 2.0
asked = {}

def ask(host, command, **arguments):
    if host.name == "@fake/silent":
        gevent.sleep(9)
    number = asked[host.name] = asked.get(host.name, 0) + 1
    text = "fetching " * 20 if "long" in host.name else "read"
    return True, CommandOutput([OutputLine("stdout", f"{text} {number}")])

progress.ask = ask

def step(state, host):
    work = gevent.spawn(gevent.sleep, 1 if host.name == "@fake/silent" else 6)
    told = gevent.spawn_later(3, progress.say, host, "in the middle") if host.name == "@fake/short" else None
    progress.follow(host, work, "/run/x")
    progress.say(host, "done")

python.call(name="Fetch", function=step)
"""
WIDTH, HEIGHT = 60, 24
HOSTS = "@fake/short,@fake/long,@fake/silent"


class Screen:
    """What a terminal shows of what is written to it: as much as is used of it."""

    def __init__(self) -> None:
        self.rows: list[str] = [""]
        self.row = self.column = 0

    def write(self, text: str) -> None:
        for escape, letter, character in re.findall(r"(?s)\x1b\[([\d;]*)([A-Za-z])|(.)", text):
            if letter == "A":
                self.row = max(self.row - int(escape or 1), 0)
            elif letter in "JK" and letter:
                self.rows[self.row] = self.rows[self.row][: self.column]
                if letter == "J":
                    del self.rows[self.row + 1 :]
            elif character == "\r":
                self.column = 0
            elif character == "\n":
                self.row += 1
                if self.row == len(self.rows):
                    self.rows.append("")
            elif character:
                line = self.rows[self.row].ljust(self.column)
                self.rows[self.row] = line[: self.column] + character + line[self.column + 1 :]
                self.column += 1


@pytest.fixture
def argv(tmp_path: Path) -> list[str]:
    (tmp_path / "deploy.py").write_text(DEPLOY)
    return [sys.executable, "-m", "pyinfra", "-y", HOSTS, str(tmp_path / "deploy.py")]


def moments(argv: list[str]) -> list[list[str]]:
    """What the terminal shows each time that something was written."""
    reader, writer = pty.openpty()
    ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
    environment = {**os.environ, "TERM": "xterm"}
    environment.pop("PYINFRA_PROGRESS", None)
    run = subprocess.Popen(argv, stdin=writer, stdout=writer, stderr=writer, env=environment)
    os.close(writer)
    screen, found, end = Screen(), [], time.monotonic() + 40
    while time.monotonic() < end:
        if not select.select([reader], [], [], 1)[0]:
            continue
        try:
            data = os.read(reader, 1 << 16)
        except OSError:
            break
        screen.write(data.decode(errors="replace"))
        found.append(list(screen.rows))
    run.kill()
    run.wait()
    os.close(reader)
    return found


def numbers(shown: list[list[str]], host: str) -> list[int]:
    """How far a host was, in each moment that had a line for it; no moment may have two."""
    seen = []
    for rows in shown:
        lines = [row for row in rows if host in row and re.search(r"(read|fetching)", row)]
        assert len(lines) <= 1 and all(len(line) < WIDTH for line in lines), rows
        seen += [int(found[1]) for line in lines if (found := re.search(r"read (\d+)$", line))]
    return seen


def test_on_a_terminal_each_host_has_a_line_and_a_silent_one_keeps_no_other_waiting(argv):
    shown = moments(argv)
    assert any("short" in row for rows in shown for row in rows), shown[-1:]
    short = numbers(shown, "short")
    assert max(short) > 20, "it waits for the host that does not answer"
    assert numbers(shown, "long") == []  # its line is cut at the terminal's width
    both = [rows for rows in shown if any("fetching" in row for row in rows) and any("read" in row for row in rows)]
    assert len(both) > 20
    # The spinner would write over them, and what is said meanwhile stands above them.
    middle = [rows for rows in both if any("in the middle" in row for row in rows)]
    assert middle and not any(re.match(r" +[-/|\\\\] ", row) for rows in both for row in rows)
    at = [next(n for n, row in enumerate(rows) if "in the middle" in row) for rows in middle]
    assert all("read" in rows[n + 1] or "fetching" in rows[n + 1] for rows, n in zip(middle, at, strict=True))
    # In the end, the lines are gone and what was said is whole.
    assert not any(re.search("read|fetching", row) for row in shown[-1])
    for host in ("short", "long"):
        assert sum(bool(re.search(rf"{host}\S* +done$", row)) for row in shown[-1]) == 1, shown[-1]


def test_in_a_log_a_line_is_written_now_and_then(argv):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    lines = [row for row in done.stderr.splitlines() if re.search(r"short\S* +read \d+$", row)]
    assert len(lines) == 2 and "\x1b[J" not in done.stderr, done.stderr
