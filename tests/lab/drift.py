"""Break every managed thing, and see that ``ojai verify`` names it and the deploy mends it.

    python -m tests.lab.drift [--only NAME …] [--role ROLE …] [--resume] [--solo]

The mutations are in tests/lab/mutations.py. A machine of its own (``.lab-drift``) is provisioned once and kept as a
snapshot, memory included; every batch begins from there. Results go to results/drift.json, and docs/reference/drift.md
is written from that. Exit status 1 when a mutation survived.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from ojai.lab.errors import LabError
from tests.lab import own_docker as docker_archive
from tests.lab import results
from tests.lab.machine import INVENTORY, ROOT, Deploy, Guest, Lab
from tests.lab.mutations import MUTATIONS, Mutation, batches, pending

KIND = "drift"
PAGE = results.REFERENCE / "drift.md"

#: Seconds that a guest may take to be up after a reboot.
BOOT = 300


@dataclass(frozen=True)
class Verified:
    """What ``ojai verify --json`` said: ``failed`` checks as ``area: check: message``, and how many ``passed``."""

    good: bool
    failed: list[str]
    trouble: str = ""
    passed: int = 0

    def caught(self, pattern: str) -> list[str]:
        """The checks, as ``area: check``, that ``pattern`` finds."""
        return [": ".join(text.split(": ", 2)[:2]) for text in self.failed if re.search(pattern, text, re.DOTALL)]


@dataclass
class Seen:
    """What became of one mutation. ``faults``: empty when it was caught, and mended or refused as it should be."""

    mutation: Mutation
    caught: list[str] = field(default_factory=list)
    mended: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def record(self, together: int, seconds: float, commit: str) -> dict[str, object]:
        """As it is kept in the results."""
        return {
            "role": self.mutation.role,
            "survived": bool(self.faults),
            "caught": sorted(set(self.caught)),
            "mended": self.mended,
            "refused": bool(self.mutation.refused),
            "faults": self.faults,
            "together": together,
            "seconds": round(seconds),
            "commit": commit,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }


@dataclass(frozen=True)
class Site:
    """A lab with an inventory, and the label of the snapshot in which its host is as that says."""

    lab: Lab
    inventory: str = INVENTORY
    env: dict[str, str] | None = None
    label: str = "provisioned"

    @property
    def guest(self) -> Guest:
        """The host."""
        return Guest(self.lab)

    def deploy(self) -> Deploy:
        """The deploy, to its end."""
        argv = [sys.executable, "-m", "pyinfra", "-y", "--json", self.inventory, "deploy.py"]
        done = self.lab.run(*argv, env=self.env)
        return Deploy.of(done.returncode, done.stdout, done.stderr)

    def verify(self) -> Verified:
        """All checks of the host."""
        done = self.lab.ojai("verify", self.inventory, "--json", env=self.env)
        try:
            host = json.loads(done.stdout)["hosts"][0]
        except (ValueError, IndexError):
            return Verified(False, [], done.stdout + done.stderr)
        failed = [
            f"{check['area']}: {check['name']}: {check['message']}"
            for check in host["checks"]
            if check["outcome"] == "failed"
        ]
        passed = sum(check["outcome"] == "passed" for check in host["checks"])
        return Verified(host["good"], failed, host["trouble"], passed)

    def restore(self) -> bool:
        """Back to the provisioned host, memory included; False where it was never kept."""
        return self.lab.ojai("lab", "restore", "lab", self.label).returncode == 0

    def keep(self) -> None:
        """See that the host is as it should be and stays so, and keep it. Raises RuntimeError where it is not."""
        again = self.deploy()
        if again.status != 0 or again.changed:
            raise RuntimeError(f"the second deploy was not without changes: {again.changed} {again.output[-2000:]}")
        found = self.verify()
        if not found.good:
            raise RuntimeError(f"verify is not green before anything is broken: {found.trouble or found.failed}")
        kept = self.lab.ojai("lab", "snapshot", "lab", self.label, "--running")
        if kept.returncode != 0:
            raise RuntimeError(kept.stderr)


def boot(guest: Guest) -> None:
    """Reboot the guest, and wait until systemd has started all that it will start."""
    before = guest.text("cat /proc/sys/kernel/random/boot_id")
    guest.root("systemd-run --quiet --on-active=1 systemctl reboot")
    end = time.monotonic() + BOOT
    while time.monotonic() < end:
        time.sleep(4)
        now = guest.run("cat /proc/sys/kernel/random/boot_id")
        if now.returncode == 0 and now.stdout.strip() not in ("", before):
            guest.run("timeout 120 systemctl is-system-running --wait")
            return
    raise TimeoutError(f"the guest did not come back within {BOOT} s of its reboot")


def damage(guest: Guest, mutations: Sequence[Mutation]) -> None:
    """Do them, in one go."""
    guest.root(
        "export DEBIAN_FRONTEND=noninteractive\n" + "\n".join(f"( set -eu; {m.damage}\n) || exit 1" for m in mutations)
    )
    for mutation in mutations:
        if mutation.boots:
            boot(guest)
            if mutation.then:
                guest.root(f"set -eu\n{mutation.then}")


def undo(guest: Guest, mutation: Mutation) -> None:
    """What a person does who has read the refusal."""
    guest.root(f"set -eu\nexport DEBIAN_FRONTEND=noninteractive\n{mutation.undo}")
    if mutation.undo_boots:
        boot(guest)
    guest.run("for i in $(seq 60); do curl -sf -o /dev/null -m 5 http://127.0.0.1:8000/health && break; sleep 2; done")


def judge_deploy(seen: Sequence[Seen], done: Deploy) -> None:
    """Add what is wrong with the deploy after the damage to each mutation that it is wrong for."""
    expected = {name for one in seen if not one.mutation.refused for name in one.mutation.operations}
    allowed = expected | {name for one in seen for name in one.mutation.may}
    stray = [name for name in done.changed if name not in allowed]
    for one in seen:
        mutation = one.mutation
        if "Traceback" in done.output:
            one.faults.append("the deploy ended with a traceback")
        if mutation.refused:
            if done.status == 0:
                one.faults.append("the deploy did not refuse")
            elif not re.search(mutation.refused, done.output, re.DOTALL):
                one.faults.append(f"the refusal does not say {mutation.refused}: {done.output[-1500:]}")
        else:
            if done.status != 0:
                one.faults.append(f"the deploy ended with status {done.status}: {done.output[-1500:]}")
            missing = [name for name in mutation.operations if name not in done.changed]
            if missing:
                one.faults.append(f"the deploy did not report: {'; '.join(missing)}")
            one.mended = [name for name in done.changed if name in {*mutation.operations, *mutation.may}]
        if stray:
            one.faults.append(f"the deploy also reported: {'; '.join(stray)}")


def break_and_mend(site: Site, mutations: Sequence[Mutation]) -> list[Seen]:
    """Damage, verify, deploy: whether each was named, and mended by just what should mend it."""
    guest = site.guest
    seen = [Seen(mutation) for mutation in mutations]
    damage(guest, mutations)
    red = site.verify()
    for one in seen:
        mutation = one.mutation
        one.caught = red.caught(mutation.named)
        if not one.caught:
            one.faults.append(f"verify did not name it: {red.trouble or ' / '.join(red.failed) or 'all was green'}")
        # Another damage of the batch may have caused a failed check; the operation that is pending is only this one's.
        for operation in (*mutation.operations[:1], *mutation.hidden) if not mutation.refused else ():
            pended = red.caught(pending(operation))
            one.caught += pended
            if not pended:
                one.faults.append(f"the dry run did not name {operation}")
    if mutations[0].refused and not mutations[0].preflight:
        # The deploy stops at the first: it is undone, and the next one met, in the order of the roles.
        for one in seen:
            judge_deploy([one], site.deploy())
            undo(guest, one.mutation)
    else:
        judge_deploy(seen, site.deploy())
        for mutation in mutations:
            if mutation.refused:
                undo(guest, mutation)
    return seen


def see_it_is_whole(site: Site, seen: Sequence[Seen]) -> None:
    """Verify must be green now, and a further deploy must change nothing; else none of ``seen`` was mended."""
    green = site.verify()
    last = site.deploy()
    for one in seen:
        if not green.good:
            one.faults.append(f"verify was not green afterwards: {green.trouble or ' / '.join(green.failed)}")
        if last.status != 0 or last.changed:
            one.faults.append(f"a further run reported: {'; '.join(last.changed) or last.output[-1500:]}")


def run_chain(site: Site, chain: Sequence[Sequence[Mutation]]) -> list[list[Seen]]:
    """Some batches, one after the other on the same host, and a look at the whole after the last.

    What an earlier one left would be reported by the deploy after a later one, which may report that one's own changes
    only, or be seen in the end. A chain ends early with a batch that has a survivor: those before it are left out of
    the answer then, since nobody has looked whether they left anything.
    """
    done: list[list[Seen]] = []
    for batch in chain:
        seen = break_and_mend(site, batch)
        if any(one.faults for one in seen):
            see_it_is_whole(site, seen)
            return [seen]
        done.append(seen)
    see_it_is_whole(site, [one for seen in done for one in seen])
    return done


def provision(lab: Lab) -> Site:
    """A guest that is provisioned and green, kept with its memory; one that was kept earlier is taken."""
    site = Site(lab)
    say("bringing the machine up …")
    up = lab.ojai("lab", "up")
    if up.returncode != 0:
        raise RuntimeError(up.stderr)
    if site.restore() and not site.deploy().changed:
        return site
    first = site.deploy()
    if first.status != 0:
        raise RuntimeError(f"the first deploy failed:\n{first.output[-4000:]}")
    site.keep()
    return site


def own_docker(base: Site, env: dict[str, str]) -> Site:
    """The same host, with Docker from an archive of its own. As a person would change over: the engine goes first."""
    site = Site(base.lab, docker_archive.INVENTORY, env, "own-docker")
    if site.restore() and not site.deploy().changed:
        return site
    say("changing over to Docker's own archive …")
    base.restore()
    site.guest.root("dpkg --remove --force-depends docker.io docker-cli")
    first = site.deploy()
    if first.status != 0:
        raise RuntimeError(f"the deploy with Docker's own archive failed:\n{first.output[-4000:]}")
    site.keep()
    return site


def say(text: str) -> None:
    """One line of progress, with the time."""
    print(f"{datetime.now():%H:%M:%S} {text}", flush=True)


HEAD = """\
# What drift is caught, and how it is mended

