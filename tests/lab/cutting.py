"""Cutting a deploy off: start it, wait until it is where it should be cut, cut, and bring back what was taken."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from ojai.lab import state, vm
from ojai.lab.errors import LabError
from tests.lab.cases import Interruption
from tests.lab.machine import ROOT, Guest, Lab

#: Seconds that a place may take to be reached, and that a deploy whose host is back may take to end.
REACHING, ENDING = 900, 600
#: Seconds for which power or network stay away when the deploy does not end before.
OUTAGE = {"power": 20, "network": 100}

#: Shell (as root): what a cut left behind, a line each.
PROBE = r"""
uname -r | sed 's/^/kernel /'
dpkg-query -W -f 'dpkg: ${db:Status-Status} ${Package}\n' | grep -Ev ': (installed|config-files|not-installed) '
find /etc /var/lib/ojai /boot -xdev \( -name '*.ojai-new' -o -name '*.new' \) -printf 'left over: %p, %s bytes\n'
find /etc/apt/keyrings -name 'ojai-*.gpg' -printf 'key: %p, %s bytes\n'
find /var/lib/apt/lists/partial -type f -printf 'apt: partial list, %s bytes\n' | sort | uniq -c | head -n 3
pgrep -a 'apt-get|dpkg|mkinitramfs|curl|ldconfig|dockerd' | cut -c -100 | sed 's/^[0-9]* /at work: /' | sort -u
pgrep -af '[d]ocker run|[h]ub-client.pyz' | grep -v 'sh -c' | cut -c -80 | sed 's/^[0-9]* /at work: /' | sort -u
if systemctl -q is-active docker; then docker image ls --format 'image {{.Repository}}:{{.Tag}}'; fi
if test -e /etc/systemd/system/vllm-gemma4.service; then
  echo "unit: $(systemctl is-enabled vllm-gemma4), $(systemctl is-active vllm-gemma4)"
fi
"""


class NotReachedError(Exception):
    """The deploy was not cut where it should have been; the message says what happened instead."""


@dataclass
class Cut:
    """How a deploy was cut: the operation under way, and how it ended (``status`` None: it was killed)."""

    operation: str
    status: int | None = None
    ended_after: float = 0.0
    said: str = ""
    output: str = ""


class Running:
    """A deploy that is under way: its lines as they come, its end."""

    def __init__(self, lab: Lab, *words: str) -> None:
        self.lines: list[str] = []
        self.stdout = ""
        self.news = threading.Condition()
        self.process = subprocess.Popen(
            lab.deploy_argv(*words),
            cwd=ROOT,
            env={**lab.environment(), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.readers = [threading.Thread(target=self._errors), threading.Thread(target=self._output)]
        for reader in self.readers:
            reader.daemon = True
            reader.start()

    def _errors(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            with self.news:
                self.lines.append(line.rstrip("\n"))
                self.news.notify_all()
        with self.news:
            self.news.notify_all()

    def _output(self) -> None:
        assert self.process.stdout
        self.stdout = self.process.stdout.read()

    @property
    def operation(self) -> str:
        """The operation that it said last that it starts."""
        named = [line.partition("Starting operation: ")[2] for line in self.lines if "Starting operation: " in line]
        return named[-1].strip() if named else ""

    def wait_for(self, words: str, timeout: float) -> None:
        """Return when a line has ``words``; :class:`NotReachedError` when it ends, or after ``timeout`` seconds."""
        end = time.monotonic() + timeout
        with self.news:
            while True:
                # Looked at before the lines are: what it said last is in them by then.
                ended = self.process.poll() is not None and not self.readers[0].is_alive()
                if any(words in line for line in self.lines):
                    return
                if ended:
                    raise NotReachedError(f"the deploy ended before {words!r}: {self.tail()}")
                if time.monotonic() > end:
                    raise NotReachedError(f"the deploy did not say {words!r} within {timeout:.0f} s: {self.tail()}")
                self.news.wait(0.5)

    def wait(self, timeout: float) -> int | None:
        """Its exit status, None when it still runs after ``timeout`` seconds."""
        try:
            # Of 0 seconds wait() makes "not at all".
            self.process.wait(max(timeout, 0.001))
        except subprocess.TimeoutExpired:
            return None
        for reader in self.readers:
            reader.join(10)
        return self.process.returncode

    def kill(self) -> None:
        """SIGKILL to it and to all that it started, and to nothing else: it has a process group of its own."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.wait(10)

    def tail(self) -> str:
        """Its last words."""
        return " | ".join(line.strip() for line in self.lines[-3:])


