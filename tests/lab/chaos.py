"""Cut a first deploy off at every point of ``interruptions.py``, run it again, and see that it comes to its end.

python -m tests.lab.chaos [--resume] [--fresh] [--only NAME…] [--list]

A virtual machine of its own, in ``.lab-chaos``. Results go to ``tests/lab/results/chaos.json`` after each point, the
table in ``docs/reference/interruptions.md`` is made from them. Exit status 1 when a point was not survived.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lab import vm
from lab.errors import LabError
from tests.lab.cutting import Cut, NotReachedError, interrupt, must, probe, using
from tests.lab.interruptions import CHAINS, CONTAINER, CUTS, POINTS, STAGES, Point, chain_of, named
from tests.lab.machine import INVENTORY, ROOT, Deploy, Guest, Lab
from tests.lab.results import commit

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "chaos.json"
PAGE = ROOT / "docs" / "reference" / "interruptions.md"
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


def say(text: str) -> None:
    """One line of progress, with the time."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def keep_log(point: Point, what: str, text: str) -> None:
    """Put a run's output beside the lab's own logs."""
    folder = LAB.folder / "logs" / "chaos"
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


def cut_off(point: Point, guest: Guest) -> Result:
    """Cut the deploy at a point and see what that left; :class:`NotReachedError` where it was missed."""
    result = Result(cut=point.cut, operation=point.operation, started_from=point.start, commit=commit())
    cut = interrupt(point, LAB)
    keep_log(point, "cut", cut.output)
    result.deploy_ended = ended(cut)
    result.left = probe(guest)
    say(f"  cut in {cut.operation!r}; deploy: {result.deploy_ended}; left: {'; '.join(result.left)}")
    if point.left and not any(re.search(point.left, line) for line in result.left):
        raise NotReachedError(f"nothing to be seen of {point.left!r} in: {'; '.join(result.left)}")
    if "Traceback" in cut.output:
        result.fault = "a traceback when it was cut"
    elif "it still ran" in cut.said:
        result.fault = cut.said
    return result


def run_again(last: Point) -> dict[str, Any]:
    """The run after the last cut, the checks, and the further run: what they gave, and a ``fault`` if there was one."""
    faults = []
    again = time.monotonic()
    rerun = LAB.deploy()
    found: dict[str, Any] = {"rerun_status": rerun.status, "rerun_seconds": round(time.monotonic() - again, 1)}
    keep_log(last, "rerun", rerun.output)
    if rerun.status != 0:
        faults.append(f"the rerun ended with status {rerun.status}: {last_error(rerun)}")
    else:
        verified = LAB.ojai("verify", INVENTORY, "--json")
        keep_log(last, "verify", verified.stdout + verified.stderr)
        found["verify"], failed = verdict(verified)
        if failed:
            faults.append(failed)
        further = LAB.deploy()
        keep_log(last, "again", further.output)
        found["again"], found["again_status"] = further.changed, further.status
        if further.status != 0 or further.changed:
            faults.append(f"a further run: status {further.status}, changed {further.changed}")
    return {**found, "fault": "; ".join(faults)}


def run_chain(points: list[Point], guest: Guest) -> dict[str, Result]:
    """The points of one machine, from the first one's snapshot to the further run that must change nothing."""
    started = time.monotonic()
    results: dict[str, Result] = {}
    must(LAB.ojai("lab", "restore", "lab", points[0].start))
    last = points[0]
    for number, point in enumerate(points, 1):
        say(f"  {number}. {point.name}: {CUTS[point.cut]}")
        try:
            results[point.name] = cut_off(point, guest)
            last = point
        except NotReachedError as missed:
            say(f"  not reached: {missed}")
            results[point.name] = Result(
                point.cut, point.operation, point.start, commit(), fault=f"not reached: {missed}"
            )
    found = run_again(last)
    for result in results.values():
        for name, value in found.items():
            if name != "fault":
                setattr(result, name, value)
        result.fault = "; ".join(text for text in (result.fault, found["fault"]) if text)
        result.seconds = round(time.monotonic() - started, 1)
    return results


def last_error(run: Deploy) -> str:
    """The last lines of a run that may be its cause."""
    lines = [line.strip() for line in run.output.splitlines() if "] " in line]
    return " | ".join(lines[-4:])


