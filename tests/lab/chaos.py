"""Cut a first deploy off at every point of ``interruptions.py``, run it again, and see that it comes to its end.

python -m tests.lab.chaos [--resume] [--fresh] [--only NAME…] [--list]

A virtual machine of its own, in ``.lab-chaos``. Results go to ``tests/lab/results/chaos.json`` after each point, the
table in ``docs/reference/interruptions.md`` is made from them. Exit status 1 when a point was not survived.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from lab import vm
from lab.errors import LabError
from tests.lab import results
from tests.lab.cutting import Cut, NotReachedError, interrupt, must, probe, using
from tests.lab.drift import Site, say
from tests.lab.interruptions import CHAINS, CONTAINER, CUTS, POINTS, STAGES, Point, chain_of, named
from tests.lab.machine import INVENTORY, ROOT, Deploy, Guest, Lab

KIND = "chaos"
PAGE = results.REFERENCE / "interruptions.md"
LAB = Lab(ROOT / ".lab-chaos")
UNTIL = "tests/lab/until_deploy.py"

#: Times that a point is tried when it was over before the cut.
TRIES = 3


@dataclass
class Result:
    """What became of one point. Times in seconds."""

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
    fault: str = ""

    @property
    def survived(self) -> bool:
        """Whether the run after the cut ended well, all checks passed, and a further run changed nothing."""
        return not self.fault


def keep_log(lab: Lab, point: Point, what: str, text: str) -> None:
    """Put a run's output beside the lab's own logs."""
    folder = lab.folder / "logs" / "chaos"
    folder.mkdir(parents=True, exist_ok=True)
    slug = re.sub(r"[^a-z0-9]+", "-", point.name.lower()).strip("-")
    (folder / f"{slug}.{what}.log").write_text(text)


def ended(cut: Cut) -> str:
    """How the deploy that was cut off ended, in words."""
    if cut.status is None:
        return cut.said or "killed"
    if cut.status == 0:
        return f"went on by itself, status 0 after {cut.ended_after:.0f} s"
    return f"status {cut.status} after {cut.ended_after:.0f} s"


def cut_off(point: Point, site: Site) -> Result:
    """Cut the deploy at a point and see what that left; :class:`NotReachedError` where it was missed."""
    result = Result(point.cut, point.operation, point.start, results.commit())
    cut = interrupt(point, site.lab)
    keep_log(site.lab, point, "cut", cut.output)
    result.deploy_ended = ended(cut)
    # A container's kernel is the outer machine's.
    result.left = [
        line for line in probe(Guest(site.lab)) if point.start != CONTAINER or not line.startswith("kernel ")
    ]
    say(f"  cut in {cut.operation!r}; deploy: {result.deploy_ended}; left: {'; '.join(result.left)}")
    if point.left and not any(re.search(point.left, line) for line in result.left):
        raise NotReachedError(f"nothing to be seen of {point.left!r} in: {'; '.join(result.left)}")
    if "Traceback" in cut.output:
        result.fault = "a traceback when it was cut"
    elif "it still ran" in cut.said:
        result.fault = cut.said
    return result


def run_again(last: Point, site: Site) -> dict[str, Any]:
    """The run after the last cut, the checks, and the further run: what they gave, and a ``fault`` if there was one."""
    faults = []
    again = time.monotonic()
    rerun = site.deploy()
    found: dict[str, Any] = {"rerun_status": rerun.status, "rerun_seconds": round(time.monotonic() - again, 1)}
    keep_log(site.lab, last, "rerun", rerun.output)
    if rerun.status != 0:
        faults.append(f"the rerun ended with status {rerun.status}: {last_error(rerun)}")
    else:
        verified = site.verify()
        found["verify"] = f"{verified.passed} passed, {len(verified.failed)} failed"
        if not verified.good:
            faults.append(f"verify: {verified.trouble or '; '.join(verified.failed)}")
        further = site.deploy()
        keep_log(site.lab, last, "again", further.output)
        found["again"], found["again_status"] = further.changed, further.status
        if further.status != 0 or further.changed:
            faults.append(f"a further run: status {further.status}, changed {further.changed}")
    return {**found, "fault": "; ".join(faults)}


def run_chain(points: list[Point], site: Site) -> dict[str, Result]:
    """The points of one machine, as it stands, to the further run that must change nothing."""
    started = time.monotonic()
    seen: dict[str, Result] = {}
    last = points[0]
    for number, point in enumerate(points, 1):
        say(f"  {number}. {point.name}: {CUTS[point.cut]}")
        try:
            seen[point.name] = cut_off(point, site)
            last = point
        except NotReachedError as missed:
            say(f"  not reached: {missed}")
            result = Result(point.cut, point.operation, point.start, results.commit(), fault=f"not reached: {missed}")
            seen[point.name] = result
    found = run_again(last, site)
    for result in seen.values():
        for name, value in found.items():
            if name != "fault":
                setattr(result, name, value)
        result.fault = "; ".join(text for text in (result.fault, found["fault"]) if text)
        result.seconds = round(time.monotonic() - started, 1)
    return seen


def last_error(run: Deploy) -> str:
    """The last lines of a run that may be its cause."""
    lines = [line.strip() for line in run.output.splitlines() if "] " in line]
    return " | ".join(lines[-4:])


def try_points(points: list[Point], site: Site) -> dict[str, Result]:
    """:func:`run_chain` from its snapshot, tried again when a cut with a machine of its own came too late or early."""
    number = 0
    while True:
        number += 1
        must(site.lab.ojai("lab", "restore", "lab", points[0].start))
        seen = run_chain(points, site)
        missed = seen[points[0].name].fault.startswith("not reached")
        if len(points) > 1 or number == TRIES or not missed:
            break
    for result in seen.values():
        result.tries = number
    return seen


def chain(fresh: bool) -> None:
    """The snapshots that the points start from, made once, each with the memory of the running machine."""
    if fresh:
        LAB.ojai("lab", "down", "--destroy")
    must(LAB.ojai("lab", "up"))
    known = vm.snapshots("lab")
    before = ""
    for stage in STAGES:
        if stage not in known:
            started = time.monotonic()
            if before in known:
                must(LAB.ojai("lab", "restore", "lab", before))
            if stage != "stock":
                argv = [sys.executable, "-m", "pyinfra", "-y", INVENTORY, UNTIL]
                done = LAB.run(*argv, env={"OJAI_LAB_UNTIL": stage})
                if done.returncode != 0:
                    raise LabError(f"the way to {stage!r} failed:\n{done.stderr[-3000:]}")
            Guest(LAB).root("sync")
            must(LAB.ojai("lab", "snapshot", "lab", stage, "--running"))
            known = vm.snapshots("lab")
            say(f"snapshot {stage!r} after {time.monotonic() - started:.0f} s")
        before = stage


def add(found: dict[str, Result]) -> None:
    """Keep these results, in the points' order and without those of points that there are no more; and the page."""
    known = {**results.load(KIND), **{name: asdict(result) for name, result in found.items()}}
    results.save(KIND, {point.name: known[point.name] for point in POINTS if point.name in known})
    write_page()


