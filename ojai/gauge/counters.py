"""What a server counts of itself, read from the text of its ``/metrics``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from ojai import resources

#: A sample: name, labels (whose values may hold anything), value.
_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{.*\})?\s+(\S+)(?:\s+\d+)?$")

#: What is no quantity in an engine's entry.
_ABOUT = ("name", "known_by", "source")


@cache
def engines() -> tuple[Mapping[str, str], ...]:
    """The entries of `ojai/data/server-counters.yaml`."""
    found: list[dict[str, Any]] = resources.data("server-counters")["engines"]
    return tuple(found)


def samples(text: str) -> dict[str, float]:
    """The samples of a text in Prometheus' form by name, summed over their labels."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        if (sample := _SAMPLE.match(line)) is not None:
            try:
                value = float(sample[2])
            except ValueError:
                continue
            found[sample[1]] = found.get(sample[1], 0.0) + value
    return found


def read(text: str) -> tuple[str, dict[str, float]] | None:
    """The engine's name and its quantities; None where no known engine counts."""
    found = samples(text)
    for engine in engines():
        if any(name.startswith(engine["known_by"]) for name in found):
            quantities = {key: name for key, name in engine.items() if key not in _ABOUT}
            return engine["name"], {key: found[name] for key, name in quantities.items() if name in found}
    return None


def difference(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """What was counted in between."""
    return {key: after[key] - before[key] for key in after if key in before}