<!-- Generated by `make drift` from tests/lab/mutations.py and tests/lab/results/drift.json. Do not edit. -->

Every managed thing of a provisioned host, broken on purpose. For each damage: `ojai verify` must go red and name it;
the deploy must report the changes that mend it and no other, or refuse where mending would be wrong; then `ojai verify`
must be green and a further deploy must change nothing.

Measured by `make drift` on the lab's virtual machine, from the same snapshot each time, and by
`python -m tests.lab.drift_contained` in a container of the lab: {contained} of those run, of roles that need no kernel
of their own (docs/guide/lab.md says what is real there and what is not). Damages that do not touch each other were run
together, {batches}: the operation that mends the one is in no way concerned by the others, and
it is this operation that the dry run of the deploy (*drift*) must name.

No package is ever taken off hold here: the deploy holds none, and takes off every hold that it finds on its own.

**{caught} of {total} caught, {handled} of {total} mended or refused{survivors}.** {refused} of them are refused.
"""


def remember(name: str, record: dict[str, object]) -> dict[str, dict[str, object]]:
    """Keep a damage's record, and none of damages that there are no more. All that is kept is returned."""
    found = {**results.load(KIND), name: record}
    kept = {mutation.name: found[mutation.name] for mutation in MUTATIONS if mutation.name in found}
    results.save(KIND, kept)
    return kept


