"""The cuts that need no kernel and no power, in a container instead of the virtual machine: a minute, not an hour.

    python -m tests.lab.chaos_contained

The roles ROCm, Docker and Caches as molecule/default applies them, cut one after the other in the same container; then
the run to the end, the checks of ``ojai verify`` that need no silicon, and a further run. Adds to the results and the
page of ``tests.lab.chaos``.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

from lab.errors import LabError
from tests.lab.chaos import add, run_chain, tell
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


def main() -> int:
    """Run the points, one after the other on the same container; 0 when all of them were survived."""
    lab = ContainedLab(ROOT / ".lab-chaos-contained")
    started = time.monotonic()
    lab.ojai("lab", "down", "--destroy")
    try:
        with using(lab):
            must(lab.ojai("lab", "container", "lab"))
            seen = run_chain([point for point in POINTS if point.start == CONTAINER], ContainedSite(lab))
    except LabError as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 1
    finally:
        lab.ojai("lab", "down", "--destroy")
    add(seen)
    return tell(seen, started)


if __name__ == "__main__":
    sys.exit(main())
