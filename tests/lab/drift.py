"""Break every managed thing: ``ojai verify`` must detect it, and the deploy must fix it, or refuse to.

The cases are in cases/drift. On the virtual machine every chain of batches begins from one snapshot of a provisioned
host, memory included; a container is made anew when something is wrong with it.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from ojai.lab.errors import LabError
from tests.lab import inputs, results
from tests.lab import own_docker as docker_archive
from tests.lab.backends import Container, TestHost, Verified, VirtualMachine, say
from tests.lab.batches import batches
from tests.lab.cases import DriftCase, pending
from tests.lab.machine import Deploy
from tests.operation_names import KEYS

Batch = Sequence[DriftCase]

#: Roles that a container can hold.
CONTAINED = (
    *("Versions", "Power", "Network", "Groups", "ROCm", "Docker", "Caches", "Weights", "Firewall", "Gateway", "vLLM"),
    *("Ledger", "Surface", "Harmless", "Reader"),
)

#: What a run that could not be done ends with.
ERRORS = (AssertionError, LabError, TimeoutError, subprocess.TimeoutExpired)


@dataclass
class Outcome:
    """What became of one case. ``failures``: empty when it was detected, and fixed or refused as it should be."""

    case: DriftCase
    detected_by: list[str] = field(default_factory=list)
    fixed_by: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def record(self, together: int, seconds: float, commit: str, on: str) -> results.Record:
        """As it is kept in the results; operations by their keys."""
        return {
            "role": self.case.role,
            "passed": not self.failures,
            "detected_by": sorted(set(self.detected_by)),
            "fixed_by": [KEYS[name] for name in self.fixed_by],
            "refused": bool(self.case.refused),
            "failures": self.failures,
            "together": together,
            "seconds": round(seconds),
            "commit": commit,
            "inputs": inputs.of(self.case),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "on": on,
        }


def fits_container(case: DriftCase) -> bool:
    """Whether a container can hold what the case breaks, and what is to detect it."""
    return (
        case.role in CONTAINED
        and not (case.boots or case.own_docker or (case.preflight and case.role not in ("Surface", "Reader")))
        and all(operation.split(" | ")[0] in CONTAINED for operation in case.operations)
    )


def detecting(verified: Verified, pattern: str) -> list[str]:
    """The failed checks, as ``area: check``, that ``pattern`` finds."""
    return [": ".join(text.split(": ", 2)[:2]) for text in verified.failed if re.search(pattern, text, re.DOTALL)]


def inject(host: TestHost, cases: Batch) -> None:
    """Break the host in all these ways, in one go."""
    scripts = (f"( set -eu; {case.inject}\n) || exit 1" for case in cases)
    host.guest.root("export DEBIAN_FRONTEND=noninteractive\n" + "\n".join(scripts))
    for case in cases:
        if case.boots:
            host.boot()
            if case.then:
                host.guest.root(f"set -eu\n{case.then}")


def undo(host: TestHost, case: DriftCase) -> None:
    """Do what a person does who has read the refusal."""
    host.guest.root(f"set -eu\nexport DEBIAN_FRONTEND=noninteractive\n{case.undo}")
    if case.undo_boots:
        host.boot()
    host.wait_until_served()


def judge_deploy(outcomes: Sequence[Outcome], done: Deploy) -> None:
    """Add what is wrong with the deploy after the injection to each case that it is wrong for."""
    expected = {name for one in outcomes if not one.case.refused for name in one.case.operations}
    allowed = expected | {name for one in outcomes for name in one.case.may}
    stray = [name for name in done.changed if name not in allowed]
    for one in outcomes:
        case = one.case
        if "Traceback" in done.output:
            one.failures.append("the deploy ended with a traceback")
        if case.refused:
            if done.status == 0:
                one.failures.append("the deploy did not refuse")
            elif not re.search(case.refused, done.output, re.DOTALL):
                one.failures.append(f"the refusal does not say {case.refused}: {done.output[-1500:]}")
        else:
            if done.status != 0:
                one.failures.append(f"the deploy ended with status {done.status}: {done.output[-1500:]}")
            missing = [name for name in case.operations if name not in done.changed]
            if missing:
                one.failures.append(f"the deploy did not report: {'; '.join(missing)}")
            one.fixed_by = [name for name in done.changed if name in {*case.operations, *case.may}]
        if stray:
            one.failures.append(f"the deploy also reported: {'; '.join(stray)}")


def see_left(host: TestHost, cases: Batch) -> list[Outcome]:
    """What the deploy is to do nothing about: verify names it, or stays green, before a deploy and after it."""
    outcomes = [Outcome(case) for case in cases]
    inject(host, cases)
    found = host.verify()
    done = host.deploy()
    again = host.verify()
    judge_deploy(outcomes, done)
    for one in outcomes:
        for seen, when in ((found, "before"), (again, "after")):
            told = Verified(seen.ok, list(seen.warned)) if one.case.harmless else seen
            one.detected_by = detecting(told, one.case.detection) if one.case.detection else []
            if one.case.detection and not one.detected_by:
                one.failures.append(
                    f"verify did not name it {when} the deploy: {told.error or ' / '.join(told.failed)}"
                )
            if one.case.harmless and not seen.ok:
                one.failures.append(f"a false alarm {when} the deploy: {seen.error or ' / '.join(seen.failed)}")
    for case in cases:
        if case.undo:
            undo(host, case)
    return outcomes


def inject_and_remediate(host: TestHost, cases: Batch) -> list[Outcome]:
    """Inject, verify, deploy: whether each was detected, and fixed by just what should fix it."""
    if cases[0].left:
        return see_left(host, cases)
    outcomes = [Outcome(case) for case in cases]
    inject(host, cases)
    red = host.verify()
    for one in outcomes:
        case = one.case
        one.detected_by = detecting(red, case.detection)
        if not one.detected_by:
            told = red.error or " / ".join(red.failed) or "every check passed"
            one.failures.append(f"verify did not detect it: {told}")
        # Another case of the batch may have caused a failed check; the operation that is pending is only this one's.
        for operation in (*case.operations[:1], *case.hidden) if not case.refused else ():
            found = detecting(red, pending(operation))
            one.detected_by += found
            if not found:
                one.failures.append(f"the dry run did not name {operation}")
    if cases[0].refused and not cases[0].preflight:
        # The deploy stops at the first: it is undone, and the next one met, in the order of the roles.
        for one in outcomes:
            judge_deploy([one], host.deploy())
            undo(host, one.case)
    else:
        judge_deploy(outcomes, host.deploy())
        for case in cases:
            if case.refused:
                undo(host, case)
    return outcomes


def check_whole(host: TestHost, outcomes: Sequence[Outcome]) -> None:
    """Verify must pass now, and a further deploy must change nothing; else none of these was fixed."""
    green = host.verify()
    last = host.deploy()
    for one in outcomes:
        if not green.ok:
            one.failures.append(f"verify failed afterwards: {green.error or ' / '.join(green.failed)}")
        if last.status != 0 or last.changed:
            one.failures.append(f"a further run reported: {'; '.join(last.changed) or last.output[-1500:]}")


def run_chain(host: TestHost, chain: Sequence[Batch]) -> list[list[Outcome]]:
    """Run some batches, one after the other on the same host, and look at the whole after the last.

    What an earlier one left would be reported by the deploy after a later one, which may report that one's own changes
    only, or be seen in the end. A chain ends early with a batch that has a failure: those before it are left out of
    the answer then, since nobody has looked whether they left anything.
    """
    done: list[list[Outcome]] = []
    for batch in chain:
        outcomes = inject_and_remediate(host, batch)
        if any(one.failures for one in outcomes):
            check_whole(host, outcomes)
            return [outcomes]
        done.append(outcomes)
    check_whole(host, [one for outcomes in done for one in outcomes])
    return done


def own_docker(base: VirtualMachine, env: dict[str, str]) -> VirtualMachine:
    """The same host, with Docker from an archive of its own. As a person would change over: the engine goes first."""
    host = VirtualMachine(replace(base.lab, inventory=docker_archive.INVENTORY, env=env), "own-docker")

    def change_over() -> None:
        say("changing over to Docker's own archive …")
        base.reset(dirty=True)
        host.guest.root("dpkg --remove --force-depends docker.io docker-cli containerd runc")

    host.provision(change_over)
    return host


def run_all(
    host_of: Callable[[DriftCase], TestHost], planned: Sequence[Batch], chain: int, on: str
) -> Iterator[tuple[str, results.Record]]:
    """Run all batches, up to ``chain`` of them at a time; yields each case's name and record.

    What fails together is run again in smaller pieces: a chain batch by batch, a batch case by case. So a failure
    that is recorded is that of one case by itself.
    """
    commit = results.commit()
    waiting = list(planned)
    unchained: list[DriftCase] = []
    dirty = False
    while waiting:
        pieces = [waiting.pop(0)]
        while len(pieces) < chain and waiting and _can_follow(pieces[0], waiting[0], unchained):
            pieces.append(waiting.pop(0))
        began = time.monotonic()
        for piece in pieces:
            say(f"{len(waiting)} more to go: {'; '.join(case.name for case in piece)}")
        try:
            host = host_of(pieces[0][0])
            host.reset(dirty)
            outcomes = run_chain(host, pieces)
        except ERRORS as error:
            outcomes = [[Outcome(case, failures=[f"could not be run: {error}"]) for case in pieces[0]]]
        dirty = any(one.failures for one in outcomes[-1])
        if dirty and len(pieces) > 1:
            say(f"  these again, batch by batch: {outcomes[-1][0].failures}")
            unchained += [case for piece in pieces for case in piece]
            waiting = [*pieces, *waiting]
            continue
        seconds = (time.monotonic() - began) / len(pieces)
        for batch in outcomes:
            for one in batch:
                if one.failures and len(batch) > 1:
                    say(f"  this again, by itself: {one.case.name}: {one.failures[0]}")
                    unchained.append(one.case)
                    waiting.append([one.case])
                else:
                    yield one.case.name, one.record(len(batch), seconds, commit, on)
        say(f"  {time.monotonic() - began:.0f} s")


def _can_follow(first: Batch, piece: Batch, unchained: Sequence[DriftCase]) -> bool:
    alone = any(case in unchained for case in (*first, *piece))
    return first[0].own_docker == piece[0].own_docker and not alone


def on_vm(host: VirtualMachine, planned: Sequence[Batch], chain: int) -> Iterator[tuple[str, results.Record]]:
    """Run them on the virtual machine, and on its variant with Docker's own archive where a case needs that."""
    host.start()
    host.provision()
    with ExitStack() as stack:
        other: list[VirtualMachine] = []

        def host_of(case: DriftCase) -> TestHost:
            if not case.own_docker:
                return host
            if not other:
                data = stack.enter_context(docker_archive.served(host.lab))
                other.append(own_docker(host, {"OJAI_OWN_DOCKER": json.dumps(data)}))
            return other[0]

        yield from run_all(host_of, planned, chain, "vm")


def on_container(host: Container, planned: Sequence[Batch], chain: int) -> Iterator[tuple[str, results.Record]]:
    """Run them in a container."""
    host.provision()
    yield from run_all(lambda _: host, planned, chain, "container")


def plan(cases: Sequence[DriftCase], solo: bool) -> list[list[DriftCase]]:
    """The batches of these cases."""
    return [[case] for case in cases] if solo else batches(cases)