class Waiter:
    """A shell on the guest that looks for a condition once it is told to; over a connection of its own, which dies with
    the guest."""

    def __init__(self, case: Interruption) -> None:
        met = case.when
        if case.hold:
            met = f"pkill -STOP -f {shlex.quote(case.hold)}"
        # A builtin that pauses without a process: under emulation, starting one takes longer than the pause.
        pause = "read -rt 0.03 <> <(:) || true"
        script = f"read -r; until {met}; do {pause}; done; echo reached; "
        if case.hold:
            script += f"(sleep 5; pkill -CONT -f {shlex.quote(case.hold)}) >/dev/null 2>&1 &"
        argv = [*vm.ssh_argv("lab", *vm.ALONE), f"sudo timeout {REACHING} bash -c {shlex.quote(script)}"]
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def wait(self, deploy: Running) -> None:
        """Return when the condition is met from now on; :class:`NotReachedError` when the deploy ends before."""
        met = threading.Event()
        assert self.process.stdout and self.process.stdin
        stream = self.process.stdout
        try:
            self.process.stdin.write("now\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise NotReachedError(f"the shell that looks for it ended, status {self.process.wait(10)}") from None

        def read() -> None:
            if stream.readline() == "reached\n":
                met.set()

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        while not met.wait(0.1):
            if deploy.process.poll() is not None and not met.wait(2):
                raise NotReachedError(f"the deploy ended before the guest was there: {deploy.tail()}")
            if not reader.is_alive() and not met.is_set():
                raise NotReachedError(f"the shell that looks for it ended, status {self.process.wait(10)}")

    def end(self) -> None:
        """Close its connection."""
        self.process.kill()
        self.process.wait(10)


@contextlib.contextmanager
def using(lab: Lab) -> Iterator[None]:
    """The lab's own modules, called in this process, mean this lab."""
    before = os.environ.get("OJAI_LAB_DIR")
    os.environ["OJAI_LAB_DIR"] = str(lab.folder)
    try:
        yield
    finally:
        del os.environ["OJAI_LAB_DIR"]
        if before is not None:
            os.environ["OJAI_LAB_DIR"] = before


def must(done: subprocess.CompletedProcess[str]) -> None:
    """Raise LabError when a command of the lab failed."""
    if done.returncode != 0:
        raise LabError(f"{' '.join(done.args[2:])}: {done.stderr.strip()}")


def console() -> str:
    """What the guest has said on its console."""
    return (vm.home("lab") / "console.log").read_bytes().decode(errors="replace")


def cut_power() -> None:
    """The guest's QEMU is killed here and now; a command would take half a second to start."""
    with state.locked():
        records = state.read()
        host = vm.power_cut(records.hosts["lab"])
        state.write(records.model_copy(update={"hosts": {**records.hosts, "lab": host}}))


def back(case: Interruption, lab: Lab) -> None:
    """What was taken away is there again."""
    if case.cut == "network":
        must(lab.ojai("lab", "network-mend", "lab"))
    elif case.cut == "power" or not vm.answers("lab"):
        must(lab.ojai("lab", "up"))


def reach(case: Interruption, deploy: Running, waiter: Waiter | None) -> None:
    """Return when the deploy and the guest are where the cut should be; :class:`NotReachedError` if they never are."""
    deploy.wait_for(case.awaited, REACHING)
    before = len(console()) if case.console else 0
    if waiter:
        waiter.wait(deploy)
    end = time.monotonic() + REACHING
    while case.console and not re.search(case.console, console()[before:]):
        if time.monotonic() > end or deploy.process.poll() is not None:
            raise NotReachedError(f"the console never said {case.console!r}: {deploy.tail()}")
        time.sleep(0.1)
    if deploy.wait(case.delay) is not None:
        raise NotReachedError(f"the deploy ended before the cut: {deploy.tail()}")


def interrupt(case: Interruption, lab: Lab, *words: str) -> Cut:
    """Run the deploy, cut it off as the case says, wait for its end, and bring back what was taken away."""
    waiter = Waiter(case) if case.when or case.hold else None
    deploy = Running(lab, *words)
    try:
        reach(case, deploy, waiter)
        cut = Cut(operation=deploy.operation)
        started = time.monotonic()
        if case.cut == "kill":
            deploy.kill()
        elif case.cut == "power":
            cut_power()
        else:
            vm.set_network("lab", up=False)
        if case.cut != "kill":
            cut.status = deploy.wait(OUTAGE[case.cut])
        cut.ended_after = time.monotonic() - started
    except BaseException:
        deploy.kill()
        raise
    finally:
        if waiter:
            waiter.end()
    back(case, lab)
    if case.cut != "kill" and cut.status is None:
        cut.status = deploy.wait(ENDING)
        cut.ended_after = time.monotonic() - started
        if cut.status is None:
            deploy.kill()
            cut.said = f"it still ran {ENDING} s after the host was back: {deploy.tail()}"
    cut.said = cut.said or next((line.strip() for line in reversed(deploy.lines) if "connection: " in line), "")
    cut.output = "\n".join(deploy.lines) + deploy.stdout
    if cut.operation != case.operation:
        raise NotReachedError(f"cut in {cut.operation!r}; expected {case.operation!r}")
    return cut


def probe(guest: Guest) -> list[str]:
    """What the cut left on the guest."""
    return guest.root(PROBE + ":").splitlines()
