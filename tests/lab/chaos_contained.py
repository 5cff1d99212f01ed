"""The cuts that need no kernel and no power, in a container instead of the virtual machine: a minute, not an hour.

    python -m tests.lab.chaos_contained [--resume]

The roles ROCm, Docker and Caches as molecule/default applies them, in a new container for each cut; then the run to
the end, the checks of ``ojai verify`` that need no silicon, and a further run. Adds to the results and the page of
``tests.lab.chaos``.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass

from ojai.lab.errors import LabError
from tests.lab import results
from tests.lab.chaos import KIND, Result, add, survive, tell
from tests.lab.cutting import must, using
from tests.lab.drift_contained import DEPLOY, INVENTORY, ContainedSite
from tests.lab.interruptions import CONTAINER, POINTS
from tests.lab.machine import ROOT, Lab


@dataclass(frozen=True)
class ContainedLab(Lab):
    """A lab whose host is a container, deployed to as molecule does it."""

    def deploy_argv(self, *words: str) -> list[str]:
        """The deploy's command line."""
        return [sys.executable, "-m", "pyinfra", "-y", "--json", *words, INVENTORY, DEPLOY]

    def renew(self) -> None:
        """A new container. Raises LabError where it cannot be had."""
        self.ojai("lab", "down", "--destroy")
        must(self.ojai("lab", "container", "lab"))


def main() -> int:
    """Run the points; 0 when all of them were survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.chaos_contained", description=__doc__.split("\n")[0])
    parser.add_argument("--resume", action="store_true", help="leave out the points that were survived before")
    kept = results.load(KIND) if parser.parse_args().resume else {}
    lab = ContainedLab(ROOT / ".lab-chaos-contained")
    started = time.monotonic()
    seen: dict[str, Result] = {}
    try:
        with using(lab):
            for point in POINTS:
                if point.start == CONTAINER and kept.get(point.name, {"fault": "not run"})["fault"]:
                    seen[point.name] = survive(point, ContainedSite(lab), lab.renew)
                    add(seen)
    except LabError as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 1
    finally:
        lab.ojai("lab", "down", "--destroy")
    return tell(seen, started)


if __name__ == "__main__":
    sys.exit(main())
