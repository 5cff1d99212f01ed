"""The mutations that need no kernel and no GPU, in a container instead of the virtual machine: minutes, not hours.

    python -m tests.lab.drift_contained [--resume] [--only NAME …]

The roles ROCm, Docker and Caches as molecule/default applies them; the checks of ``ojai verify`` that need no silicon.
The rest is as in ``tests.lab.drift``, whose results and page this adds to.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ojai.pyinfra_runs.verification import CHECKS, read_junit
from tests.lab import results
from tests.lab.drift import KIND, PAGE, Seen, Site, Verified, page, remember, run_chain, say
from tests.lab.machine import ROOT, Deploy, Guest, Lab
from tests.lab.mutations import MUTATIONS, Mutation, batches

INVENTORY = "molecule/default/inventory.py"
DEPLOY = "molecule/default/deploy.py"
NAME = "drift"
ROLES = ("ROCm", "Docker", "Caches", "Ledger")


@dataclass(frozen=True)
class Contained(Guest):
    """The container, over the lab's own ssh."""

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        if ":8000/health" in command:
            command = "true"  # no service here, so none is waited for
        return self.lab.ojai("lab", "ssh", NAME, "--", command)


@dataclass(frozen=True)
class ContainedSite(Site):
    """A container in place of the virtual machine. It has no snapshots: it is made anew."""

    inventory: str = INVENTORY

    @property
    def guest(self) -> Guest:
        return Contained(self.lab)

    def deploy(self) -> Deploy:
        done = self.lab.run(sys.executable, "-m", "pyinfra", "-y", "--json", INVENTORY, DEPLOY)
        return Deploy.of(done.returncode, done.stdout, done.stderr)

    def verify(self) -> Verified:
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "junit.xml"
            argv = [sys.executable, "-m", "pytest", str(CHECKS), "--rootdir", str(ROOT), "-q", "-p", "no:cacheprovider"]
            argv += [f"--inventory={INVENTORY}", f"--deploy={DEPLOY}", "-m", "not silicon", "--junitxml", str(report)]
            done = self.lab.run(*argv, "-o", "junit_family=xunit2")
            if not report.exists():
                return Verified(False, [], done.stdout + done.stderr)
            verdict = read_junit(NAME, report.read_text())
        failed = [f"{c.area}: {c.name}: {c.message}" for c in verdict.checks if c.outcome == "failed"]
        return Verified(verdict.good, failed, verdict.trouble, verdict.count("passed"))

    def renew(self) -> None:
        """A new container, provisioned and green. Raises RuntimeError where it is not."""
        self.lab.ojai("lab", "down", NAME, "--destroy")
        up = self.lab.ojai("lab", "container", NAME)
        if up.returncode != 0:
            raise RuntimeError(up.stderr)
        first = self.deploy()
        if first.status != 0:
            raise RuntimeError(f"the first deploy failed:\n{first.output[-3000:]}")
        found = self.verify()
        if not found.good:
            raise RuntimeError(f"verify is not green before anything is broken: {found.trouble or found.failed}")


def fits(mutation: Mutation) -> bool:
    """Whether a container can hold what the mutation breaks, and what is to find it."""
    return (
        mutation.role in ROLES
        and not (mutation.boots or mutation.own_docker or mutation.preflight)
        and all(operation.split(" | ")[0] in ROLES for operation in mutation.operations)
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run those that fit and write the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.drift_contained", description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    parser.add_argument("--resume", action="store_true", help="leave out those that passed before")
    arguments = parser.parse_args(argv)
    kept = results.load(KIND)
    chosen = [m for m in MUTATIONS if fits(m) and (not arguments.only or m.name in arguments.only)]
    if arguments.resume:
        chosen = [m for m in chosen if m.name not in kept or kept[m.name]["survived"]]
    site = ContainedSite(Lab(ROOT / ".lab-drift-contained"))
    commit = results.commit()
    planned = batches(chosen)
    say(f"{len(chosen)} mutations in {len(planned)} batches, commit {commit}")
    dirty = True
    survived: list[str] = []
    while planned:
        batch = planned.pop(0)
        if dirty:
            site.renew()
        began = time.monotonic()
        say("; ".join(mutation.name for mutation in batch))
        try:
            (seen,) = run_chain(site, [batch])
        except (AssertionError, RuntimeError, subprocess.TimeoutExpired) as error:
            seen = [Seen(mutation, faults=[f"could not be run: {shlex.quote(str(error))}"]) for mutation in batch]
        dirty = any(one.faults for one in seen)
        for one in seen:
            record = one.record(len(batch), time.monotonic() - began, commit) | {"on": "container"}
            if one.faults and len(batch) > 1:
                # Another damage of the batch may have hidden it: alone it is only this one's own doing.
                planned.append([one.mutation])
                say(f"  once more, alone: {one.mutation.name}: {one.faults[0]}")
                continue
            remember(one.mutation.name, record)
            if one.faults:
                survived.append(one.mutation.name)
                say(f"  SURVIVED: {one.mutation.name}")
                for fault in one.faults:
                    say(f"    {fault}")
        say(f"  {time.monotonic() - began:.0f} s")
    PAGE.write_text(page(results.load(KIND)))
    site.lab.ojai("lab", "down", "--destroy")
    say(f"{len(chosen) - len(survived)} of {len(chosen)} caught and mended")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