def write_page() -> None:
    """The page, from the results."""
    PAGE.write_text(page(results.load(KIND)))


def tell(seen: dict[str, Result], started: float) -> int:
    """Say what was not survived of these; the exit status."""
    bad = {name: result.fault for name, result in seen.items() if not result.survived}
    say(f"{len(seen) - len(bad)} of {len(seen)} survived in {(time.monotonic() - started) / 60:.0f} min")
    for name, fault in bad.items():
        say(f"not survived: {name}: {fault}")
    return 1 if bad else 0


def letter(point: Point) -> str:
    """The letter of the machine on which this and others are cut; empty for one of its own."""
    names = chain_of(point)
    place = "container, " if point.start == CONTAINER else ""
    return f"{place}{chr(ord('A') + CHAINS.index(names))}" if names in CHAINS else ""


def page(kept: dict[str, dict[str, Any]]) -> str:
    """The reference page."""
    good = [name for name, result in kept.items() if not result["fault"]]
    lines = [
        "# Interruptions",
        "",
        "<!-- Made by `make chaos` from tests/lab/results/chaos.json. Do not edit. -->",
        "",
        "A first deploy, cut off at these points on the lab's virtual machine. Each time the deploy was then run",
        "again, with nothing done by hand between, `ojai verify` looked at the machine, and a further deploy had to",
        f"change nothing. **Survived: {len(good)} of {len(POINTS)}.** `make chaos` does it all again.",
        "",
        "Cuts with the same letter were made one after the other on the same machine: the run after each had to get",
        "past it to the next, and the one after the last is the rerun of all of them. The others had a machine of",
        "their own. What needs neither kernel nor power is cut in a container (`python -m tests.lab.chaos_contained`),",
        "which has no service, and is verified by the checks that need no silicon. Times are of an emulated machine.",
        "",
    ]
    rows = []
    for point in POINTS:
        result = kept.get(point.name)
        if result is None:
            rows.append([results.cell(point.name), CUTS[point.cut], "", "not run yet", *[""] * 4])
            continue
        again = f"{len(result['again'])} changes" if not result["fault"] else f"**{results.cell(result['fault'])}**"
        rerun = f"status {result['rerun_status']}, {result['rerun_seconds']:.0f} s"
        left = "<br>".join(results.cell(line) for line in result["left"])
        row = [results.cell(point.name), CUTS[point.cut], letter(point), left, result["deploy_ended"]]
        rows.append([*row, rerun, result["verify"], again])
    columns = ["where", "cut", "machine", "found when it was back", "the deploy that was cut", "rerun", "verify"]
    return "\n".join(lines) + "\n" + results.table([*columns, "further run"], rows)


def main() -> int:
    """Run the points; 0 when all of them were survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.chaos", description=__doc__.split("\n")[0])
    parser.add_argument("--resume", action="store_true", help="leave out the points that were survived before")
    parser.add_argument("--fresh", action="store_true", help="make the virtual machine and its snapshots anew")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="points whose name has one of these")
    parser.add_argument("--start", choices=STAGES, help="points that start from this snapshot")
    parser.add_argument("--list", action="store_true", help="show the points and end")
    parser.add_argument("--page", action="store_true", help="make the page from the results and end")
    arguments = parser.parse_args()
    chosen = [
        point
        for point in POINTS
        if (not arguments.only or any(word in point.name for word in arguments.only))
        and arguments.start in (None, point.start)
        and (point.start in STAGES or arguments.list)
    ]
    if arguments.list:
        for point in chosen:
            print(f"{point.start:10} {point.cut:8} {point.name}")
        return 0
    if arguments.page:
        write_page()
        return 0
    started = time.monotonic()
    if arguments.resume:
        kept = results.load(KIND)
        chosen = [point for point in chosen if kept.get(point.name, {"fault": "not run"})["fault"]]
    seen: dict[str, Result] = {}
    try:
        with using(LAB):
            chain(arguments.fresh)
            for names in dict.fromkeys(chain_of(point) for point in chosen):
                points = [named(name) for name in names]
                say(f"from {points[0].start!r}, {len(points)} cuts:")
                found = try_points(points, Site(LAB))
                for name, result in found.items():
                    say(f"  {name}: {'survived' if result.survived else 'NOT SURVIVED: ' + result.fault}")
                add(found)
                seen |= found
    except LabError as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 1
    return tell(seen, started)


if __name__ == "__main__":
    sys.exit(main())