def page(kept: dict[str, dict[str, object]]) -> str:
    """The generated page. A mutation that was not run yet says so."""
    known = {mutation.name: kept.get(mutation.name) for mutation in MUTATIONS}
    ran = [record for record in known.values() if record]
    survived = [name for name, record in known.items() if record and record["survived"]]
    unrun = [name for name, record in known.items() if not record]
    together = [int(str(record["together"])) for record in ran]
    text = HEAD.format(
        batches=f"{min(together)} to {max(together)} at a time" if together else "several at a time",
        caught=sum(bool(record["caught"]) for record in ran),
        total=len(known),
        contained=sum(record.get("on") == "container" for record in ran),
        handled=len(ran) - len(survived),
        survivors=(f"; {len(survived)} SURVIVED" if survived else "") + (f"; {len(unrun)} not run" if unrun else ""),
        refused=sum(bool(mutation.refused) for mutation in MUTATIONS),
    )
    for role in dict.fromkeys(mutation.role for mutation in MUTATIONS):
        rows = []
        for mutation in MUTATIONS:
            if mutation.role != role:
                continue
            record = known[mutation.name]
            by = ", ".join(str(check) for check in record["caught"]) if record else ""  # type: ignore[attr-defined]
            rows.append([results.cell(mutation.name), results.cell(by), results.cell(_mended(mutation, record))])
        text += f"\n## {role}\n\n{results.table(['mutation', 'caught by', 'mended by'], rows)}"
    return text


def _mended(mutation: Mutation, record: dict[str, object] | None) -> str:
    if record is None:
        return "not run"
    if record["survived"]:
        return "SURVIVED"
    if mutation.refused:
        return f"refused: {mutation.why}"
    return ", ".join(operation.split(" | ", 1)[-1] for operation in record["mended"])  # type: ignore[attr-defined]


