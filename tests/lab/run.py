"""Run failure tests in the lab, and write what came of them to docs/reference.

    python -m tests.lab.run drift|interruptions|upgrades|guests [--on vm|container] [--engine NAME] [--only NAME …]
        [--resume]

The cases are in tests/lab/cases. Each result is kept in tests/lab/results as soon as it is there, and the page is
written from all of them. Exit status 1 when a case failed, 2 for a wrong call.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ojai.lab import suites
from ojai.lab.errors import LabError
from ojai.lab.image import ENGINES
from tests.lab import backends, drift, guests, inputs, interruptions, pages, results, upgrades
from tests.lab.backends import say
from tests.lab.cases import DRIFT, INTERRUPTIONS, UPGRADES
from tests.lab.contained import serving
from tests.lab.machine import ROOT

Found = Generator[tuple[str, results.Record], None, None]


@dataclass(frozen=True)
class Kind:
    """A kind of failure test. ``page``: what writes the page ``page_name``."""

    cases: Sequence[Any]
    page: Callable[[pages.Records, pages.ByEngine], str]
    page_name: str

    @property
    def path(self) -> Path:
        """The page."""
        return results.REFERENCE / self.page_name


KINDS = {
    "drift": Kind(DRIFT, pages.drift, "drift.md"),
    "interruptions": Kind(INTERRUPTIONS, pages.interruptions, "interruptions.md"),
    "upgrades": Kind(UPGRADES, pages.upgrades, "failed-upgrades.md"),
    "guests": Kind(guests.CASES, pages.guests, "systems.md"),
}


def fits(kind: str, case: Any, on: str) -> bool:
    """Whether a case can be run on a machine of this kind."""
    if kind == "interruptions":
        return interruptions.fits_container(case) == (on == "container")
    if kind == "guests":
        return bool(case.on == on)
    return on == "vm" or (drift if kind == "drift" else upgrades).fits_container(case)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m tests.lab.run", description=(__doc__ or "").splitlines()[0])
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--only", nargs="+", action="extend", default=[], metavar="NAME", help="only these cases")
    common.add_argument(
        "--resume",
        action="store_true",
        help="leave out the cases that passed before; of drift, if nothing that they depend on has changed since",
    )
    common.add_argument("--list", action="store_true", help="list the cases and exit")
    common.add_argument("--page", action="store_true", help="write the page from the results and exit")
    common.add_argument("--fresh", action="store_true", help="make the virtual machine and its snapshots anew")
    common.add_argument("--keep", action="store_true", help="leave the machine running at the end")
    docker = argparse.ArgumentParser(add_help=False)
    docker.add_argument(
        "--engine", choices=ENGINES, default=results.DEFAULT, help="the machine's Docker, by its image store"
    )
    kinds = made.add_subparsers(dest="kind", required=True)
    one = kinds.add_parser("drift", parents=[common, docker], help="break what the deploy manages")
    one.add_argument("--on", choices=["vm", "container"], default="vm", help="the machine (default: vm)")
    one.add_argument("--role", nargs="+", action="extend", default=[], help="only cases of these roles")
    one.add_argument("--solo", action="store_true", help="run each case by itself")
    one.add_argument(
        "--chain", type=int, default=1, metavar="N", help="run N batches before the whole is checked; faster"
    )
    two = kinds.add_parser("interruptions", parents=[common, docker], help="cut a first deploy off")
    two.add_argument("--on", choices=["vm", "container"], help="the machine (default: each case where it belongs)")
    four = kinds.add_parser("guests", parents=[common], help="the same steps on each system that a guest can be")
    four.add_argument("--on", choices=["vm", "container"], default="vm", help="the machine (default: vm)")
    four.add_argument("--guest", nargs="+", action="extend", default=[], help="only these guests")
    three = kinds.add_parser("upgrades", parents=[common, docker], help="upgrade a service in ways that fail")
    three.add_argument("--on", choices=["vm", "container"], default="vm", help="the machine (default: vm)")
    four.set_defaults(engine=results.DEFAULT)  # each guest has its own
    return made


def choose(options: argparse.Namespace, records: pages.Records) -> list[Any]:
    """The cases that the options ask for. ValueError for a name or a role that there is not."""
    cases = KINDS[options.kind].cases
    names = {case.name for case in cases}
    roles = set(getattr(options, "role", []))
    hosts = set(getattr(options, "guest", []))
    for word in options.only:
        if word not in names:
            raise ValueError(f"no case is called {word!r}; --list shows their names")
    unknown = roles - {getattr(case, "role", "") for case in cases}
    if unknown:
        raise ValueError(f"no case is of the role {', '.join(sorted(unknown))}")
    unknown = hosts - {case.guest.name for case in cases if hosts}
    if unknown:
        raise ValueError(f"there is no guest {', '.join(sorted(unknown))}")
    # Ubuntu's own where it is named, or on an Ubuntu.
    if options.kind == "guests" and not hosts and not options.only and suites.chosen(None).name != suites.REAL:
        hosts = {case.guest.name for case in cases if case.guest.system != suites.REAL}
    return [
        case
        for case in cases
        if (not hosts or case.guest.name in hosts)
        and (not options.only or case.name in options.only)
        and (not roles or case.role in roles)
        and not (options.resume and _stands(options.kind, case, records.get(case.name)))
    ]


def _stands(kind: str, case: Any, record: results.Record | None) -> bool:
    """Whether what was seen of a case still says something: it passed, and nothing that it depends on has changed."""
    if record is None or not record["passed"]:
        return False
    return kind != "drift" or record.get("inputs") == inputs.of(case)


def run(options: argparse.Namespace, cases: Sequence[Any], on: str) -> Found:
    """Run the cases on one kind of machine; yields each case's name and record."""
    own = "" if options.engine == results.DEFAULT else f"-{options.engine}"
    folder = Path(os.environ.get("OJAI_LAB_DIR") or ROOT / f".lab-{options.kind}{own}").resolve()
    if options.kind == "guests":
        made = serving if on == "container" else backends.virtual_machine
        for guest in dict.fromkeys(case.guest for case in cases):
            mine = [case for case in cases if case.guest == guest]
            yield from guests.run(made(folder.with_name(f"{folder.name}-{on}"), guest.engine), mine, options.keep)
        return
    if on == "container":
        place = folder.with_name(f"{folder.name}-container")
        bare = options.kind == "interruptions"
        contained = backends.container(place, options.engine) if bare else serving(place, options.engine)
        try:
            if options.kind == "drift":
                yield from drift.on_container(contained, drift.plan(cases, options.solo), options.chain)
            elif bare:
                yield from interruptions.on_container(contained, cases)
            else:
                contained.provision()
                yield from upgrades.on_host(contained, cases)
        finally:
            if not options.keep:
                contained.stop()
        return
    host = backends.virtual_machine(folder, options.engine)
    if options.fresh:
        host.stop(destroy=True)
    try:
        if options.kind == "drift":
            yield from drift.on_vm(host, drift.plan(cases, options.solo), options.chain)
        elif options.kind == "interruptions":
            yield from interruptions.on_vm(host, cases)
        else:
            host.start()
            host.must_deploy()
            yield from upgrades.on_host(host, cases)
    finally:
        if not options.keep:
            # Failed upgrades start from no snapshot, so nothing of their machine is worth keeping.
            host.stop(destroy=options.kind == "upgrades")


