"""What the controller does while it waits: it says so, ends in time, and tells the cause. The clock is the test's."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from operation_harness import FakeState
from pyinfra.connectors.util import CommandOutput, OutputLine
from pyinfra.context import ctx_host, ctx_state
from real_host import RealHost

from ojai.operations import apt, kernel, progress, service

MODEL = "google/gemma-4-E4B-it"
UNIT = "vllm-gemma4.service"


class Clock:
    """In place of the module ``time``: sleeping takes no time, and the hours pass all the same."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.ends = self.now + 100_000

    def monotonic(self) -> float:
        assert self.now < self.ends, "it waits for ever"
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Scripted:
    """A host whose answers are a function of the command and of the seconds since the test began."""

    name = "mini"
    print_prefix = "[mini] "
    current_op_global_arguments: ClassVar[dict[str, Any]] = {"_sudo": True, "_env": {"A": "b"}, "name": "x"}

    def __init__(self, clock: Clock, answer: Callable[[str, float], str]) -> None:
        self.clock, self.answer, self.started = clock, answer, clock.now
        self.commands: list[tuple[float, str]] = []

    def run_shell_command(self, command: str, **arguments: Any) -> tuple[bool, CommandOutput]:
        assert arguments.get("_sudo") is True and "name" not in arguments, "not run as the operation is"
        waited = self.clock.now - self.started
        self.commands.append((waited, command))
        lines = self.answer(command, waited).splitlines()
        return True, CommandOutput([OutputLine("stdout", line) for line in lines])


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    for module in (service, apt):
        monkeypatch.setattr(module, "time", found)
    return found


@pytest.fixture
def said(monkeypatch):
    lines: list[tuple[str, str]] = []
    for level in ("info", "error"):
        monkeypatch.setattr(progress.logger, level, lambda text, level=level: lines.append((level, text)))
    return lines


def errors(said: list[tuple[str, str]]) -> str:
    return "\n".join(text for level, text in said if level == "error")


def server(ready_after: float, *, models: str = MODEL, failed_after: float = 1e9, journal: str = "") -> Any:
    """A unit that answers 000, then 503 from the twentieth second, then 200."""

    def answer(command: str, waited: float) -> str:
        if "/v1/models" in command:
            if waited >= ready_after:
                listing = '{"data": [' + ", ".join(f'{{"id": "{name}"}}' for name in models.split()) + "]}"
                return f"health=200\nmodels={listing} 200"
            return f"health={'503' if waited >= 20 else '000'}\nmodels= 000"
        if "is-failed" in command:
            return "failed" if waited >= failed_after else "active"
        assert "journalctl" in command and UNIT in command
        return journal

    return answer


def wait(host: Scripted, timeout: int = 1800) -> bool:
    return service.wait_until_ready(FakeState(), host, UNIT, 8000, MODEL, timeout, "127.0.0.1", "/health", "/v1/models")


@pytest.mark.parametrize("ready_after", [0, 4, 600, 1790])
def test_it_waits_until_it_serves(clock, said, ready_after):
    host = Scripted(clock, server(ready_after))
    assert wait(host)
    assert ready_after <= clock.now - host.started <= ready_after + service.POLL
    assert re.search(rf"\[mini\] {UNIT}: healthy after \d+ s, serving {MODEL}", said[-1][1])
    assert errors(said) == ""


def test_the_wait_is_seen(clock, said):
    assert wait(Scripted(clock, server(600)))
    lines = [text for _, text in said]
    assert "1800 s at most" in lines[0]
    assert any("no answer yet" in line for line in lines)
    assert sum("HTTP 503" in line for line in lines) >= 600 / 15 / 2


def test_the_wait_has_an_end_and_a_cause(clock, said):
    journal = "loading\n" * 30 + "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 1.27 GiB"
    host = Scripted(clock, server(1e9, journal=journal))
    assert not wait(host, timeout=100)
    assert 100 <= clock.now - host.started <= 100 + service.POLL
    text = errors(said)
    assert "not healthy within 100 s (last answer: 503); expected: HTTP 200" in text
    assert "HIP out of memory" in text and text.count("loading") < 20
    assert "cause: the engine finds the GPU's memory full; while it loads, the weights do not fit" in text
    assert "what to do: raise the BIOS carve-out" in text
    assert all(line.startswith("[mini] ") for line in text.splitlines())


