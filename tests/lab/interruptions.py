"""Cut a first deploy off, run it again, and see that it comes to its end.

The cases are in cases/interruptions.yaml. On the virtual machine each begins from a snapshot that lies before its cut,
in a container from a new one.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial

from ojai.lab.errors import LabError
from tests.lab import results
from tests.lab.backends import Container, TestHost, VirtualMachine, say
from tests.lab.cases import Cut, Interruption
from tests.lab.cutting import Cut as CutOff
from tests.lab.cutting import NotReachedError, interrupt, probe, using
from tests.lab.machine import Deploy
from tests.operation_names import KEYS

#: Snapshots in the order in which they are made: a stock machine; the kernel installed and not booted; booted;
#: ROCm and Docker there and the service still to come.
STAGES = ("stock", "installed", "booted", "engine")

#: What each way of cutting is called.
CUTS: dict[Cut, str] = {
    "kill": "controller killed (SIGKILL)",
    "network": "network cut",
    "power": "power cut",
}

#: Times that a case is tried when the cut came too late or too early.
TRIES = 3


@dataclass
class Outcome:
    """What became of one case. Times in seconds. ``failures``: empty when the run after the cut ended well, all checks
    passed, and a further run changed nothing."""

    cut: str
    operation: str
    started_from: str
    commit: str
    deploy_ended: str = ""
    left: list[str] = field(default_factory=list)
    rerun_status: int = -1
    rerun_seconds: float = 0.0
    verify: str = ""
    again: list[str] = field(default_factory=list)
    again_status: int = -1
    seconds: float = 0.0
    tries: int = 1
    failures: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, case: Interruption) -> Outcome:
        """Nothing is known yet."""
        return cls(case.cut, KEYS[case.operation], case.start, results.commit())

    def record(self) -> results.Record:
        """As it is kept in the results."""
        return {"passed": not self.failures, **asdict(self)}


def fits_container(case: Interruption) -> bool:
    """Whether it is run in a container."""
    return case.start == "container"


def keep_log(host: TestHost, case: Interruption, what: str, text: str) -> None:
    """Put a run's output beside the lab's own logs."""
    folder = host.lab.folder / "logs" / "interruptions"
    folder.mkdir(parents=True, exist_ok=True)
    slug = re.sub(r"[^a-z0-9]+", "-", case.name.lower()).strip("-")
    (folder / f"{slug}.{what}.log").write_text(text)


def ended(cut: CutOff) -> str:
    """How the deploy that was cut off ended, in words."""
    if cut.status is None:
        return cut.said or "killed"
    if cut.status == 0:
        return f"went on by itself, status 0 after {cut.ended_after:.0f} s"
    return f"status {cut.status} after {cut.ended_after:.0f} s"


def cut_off(case: Interruption, host: TestHost) -> Outcome:
    """Cut the deploy off and see what that left; :class:`NotReachedError` where the place was missed."""
    outcome = Outcome.of(case)
    cut = interrupt(case, host.lab)
    keep_log(host, case, "cut", cut.output)
    outcome.deploy_ended = ended(cut)
    outcome.left = probe(host.guest)
    if fits_container(case):  # its kernel is the outer machine's
        outcome.left = [line for line in outcome.left if not line.startswith("kernel ")]
    say(f"  cut in {cut.operation!r}; deploy: {outcome.deploy_ended}; left: {'; '.join(outcome.left)}")
    if case.left and not any(re.search(case.left, line) for line in outcome.left):
        raise NotReachedError(f"nothing to be seen of {case.left!r} in: {'; '.join(outcome.left)}")
    if "Traceback" in cut.output:
        outcome.failures = ["a traceback when it was cut off"]
    elif "it still ran" in cut.said:
        outcome.failures = [cut.said]
    return outcome


def run_again(case: Interruption, host: TestHost, outcome: Outcome) -> None:
    """Run the deploy after the cut, the checks, and the deploy once more; add what was wrong with them."""
    began = time.monotonic()
    rerun = host.deploy()
    outcome.rerun_status, outcome.rerun_seconds = rerun.status, round(time.monotonic() - began, 1)
    keep_log(host, case, "rerun", rerun.output)
    if rerun.status != 0:
        outcome.failures.append(f"the rerun ended with status {rerun.status}: {last_error(rerun)}")
        return
    verified = host.verify()
    outcome.verify = f"{verified.passed} passed, {len(verified.failed)} failed"
    if not verified.ok:
        outcome.failures.append(f"verify: {verified.error or '; '.join(verified.failed)}")
    further = host.deploy()
    keep_log(host, case, "again", further.output)
    outcome.again, outcome.again_status = further.changed, further.status
    if further.status != 0 or further.changed:
        outcome.failures.append(f"a further run: status {further.status}, changed {further.changed}")


def last_error(run: Deploy) -> str:
    """The last lines of a run that may be its cause."""
    lines = [line.strip() for line in run.output.splitlines() if "] " in line]
    return " | ".join(lines[-4:])


def survive(case: Interruption, host: TestHost, renew: Callable[[], None]) -> Outcome:
    """Cut the deploy off on a host that ``renew`` makes, run it again, and look at what came of it.

    Tried again, from the beginning, when the cut came too late or too early.
    """
    started = time.monotonic()
    say(f"{case.name}: {CUTS[case.cut]}")
    tries = 0
    while True:
        tries += 1
        renew()
        try:
            outcome = cut_off(case, host)
        except NotReachedError as missed:
            say(f"  not reached: {missed}")
            outcome = replace(Outcome.of(case), failures=[f"not reached: {missed}"])
            if tries < TRIES:
                continue
        else:
            run_again(case, host, outcome)
        break
    outcome.tries = tries
    outcome.seconds = round(time.monotonic() - started, 1)
    say(f"  {outcome.seconds:.0f} s")
    return outcome


def make_snapshots(host: VirtualMachine, last: int) -> None:
    """Make the first ``last`` of the snapshots to start from, once, each with the memory of the running machine."""
    known = host.snapshots()
    before = ""
    for stage in STAGES[:last]:
        if stage not in known:
            started = time.monotonic()
            if before:
                host.restore(before)
            if stage != "stock":
                argv = [sys.executable, "-m", "pyinfra", "-y", host.lab.inventory, "tests/lab/until_deploy.py"]
                done = host.lab.run(*argv, env={"OJAI_LAB_UNTIL": stage})
                if done.returncode != 0:
                    raise LabError(f"the deploy up to {stage!r} failed:\n{done.stderr[-3000:]}")
            host.guest.root("sync")
            host.keep(stage)
            say(f"snapshot {stage!r} after {time.monotonic() - started:.0f} s")
        before = stage


def on_vm(host: VirtualMachine, cases: Sequence[Interruption]) -> Iterator[tuple[str, results.Record]]:
    """Run them on the virtual machine; yields each case's name and record."""
    host.start()
    make_snapshots(host, 1 + max(STAGES.index(case.start) for case in cases))
    with using(host.lab):
        for case in cases:
            yield case.name, survive(case, host, partial(host.restore, case.start)).record()


def on_container(host: Container, cases: Sequence[Interruption]) -> Iterator[tuple[str, results.Record]]:
    """Run them in containers; yields each case's name and record."""
    with using(host.lab):
        for case in cases:
            yield case.name, survive(case, host, host.renew).record()
