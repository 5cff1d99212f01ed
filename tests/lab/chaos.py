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
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from ojai.lab import vm
from ojai.lab.errors import LabError
from tests.lab import results
from tests.lab.cutting import Cut, NotReachedError, interrupt, must, probe, using
from tests.lab.drift import Site, say
from tests.lab.interruptions import CONTAINER, CUTS, POINTS, STAGES, Point
from tests.lab.machine import INVENTORY, ROOT, Deploy, Guest, Lab

KIND = "chaos"
PAGE = results.REFERENCE / "interruptions.md"
LAB = Lab(ROOT / ".lab-chaos")
UNTIL = "tests/lab/until_deploy.py"

#: Times that a point is tried when the cut came too late or too early.
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
    result.left = probe(Guest(site.lab))
    if point.start == CONTAINER:  # its kernel is the outer machine's
        result.left = [line for line in result.left if not line.startswith("kernel ")]
    say(f"  cut in {cut.operation!r}; deploy: {result.deploy_ended}; left: {'; '.join(result.left)}")
    if point.left and not any(re.search(point.left, line) for line in result.left):
        raise NotReachedError(f"nothing to be seen of {point.left!r} in: {'; '.join(result.left)}")
    if "Traceback" in cut.output:
        result.fault = "a traceback when it was cut"
    elif "it still ran" in cut.said:
        result.fault = cut.said
    return result


def run_again(point: Point, site: Site, result: Result) -> None:
    """The run after the cut, the checks, and the further run: what they gave, and what was wrong with it."""
    faults = [result.fault] if result.fault else []
    again = time.monotonic()
    rerun = site.deploy()
    result.rerun_status, result.rerun_seconds = rerun.status, round(time.monotonic() - again, 1)
    keep_log(site.lab, point, "rerun", rerun.output)
    if rerun.status != 0:
        faults.append(f"the rerun ended with status {rerun.status}: {last_error(rerun)}")
    else:
        verified = site.verify()
        result.verify = f"{verified.passed} passed, {len(verified.failed)} failed"
        if not verified.good:
            faults.append(f"verify: {verified.trouble or '; '.join(verified.failed)}")
        further = site.deploy()
        keep_log(site.lab, point, "again", further.output)
        result.again, result.again_status = further.changed, further.status
        if further.status != 0 or further.changed:
            faults.append(f"a further run: status {further.status}, changed {further.changed}")
    result.fault = "; ".join(faults)


def last_error(run: Deploy) -> str:
    """The last lines of a run that may be its cause."""
    lines = [line.strip() for line in run.output.splitlines() if "] " in line]
    return " | ".join(lines[-4:])


def survive(point: Point, site: Site, renew: Callable[[], None]) -> Result:
    """Cut the deploy there, on a host that ``renew`` makes, run it again, and look at what came of it.

    Tried again, from the beginning, when the cut came too late or too early.
    """
    started = time.monotonic()
    say(f"{point.name}: {CUTS[point.cut]}")
    tries = 0
    while True:
        tries += 1
        renew()
        try:
            result = cut_off(point, site)
        except NotReachedError as missed:
            say(f"  not reached: {missed}")
            result = Result(point.cut, point.operation, point.start, results.commit(), fault=f"not reached: {missed}")
            if tries < TRIES:
                continue
        else:
            run_again(point, site, result)
        break
    result.tries = tries
    result.seconds = round(time.monotonic() - started, 1)
    say(f"  {'survived' if result.survived else 'NOT SURVIVED: ' + result.fault}, {result.seconds:.0f} s")
    return result


def snapshots(fresh: bool) -> None:
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


def restore(stage: str) -> None:
    """The machine as it was at that stage, memory included."""
    must(LAB.ojai("lab", "restore", "lab", stage))


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


def page(kept: dict[str, dict[str, Any]]) -> str:
    """The reference page."""
    good = [name for name, result in kept.items() if not result["fault"]]
    unrun = f"; {len(POINTS) - len(kept)} were not run" if len(kept) < len(POINTS) else ""
    lines = [
        "# Interruptions",
        "",
        "<!-- Made by `make chaos` from tests/lab/results/chaos.json. Do not edit. -->",
        "",
        "A first deploy, cut off at these points. Each time, on a machine of its own, the deploy was then run again",
        "with nothing done by hand between, `ojai verify` looked at the machine, and a further deploy had to change",
        f"nothing. **Survived: {len(good)} of {len(kept)} that were run{unrun}.** `make chaos` does it all again.",
        "",
        "The machine is the lab's virtual one, from a snapshot that lies before the cut. Where it is a container, the",
        "cut needs neither kernel nor power; the deploy is the one of molecule/default (ROCm, Docker, caches; no",
        "service), and it is verified by the checks that need no silicon. Times are of emulated machines that shared",
        "two cores with others.",
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
        row = [
            results.cell(point.name),
            CUTS[point.cut],
            "container" if point.start == CONTAINER else "virtual",
            left,
            result["deploy_ended"],
        ]
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
            snapshots(arguments.fresh)
            for point in chosen:
                renew = partial(restore, point.start)
                seen[point.name] = survive(point, Site(LAB), renew)
                add(seen)
    except LabError as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 1
    return tell(seen, started)


if __name__ == "__main__":
    sys.exit(main())
