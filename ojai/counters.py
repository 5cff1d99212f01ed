"""What a server counts of itself, read from the text of its ``/metrics``."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

from ojai import resources

#: A sample: name, labels (whose values may hold anything), value.
_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{.*\})?\s+(\S+)(?:\s+\d+)?$")

#: What is no quantity in an engine's entry.
_ABOUT = ("name", "engine", "known_by", "no_end", "any_name", "source")


@cache
def engines() -> tuple[Mapping[str, Any], ...]:
    """The entries of `ojai/data/server-counters.yaml`."""
    found: list[dict[str, Any]] = resources.data("server-counters")["engines"]
    return tuple(found)


def engine(owner: str | None) -> Mapping[str, Any]:
    """The entry of the engine that calls itself so; an empty one where it is not known."""
    return next((one for one in engines() if one["engine"] == owner), {})


def names(owner: str | None) -> Mapping[str, str]:
    """What the engine that calls itself so calls its quantities; nothing where that is not known."""
    return {key: name for key, name in engine(owner).items() if key not in _ABOUT}


def prompts(found: Collection[str]) -> str:
    """The counter of prompts among these: of all their tokens, or of those that were computed."""
    return "prompt_tokens" if "prompt_tokens" in found else "computed_tokens"


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
    for one in engines():
        if any(name.startswith(one["known_by"]) for name in found):
            quantities = names(one["engine"]).items()
            return one["name"], {key: found[name] for key, name in quantities if name in found}
    return None


def difference(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """What was counted in between."""
    return {key: after[key] - before[key] for key in after if key in before}