def remember(kind: str, name: str, record: results.Record, engine: str) -> None:
    """Keep a case's record, drop those of cases that there are no more, and write the page."""
    found = {**results.load(kind, engine), name: record}
    kept = {case.name: found[case.name] for case in KINDS[kind].cases if case.name in found}
    results.save(kind, kept, engine)
    write_page(kind)


def write_page(kind: str) -> None:
    """Write a kind's page from its results."""
    others = {engine: results.load(kind, engine) for engine in results.OTHERS}
    KINDS[kind].path.write_text(KINDS[kind].page(results.load(kind), others))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the chosen cases; 0 when all of them passed."""
    options = parser().parse_args(argv)
    records = results.load(options.kind, options.engine)
    if options.page:
        write_page(options.kind)
        return 0
    try:
        chosen = choose(options, records)
    except ValueError as error:
        print(f"{options.kind}: {error}", file=sys.stderr)
        return 2
    machines = [options.on] if options.on else ["container", "vm"]
    planned = {on: [case for case in chosen if fits(options.kind, case, on)] for on in machines}
    unfit = [case.name for case in chosen if not any(case in cases for cases in planned.values())]
    if options.only and unfit:
        print(f"{options.kind}: not on a {options.on}: {'; '.join(unfit)}", file=sys.stderr)
        return 2
    if options.list:
        for on, cases in planned.items():
            for case in cases:
                print(f"{on:10} {case.name}")
        return 0
    started = time.monotonic()
    failed: dict[str, list[str]] = {}
    done = 0
    try:
        for on, cases in planned.items():
            if not cases:
                continue
            say(f"{len(cases)} cases on a {on}, Docker with {options.engine}, commit {results.commit()}")
            with closing(run(options, cases, on)) as found:
                for name, record in found:
                    remember(options.kind, name, record, options.engine)
                    done += 1
                    say(f"  {'passed' if record['passed'] else 'FAILED'}: {name}")
                    for failure in record["failures"]:
                        failed.setdefault(name, []).append(failure)
                        say(f"    {failure}")
    except (LabError, TimeoutError) as error:
        print(f"{options.kind}: {error}", file=sys.stderr)
        return 1
    say(f"{done - len(failed)} of {done} passed in {(time.monotonic() - started) / 60:.0f} min")
    for name, failures in failed.items():
        say(f"FAILED: {name}: {failures[0]}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