def _chosen(arguments: argparse.Namespace, kept: dict[str, dict[str, object]]) -> list[Mutation]:
    unknown = set(arguments.only) - {mutation.name for mutation in MUTATIONS}
    unknown |= set(arguments.role) - {mutation.role for mutation in MUTATIONS}
    if unknown:
        raise SystemExit(f"no such mutation or role: {', '.join(sorted(unknown))}")
    chosen = [
        mutation
        for mutation in MUTATIONS
        if (not arguments.only or mutation.name in arguments.only)
        and (not arguments.role or mutation.role in arguments.role)
    ]
    if arguments.resume:
        passed = [m.name for m in chosen if m.name in kept and not kept[m.name]["survived"]]
        say(f"{len(passed)} passed before and are left out: {', '.join(passed) or 'none'}")
        chosen = [mutation for mutation in chosen if mutation.name not in passed]
    return chosen


def main(argv: Sequence[str] | None = None) -> int:
    """Run the chosen mutations and write the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.drift", description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="only this mutation")
    parser.add_argument("--role", action="append", default=[], help="only mutations of this role")
    parser.add_argument("--resume", action="store_true", help="leave out those that passed before")
    parser.add_argument("--solo", action="store_true", help="each mutation by itself")
    parser.add_argument(
        "--chain",
        type=int,
        default=1,
        metavar="N",
        help="batches before the whole is looked at; faster, and all or none",
    )
    parser.add_argument("--page", action="store_true", help="only write the page anew from the results")
    arguments = parser.parse_args(argv)
    kept = results.load(KIND)
    if arguments.page:
        PAGE.write_text(page(kept))
        return 0
    chosen = _chosen(arguments, kept)
    planned = [[mutation] for mutation in chosen] if arguments.solo else batches(chosen)
    lab = Lab(Path(os.environ.get("OJAI_LAB_DIR") or ROOT / ".lab-drift"))
    commit = results.commit()
    started = time.monotonic()
    base = provision(lab)
    say(f"{len(chosen)} mutations in {len(planned)} batches, commit {commit}")
    survived: list[str] = []
    alone: list[Mutation] = []
    with ExitStack() as stack:
        other: Site | None = None
        waiting = list(planned)
        while waiting:
            chain = [waiting[0]]
            while (
                len(chain) < min(arguments.chain, len(waiting))
                and waiting[len(chain)][0].own_docker == chain[0][0].own_docker
                and not {*alone} & {*chain[0], *waiting[len(chain)]}
            ):
                chain.append(waiting[len(chain)])
            began = time.monotonic()
            for batch in chain:
                say(f"{len(waiting)} batches to go: {'; '.join(mutation.name for mutation in batch)}")
            try:
                if chain[0][0].own_docker and not other:
                    other = own_docker(base, stack.enter_context(docker_archive.served(lab)))
                site = other if chain[0][0].own_docker and other else base
                if not site.restore():
                    raise RuntimeError("the snapshot could not be restored")
                answer = run_chain(site, chain)
            except (AssertionError, RuntimeError, LabError, TimeoutError, subprocess.TimeoutExpired) as error:
                # Which of them it was is seen when they are run one by one.
                if len(chain) > 1:
                    alone += [mutation for batch in chain for mutation in batch]
                    say(f"  {error}; these once more, batch by batch")
                    continue
                answer = [[Seen(mutation, faults=[f"could not be run: {error}"]) for mutation in chain[0]]]
            if len(chain) > 1 and any(one.faults for one in answer[-1]) and len(answer) > 1:
                alone += [mutation for batch in chain for mutation in batch]
                say(f"  {answer[-1][0].faults}; these once more, batch by batch")
                continue
            for seen in answer:
                batch = [one.mutation for one in seen]
                waiting.remove(batch)
                for one in seen:
                    record = one.record(len(batch), (time.monotonic() - began) / len(answer), commit)
                    kept = remember(one.mutation.name, record)
                    if one.faults:
                        survived.append(one.mutation.name)
                        say(f"  SURVIVED: {one.mutation.name}")
                        for fault in one.faults:
                            say(f"    {fault if len(one.faults) < 3 or one is seen[0] else fault[:200]}")
            say(f"  {time.monotonic() - began:.0f} s, {len(survived)} survived so far")
            PAGE.write_text(page(kept))
    say(f"{len(chosen) - len(survived)} of {len(chosen)} caught and mended in {time.monotonic() - started:.0f} s")
    for name in survived:
        say(f"SURVIVED: {name}")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