def test_a_unit_that_systemd_gave_up_on_is_not_waited_for(clock, said):
    host = Scripted(clock, server(1e9, failed_after=30, journal="vllm: error: unrecognized arguments: --nonsense"))
    assert not wait(host)
    assert clock.now - host.started <= 30 + service.POLL
    assert "systemd gave up on it" in errors(said)
    assert "does not know a flag" in errors(said)


def test_a_failed_state_of_before_the_start_does_not_count_once_it_serves(clock, said):
    assert wait(Scripted(clock, server(0, failed_after=0)))


def test_another_model_on_the_port_is_named(clock, said):
    assert not wait(Scripted(clock, server(0, models="google/gemma-4-26B-A4B-it other")))
    assert "/v1/models names google/gemma-4-26B-A4B-it, other; expected google/gemma-4-E4B-it" in errors(said)
    assert "8000" in errors(said)


def test_a_journal_without_a_known_cause_is_shown_all_the_same(clock, said):
    assert not wait(Scripted(clock, server(1e9, journal="something new")), timeout=10)
    assert "something new" in errors(said) and "cause:" not in errors(said)


def locks(until: float) -> Any:
    return lambda command, waited: "1234 unattended-upgr\n77 dpkg" if waited < until else ""


def test_apts_lock_is_waited_for_and_its_holder_named(clock, said):
    host = Scripted(clock, locks(40))
    assert apt.wait_for_lock(FakeState(), host)
    assert 40 <= clock.now - host.started < 50
    assert all("1234 unattended-upgr, 77 dpkg" in text for _, text in said) and said
    assert errors(said) == ""


def test_apts_lock_is_not_waited_for_when_it_is_free(clock, said):
    assert apt.wait_for_lock(FakeState(), Scripted(clock, locks(0)))
    assert said == []


def test_apts_lock_is_not_waited_for_for_ever(clock, said):
    host = Scripted(clock, locks(1e9))
    assert not apt.wait_for_lock(FakeState(), host)
    assert clock.now - host.started <= apt.LOCK_TIMEOUT + 10
    text = errors(said)
    assert "1234 unattended-upgr" in text and "expected: free" in text and "run the deploy again" in text


def test_a_host_that_is_gone_is_not_waited_for(clock, said):
    host = Scripted(clock, locks(1e9))

    def gone(command: str, **arguments: Any) -> tuple[bool, CommandOutput]:
        raise OSError("connection lost")

    host.run_shell_command = gone
    assert not apt.wait_for_lock(FakeState(), host)
    assert clock.now == host.started
    assert "could not be read: no answer from the host" in errors(said)


def test_the_holder_of_a_lock_is_found_on_a_real_machine(tmp_path):
    """The file is ours instead of dpkg's, the lock is of the kind that apt and dpkg take."""
    place = tmp_path / "lock"
    question = apt._HOLDER.replace("/var/lib/dpkg/lock-frontend", str(place))
    assert question != apt._HOLDER
    with place.open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        held = RealHost().sh(question)
    assert str(os.getpid()) in [line.split()[0] for line in held.stdout.splitlines()]
    free = RealHost().sh(question)
    assert str(os.getpid()) not in free.stdout
    assert (held.returncode, held.stderr, free.returncode, free.stderr) == (0, "", 0, "")


def test_a_long_command_says_what_it_does_and_shows_why_it_failed(said):
    host = RealHost()
    assert progress.run(host.state, host, "true", "pulling a:b")
    assert [text for _, text in said] == ["pulling a:b …"]
    said.clear()
    command = "i=0; while [ $i -lt 100 ]; do echo line $i; i=$((i+1)); done; echo broken >&2; exit 3"
    assert not progress.run(host.state, host, command, "pulling a:b")
    text = errors(said)
    assert re.search(r"pulling a:b: failed after \d+ s", text)
    assert "broken" in text and "line 99" in text and "line 9\n" not in text


def test_never_says_that_a_reboot_is_needed_when_it_is_executed(said):
    """While the run is prepared it is only a reason for no change; in the run the operator is told."""
    from ojai.facts.kernel import Kernels

    host = RealHost()
    host.state.is_executing = True
    host.get_fact = lambda fact, **words: (  # type: ignore[method-assign]
        Kernels("6.8.0-90-generic", ("6.17.0-1012-oem",)) if fact is kernel.KernelState else ()
    )
    with ctx_state.use(host.state), ctx_host.use(host):
        words = {"flavour": "oem", "policy": "never", "marker": "/run/x", "timeout": 600}
        assert list(kernel.reboot_if_required._inner(**words)) == []
    assert "6.8.0-90-generic" in said[0][1] and "6.17.0-1012-oem" in said[0][1]
    assert "never" in said[0][1]
