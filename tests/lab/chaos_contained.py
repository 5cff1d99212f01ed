"""The cuts that need no kernel and no power, in a container instead of the virtual machine: a minute, not an hour.

    python -m tests.lab.chaos_contained

The roles ROCm, Docker and Caches as molecule/default applies them, cut one after the other in the same container; then
the run to the end, the checks of ``ojai verify`` that need no silicon, and a further run. Adds to the results and the
page of ``tests.lab.chaos``.
"""

from __future__ import annotations

import re
import sys
import time
from dataclasses import asdict, dataclass

from lab.errors import LabError
from tests.lab.chaos import Result, ended, last_error, read, say, write
from tests.lab.cutting import NotReachedError, interrupt, must, probe, using
from tests.lab.drift_contained import DEPLOY, INVENTORY, ContainedSite
from tests.lab.interruptions import CONTAINER, CUTS, POINTS, Point
from tests.lab.machine import ROOT, Guest, Lab
from tests.lab.results import commit


@dataclass(frozen=True)
class ContainedLab(Lab):
    """A lab whose host is a container, deployed to as molecule does it."""

    def deploy_argv(self, *words: str) -> list[str]:
        """The deploy's command line."""
        return [sys.executable, "-m", "pyinfra", "-y", "--json", *words, INVENTORY, DEPLOY]


def cut_off(point: Point, lab: Lab) -> Result:
    """Cut the deploy at a point; a fault in the result where it was missed."""
    result = Result(point.cut, point.operation, CONTAINER, commit())
    try:
        cut = interrupt(point, lab)
    except NotReachedError as missed:
        result.fault = f"not reached: {missed}"
        return result
    result.deploy_ended = ended(cut)
    # The kernel is the outer machine's.
    result.left = [line for line in probe(Guest(lab)) if not line.startswith("kernel ")]
    if point.left and not any(re.search(point.left, line) for line in result.left):
        result.fault = f"not reached: nothing to be seen of {point.left!r}"
    elif "Traceback" in cut.output:
        result.fault = "a traceback when it was cut"
    return result


def main() -> int:
    """Run the points; 0 when all of them were survived."""
    lab = ContainedLab(ROOT / ".lab-chaos-contained")
    started = time.monotonic()
    lab.ojai("lab", "down", "--destroy")
    try:
        must(lab.ojai("lab", "container", "lab"))
    except LabError as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 1
    results = {}
    with using(lab):
        for point in (point for point in POINTS if point.start == CONTAINER):
            results[point.name] = cut_off(point, lab)
            say(f"{point.name}: {CUTS[point.cut]}; {results[point.name].fault or results[point.name].left}")
    began = time.monotonic()
    rerun = lab.deploy()
    seconds = round(time.monotonic() - began, 1)
    faults = [] if rerun.status == 0 else [f"the rerun ended with status {rerun.status}: {last_error(rerun)}"]
    verified = ContainedSite(lab).verify()
    if not verified.good:
        faults.append(f"verify: {verified.trouble or '; '.join(verified.failed)}")
    again = lab.deploy()
    if again.status != 0 or again.changed:
        faults.append(f"a further run: status {again.status}, changed {again.changed}")
    for result in results.values():
        result.rerun_status, result.rerun_seconds = rerun.status, seconds
        result.verify = "green, but for what needs silicon" if verified.good else "red"
        result.again, result.again_status = again.changed, again.status
        result.fault = "; ".join(text for text in (result.fault, *faults) if text)
        result.seconds = round(time.monotonic() - started, 1)
    write({**read(), **{name: asdict(result) for name, result in results.items()}})
    lab.ojai("lab", "down", "--destroy")
    bad = [name for name, result in results.items() if result.fault]
    for name in bad:
        say(f"not survived: {name}: {results[name].fault}")
    say(f"{len(results) - len(bad)} of {len(results)} survived in {time.monotonic() - started:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
