"""What is measured, in which order, and how many times; the results on disk."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "docs" / "benchmarks" / "results.json"
#: Those of a second run, which is to give the same ratios.
AGAIN = RESULTS.with_name("again.json")
#: Times that each case is run, at least; and once more for memory and the commands that sshd counts.
TIMES = 5
FLEET = 24
PEERS = ("ansible", "mitogen", "stock")
FAKED = (10, 50, 100, 200)
RTTS = (0, 20, 100)


@dataclass(frozen=True)
class Case:
    """One thing to measure: who does what, on how many hosts, how far away (milliseconds, there and back)."""

    tool: str
    what: str
    hosts: int = 1
    rtt: int = 0

    @property
    def key(self) -> str:
        """What it is called in the results."""
        return f"{self.tool}, {self.what}, {self.hosts} hosts, {self.rtt} ms"

    @property
    def counted(self) -> bool:
        """Whether it is run once more for its memory and its commands: these do not depend on the distance."""
        return (self.what in ("converged", "drifted") and self.rtt == 0) or self.what == "dry"


def cases(fleet: int = FLEET) -> list[Case]:
    """Every case of one round. The line is changed, and a host made anew, as seldom as can be."""
    found = [Case("ojai", "help"), Case("ojai", "plan", 50), *(Case("ojai", "dry", count) for count in FAKED)]
    for rtt in RTTS:
        found += [Case("floor", what, 1, rtt) for what in ("ssh cold", "ssh warm")]
        found += [Case("floor", "python")] if rtt == 0 else []
        for what in ("converged", "drifted"):
            for hosts in dict.fromkeys((1, min(8, fleet), fleet)):
                found.append(Case("ojai", what, hosts, rtt))
                if rtt != RTTS[-1] and hosts in (1, fleet):
                    found += [Case(peer, what, hosts, rtt) for peer in PEERS]
    found += [Case(tool, "first") for tool in ("ojai", "shell", "ansible", "mitogen")]
    return found


class Results:
    """Samples by case, kept after each. Those of another commit, machine or version are not mixed in."""

    def __init__(self, file: Path, made_by: Mapping[str, Any]) -> None:
        self.file, self.made_by = file, dict(made_by)
        try:
            found = json.loads(file.read_text())
        except FileNotFoundError:
            found = {}
        same = found.get("made_by") == self.made_by
        self.samples: dict[str, list[dict[str, Any]]] = found["cases"] if same else {}
        self.checks: dict[str, Any] = found["checks"] if same else {}

    def missing(self, case: Case, times: int) -> list[bool]:
        """The samples that are still to be taken; True for the one that looks at memory and commands."""
        had = self.samples.get(case.key, [])
        timed = sum("memory" not in one for one in had)
        looked = len(had) - timed
        return [False] * (times - timed) + [True] * (int(case.counted) - looked)

    def add(self, case: Case, sample: Mapping[str, Any]) -> None:
        """Keep one sample."""
        self.samples.setdefault(case.key, []).append(dict(sample))
        self.save()

    def save(self) -> None:
        """Write all of it in one rename."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.file.with_suffix(".new")
        text = json.dumps({"made_by": self.made_by, "checks": self.checks, "cases": self.samples}, indent=1)
        fresh.write_text(text + "\n")
        fresh.replace(self.file)


def rounds(results: Results, planned: Iterable[Case], times: int) -> Iterator[tuple[Case, bool]]:
    """Every sample that is missing: one of each case, then the next of each, so that a slow hour is everybody's."""
    planned = list(planned)
    while True:
        waiting = {case: results.missing(case, times) for case in planned}
        most = max(map(len, waiting.values()))
        if most == 0:
            return
        for case, missing in waiting.items():
            if len(missing) == most:
                yield case, missing[-1]


def median(samples: Iterable[Mapping[str, Any]], name: str) -> float | None:
    """The median of a measure over the samples that have it. Times are only of runs at which nobody looked."""
    values = [one[name] for one in samples if name in one and ("memory" not in one or name in ("memory", "commands"))]
    return statistics.median(values) if values else None


def spread(samples: Iterable[Mapping[str, Any]], name: str = "wall") -> tuple[float, float] | None:
    """The least and the greatest of a measure."""
    values = [one[name] for one in samples if "memory" not in one and one.get(name) is not None]
    return (min(values), max(values)) if values else None