def verdict(verified: subprocess.CompletedProcess[str]) -> tuple[str, str]:
    """The counts of ``ojai verify --json``, and what failed."""
    try:
        (host,) = json.loads(verified.stdout)["hosts"]
    except (ValueError, KeyError):
        return "", f"verify gave no answer: {verified.stdout[-300:]} {verified.stderr[-300:]}"
    outcomes = [check["outcome"] for check in host["checks"]]
    failed = [f"{check['area']}: {check['name']}" for check in host["checks"] if check["outcome"] == "failed"]
    said = f"{outcomes.count('passed')} passed, {outcomes.count('failed')} failed"
    bad = f"verify: {'; '.join(failed) or host.get('trouble') or 'status 1'}" if verified.returncode else ""
    return said, bad


def try_points(points: list[Point], guest: Guest) -> dict[str, Result]:
    """:func:`run_chain`, tried again when a cut that has a machine of its own came too late or too early."""
    number = 0
    while True:
        number += 1
        results = run_chain(points, guest)
        missed = results[points[0].name].fault.startswith("not reached")
        if len(points) > 1 or number == TRIES or not missed:
            break
    for result in results.values():
        result.tries = number
    return results


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


def read() -> dict[str, Any]:
    """The results so far, by the points' names."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def write(results: dict[str, Any]) -> None:
    """Results in the points' order, without those of points that there are no more; and the page made from them."""
    kept = {point.name: results[point.name] for point in POINTS if point.name in results}
    RESULTS.parent.mkdir(exist_ok=True)
    new = RESULTS.with_suffix(".new")
    new.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n")
    new.replace(RESULTS)
    PAGE.write_text(page(kept))


def cell(text: str) -> str:
    """Text for a cell of a table."""
    return text.replace("|", "\\|")


def letter(point: Point) -> str:
    """The letter of the machine on which this and others are cut; empty for one of its own."""
    names = chain_of(point)
    place = "container, " if point.start == CONTAINER else ""
    return f"{place}{chr(ord('A') + CHAINS.index(names))}" if names in CHAINS else ""


def page(results: dict[str, Any]) -> str:
    """The reference page."""
    good = [name for name, result in results.items() if not result["fault"]]
    lines = [
        "# Interruptions",
        "",
        "<!-- Made by `python -m tests.lab.chaos` from tests/lab/results/chaos.json. -->",
        "",
        "A first deploy, cut off at these points on the lab's virtual machine. Each time the deploy was then run",
        "again, with nothing done by hand between, `ojai verify` looked at the machine, and a further deploy had to",
        f"change nothing. Survived: {len(good)} of {len(POINTS)}. `make chaos` does it all again.",
        "",
        "Cuts with the same letter were made one after the other on the same machine: the run after each had to get",
        "past it to the next, and the one after the last is the rerun of all of them. The others had a machine of",
        "their own. What needs neither kernel nor power is cut in a container (`python -m tests.lab.chaos_contained`),",
        "which has no service. Times are of an emulated machine that shared two cores with others.",
        "",
        "| where | cut | machine | found when it was back | the deploy that was cut | rerun | verify | further run |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for point in POINTS:
        result = results.get(point.name)
        if result is None:
            lines.append(f"| {cell(point.name)} | {CUTS[point.cut]} | | not run yet | | | | |")
            continue
        again = f"{len(result['again'])} changes" if not result["fault"] else f"**{cell(result['fault'])}**"
        rerun = f"status {result['rerun_status']}, {result['rerun_seconds']:.0f} s"
        left = "<br>".join(cell(line) for line in result["left"])
        lines.append(
            f"| {cell(point.name)} | {CUTS[point.cut]} | {letter(point)} | {left} | {result['deploy_ended']} | {rerun} "
            f"| {result['verify']} | {again} |"
        )
    return "\n".join(lines) + "\n"


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
        write(read())
        return 0
    started = time.monotonic()
    results = read()
    if arguments.resume:
        chosen = [point for point in chosen if results.get(point.name, {"fault": "not run"})["fault"]]
    try:
        with using(LAB):
            chain(arguments.fresh)
            for names in dict.fromkeys(chain_of(point) for point in chosen):
                points = [named(name) for name in names]
                say(f"from {points[0].start!r}, {len(points)} cuts:")
                for name, result in try_points(points, Guest(LAB)).items():
                    say(f"  {name}: {'survived' if result.survived else 'NOT SURVIVED: ' + result.fault}")
                    results = {**read(), name: asdict(result)}
                    write(results)
    except LabError as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 1
    bad = [point.name for point in chosen if results[point.name]["fault"]]
    say(f"{len(chosen) - len(bad)} of {len(chosen)} survived in {(time.monotonic() - started) / 60:.0f} min")
    for name in bad:
        say(f"not survived: {name}: {results[name]['fault']}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
