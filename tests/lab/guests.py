"""The same steps on each guest (a suite, and an engine): from the first deploy to removal.

A guest is a virtual machine with a lab of its own, or a container with a service (tests/lab/contained.py). Each step
but the first deploy begins from the snapshot of the provisioned machine, so that one step can be run again by itself.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tests.lab import drift, manifest, results, upgrades
from tests.lab.backends import TestHost, VirtualMachine, say
from tests.lab.batches import batches
from tests.lab.cases import GUESTS, SAMPLE, UPGRADES, GuestCase, named
from tests.lab.contained import Serving
from tests.lab.cutting import must
from tests.lab.machine import Deploy, Lab

#: What is asked of the guest when it has been deployed to.
ABOUT = (
    "uname -r; systemctl --version | sed -n '1s/.*(\\(.*\\))/\\1/p'; "
    "apt-get --version | sed -n '1s/apt \\([^ ]*\\).*/\\1/p'; "
    "docker version --format '{{.Server.Version}}'; docker info --format '{{.Driver}}'"
)

#: The upgrade that fails in the step of that name.
UPGRADE = named(UPGRADES, "the server crashes on start")
#: Another release of the service: another model, in another image.
OTHER = {"profile": "gemma-4-e2b", "image": "vllm/vllm-openai-rocm:v0.20.1-next", "start_timeout": 300}


@dataclass(frozen=True)
class Step:
    """One step on one guest, on a ``vm`` or in a ``container``: a case of ``tests.lab.run``."""

    guest: GuestCase
    on: str
    step: str

    @property
    def name(self) -> str:
        """Its key in the results."""
        return f"{self.guest.name}, {self.on}: {self.step}"


class Failed(Exception):
    """A step did not end as it should."""


def _ended(done: Deploy, changed: Sequence[str] | None = None) -> str:
    """Failed unless a deploy ended well, and changed just that where ``changed`` is given."""
    if done.status != 0:
        raise Failed(f"the deploy ended with status {done.status}: {done.output[-2500:]}")
    if changed is not None and done.changed != list(changed):
        raise Failed(f"the deploy changed {', '.join(done.changed)}")
    return f"{len(done.changed)} changes"


def _models(host: TestHost) -> list[str]:
    said = host.guest.text("curl -s -m 5 http://127.0.0.1:8000/v1/models")
    return [one["id"] for one in json.loads(said)["data"]]


def first_deploy(host: TestHost) -> str:
    """Deploy to a machine that nobody has deployed to."""
    return _ended(host.deploy())


def second_run(host: TestHost) -> str:
    """Deploy again: nothing may change."""
    return _ended(host.deploy(), ())


def verify(host: TestHost, unmet: Sequence[str] = (), why: str = "") -> str:
    """``ojai verify``, or its checks that a container can meet. ``unmet``: just these fail."""
    found = host.verify()
    failed = {": ".join(one.split(": ", 2)[:2]) for one in found.failed}
    if found.error or failed != set(unmet) or not (found.ok or unmet):
        raise Failed(found.error or " / ".join(found.failed) or f"met: {', '.join(unmet) or 'nothing'}")
    return f"{found.passed} checks" + (f"; not {len(unmet)}: {why}" if unmet else "")


def drift_sample(host: TestHost) -> str:
    """Break one thing a role: it is detected and fixed."""
    cases = [case for case in SAMPLE if isinstance(host, VirtualMachine) or drift.fits_container(case)]
    chain = batches(cases)
    outcomes = [one for batch in drift.run_chain(host, chain) for one in batch]
    if wrong := [f"{one.case.name}: {'; '.join(one.failures)}" for one in outcomes if one.failures]:
        raise Failed(" / ".join(wrong))
    return f"{len(outcomes)} cases"


def failed_upgrade(host: TestHost) -> str:
    """Upgrade to what cannot start: the release of before serves again."""
    outcome = upgrades.rehearse(host, UPGRADE)
    if outcome.failures:
        raise Failed(" / ".join(outcome.failures))
    return f"taken back, {outcome.seconds_down:.0f} s not served"


def rollback_after_a_prune(host: TestHost) -> str:
    """Deploy another model, prune all images that nothing runs, and roll back to the first."""
    before = _models(host)
    _ended(host.deploy("--data", f"services={json.dumps([OTHER])}"))
    if _models(host) == before:
        raise Failed("the other model is not served")
    host.guest.root("docker image prune --all --force")
    must(host.lab.ojai("rollback", host.lab.inventory, "--yes"))
    if _models(host) != before:
        raise Failed(f"served after the rollback: {_models(host)}")
    return "the first model again"


def removal(host: TestHost) -> str:
    """Remove everything, data too: the machine is as it was before the first deploy."""
    _ended(host.deploy("--data", "removed=true", "--data", "removed_data=true"))
    _ended(host.deploy("--data", "removed=true", "--data", "removed_data=true"), ())
    before = json.loads(_untouched(host).read_text())
    if left := manifest.unexplained(manifest.differences(before, manifest.take(host.guest))):
        raise Failed("; ".join(f"{one.what}: {one.path}" for one in left))
    return "as before"


#: In this order. The first makes the machine anew.
STEPS: dict[str, Callable[[TestHost], str]] = {
    "first deploy": first_deploy,
    "second run": second_run,
    "verify": verify,
    "drift sample": drift_sample,
    "failed upgrade": failed_upgrade,
    "rollback after a prune": rollback_after_a_prune,
    "removal": removal,
}
CASES = tuple(Step(guest, on, step) for guest in GUESTS for on in ("vm", "container") for step in STEPS)


def _untouched(host: TestHost) -> Path:
    """The file that keeps what was on the machine before its first deploy."""
    return host.lab.folder / "untouched.json"


def _lab(lab: Lab, guest: GuestCase) -> Lab:
    folder = lab.folder.with_name(f"{lab.folder.name}-{guest.name.replace(' ', '-')}")
    return replace(lab, folder=folder, env={**lab.env, "OJAI_LAB_SUITE": guest.system})


def _make_anew(host: TestHost, guest: GuestCase) -> None:
    """A machine that nobody has deployed to."""
    say(f"{guest.name}: a new machine …")
    if isinstance(host, Serving):
        host.renew()
    else:
        host.lab.ojai("lab", "down", "--destroy")
        must(host.lab.ojai("lab", "up", "lab"))
    _untouched(host).write_text(json.dumps(manifest.take(host.guest)))


def _run(host: TestHost, case: Step) -> results.Record:
    """One step, from where it begins; its record."""
    started = time.monotonic()
    failures: list[str] = []
    about: list[str] = []
    found = ""
    say(case.name)
    try:
        if case.step == "first deploy":
            _make_anew(host, case.guest)
        else:
            _begin(host, case.guest)
        step = STEPS[case.step]
        if step is verify and isinstance(host, VirtualMachine):
            step = partial(verify, unmet=case.guest.unmet, why=case.guest.why)
        found = step(host)
        if case.step == "first deploy":
            about = host.guest.root(ABOUT).splitlines()
            if isinstance(host, VirtualMachine):
                host.keep(host.label)
    except (*drift.ERRORS, Failed, ValueError) as error:
        failures = [str(error)[-3000:]]
    return {
        "passed": not failures,
        "failures": failures,
        "found": found,
        "about": about,
        "on": case.on,
        "seconds": round(time.monotonic() - started),
        "commit": results.commit(),
    }


def _begin(host: TestHost, guest: GuestCase) -> None:
    """The machine as the first deploy left it."""
    if isinstance(host, VirtualMachine):
        must(host.lab.ojai("lab", "up", "lab"))
        host.reset(dirty=False)
    else:
        if isinstance(host, Serving) and host.guest.run("true").returncode:
            _make_anew(host, guest)
        _ended(host.deploy())


def run(host: TestHost, cases: Sequence[Step], keep: bool) -> Iterator[tuple[str, results.Record]]:
    """The steps of one guest; yields each one's name and record. Without its first deploy the others cannot be run."""
    host = replace(host, lab=_lab(host.lab, cases[0].guest))
    try:
        for case in cases:
            record = _run(host, case)
            yield case.name, record
            if case.step == "first deploy" and not record["passed"]:
                return
    finally:
        if not keep:
            if isinstance(host, Serving):
                host.stop()
            else:
                host.lab.ojai("lab", "down")


def about(records: Mapping[str, results.Record], guest: GuestCase, on: str) -> list[str]:
    """Kernel, systemd, apt, Docker and its storage driver, as the guest said; empty before its first deploy."""
    return list(records.get(Step(guest, on, "first deploy").name, {}).get("about", []))
