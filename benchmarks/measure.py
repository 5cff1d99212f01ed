"""One run of a program, measured: wall clock, processor time and memory of all its processes, bytes on the bridge."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
PR_SET_CHILD_SUBREAPER = 36
#: Seconds between two looks at memory. Only in runs whose time is not kept: a look takes time from the program.
LOOK = 0.05


@dataclass(frozen=True)
class Run:
    """What one run took. ``memory``: bytes, the greatest sum over its processes, shared pages counted once; None: not
    looked at."""

    status: int
    output: str
    wall: float
    cpu: float
    memory: int | None
    sent: int


def _adopt(value: bool) -> None:
    """Whether what its parent leaves behind, such as ssh's master, becomes a child of this process."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, int(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def children(pid: int) -> set[int]:
    """The processes whose parent is ``pid``."""
    found: set[int] = set()
    with suppress(OSError):
        for task in (PROC / str(pid) / "task").iterdir():
            found |= {int(word) for word in (task / "children").read_text().split()}
    return found


def tree(pid: int) -> set[int]:
    """``pid`` and all that it started."""
    found, new = set(), {pid}
    while new:
        found |= new
        new = set().union(*(children(one) for one in new)) - found
    return found


def memory(pids: set[int]) -> int:
    """Bytes that these processes have in memory; a page that several share is counted once."""
    total = 0
    for pid in pids:
        with suppress(OSError, IndexError, ValueError):
            text = (PROC / str(pid) / "smaps_rollup").read_text()
            total += 1024 * int(text.split("Pss:", 1)[1].split()[0])
    return total


def passed_on(interface: str) -> int:
    """Bytes that an interface has sent and received."""
    folder = Path("/sys/class/net", interface, "statistics")
    return sum(int((folder / name).read_text()) for name in ("rx_bytes", "tx_bytes"))


def run(
    argv: Sequence[str | Path], env: Mapping[str, str], cwd: Path, interface: str | None = None, looks: bool = False
) -> Run:
    """Run a program to its end. What it leaves running is ended, and its time counted too."""
    before = children(os.getpid())
    start = passed_on(interface) if interface else 0
    used = _used()
    most = 0
    ended = threading.Event()
    _adopt(True)
    try:
        began = time.monotonic()
        program = subprocess.Popen(
            [str(word) for word in argv], cwd=cwd, env=dict(env), text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

        def look() -> None:
            nonlocal most
            while not ended.wait(LOOK):
                left = children(os.getpid()) - before
                most = max(most, memory(set().union(*(tree(pid) for pid in left))))

        looking = threading.Thread(target=look, daemon=True)
        if looks:
            looking.start()
        output: list[str] = []
        reading = threading.Thread(target=lambda: output.extend(program.stdout or ()), daemon=True)
        reading.start()
        status = program.wait()
        wall = time.monotonic() - began
        ended.set()
        for pid in children(os.getpid()) - before:  # such as ssh's masters: they hold the output open
            with suppress(OSError):
                os.kill(pid, signal.SIGTERM)
                os.waitpid(pid, 0)
        reading.join(5)
        if looks:
            looking.join()
    finally:
        _adopt(False)
    sent = passed_on(interface) - start if interface else 0
    return Run(status, "".join(output), wall, _used() - used, most if looks else None, sent)


SPIN = "import time\nbegan = time.monotonic()\nwhile time.process_time() < 1: pass\nprint(time.monotonic() - began)"


def crowding() -> float:
    """How long a second of computing takes on all cores at once: 1.0 where nobody else computes at our priority."""
    spins = [
        subprocess.Popen([sys.executable, "-S", "-c", SPIN], stdout=subprocess.PIPE, text=True)
        for _ in range(os.cpu_count() or 1)
    ]
    return max(float(spin.communicate()[0]) for spin in spins)


def _used() -> float:
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime
