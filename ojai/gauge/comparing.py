"""Two runs side by side: what differs between the subjects, and which figures differ by more than their spread."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ojai.gauge.result import Cell, Run, Stat

#: What a reader wants first comes first: time to the first token, prompts, then decoding (seed 003's checklist).
FIGURES = (
    ("first", "first token", "s", False),
    ("prompt_rate", "prompt", "tokens/s", True),
    ("decode_rate", "decode, each user", "tokens/s", True),
    ("total_rate", "all users", "tokens/s", True),
)

#: Measurements of each run below which ranges that do not overlap are chance.
ENOUGH = 3

#: Fields of a subject that two boxes never share.
_OWN = {"host", "url", "memory"}

#: Those with names of their own.
_BY_NAME = ("facts", "commits", "packages")

Outcome = Literal["better", "worse", "within the spread", "too few measurements"]


@dataclass(frozen=True)
class Difference:
    """One figure of both runs. ``change``: of the second against the first, as a share."""

    users: int
    prompt_tokens: int
    name: str
    unit: str
    first: Stat
    second: Stat
    change: float
    outcome: Outcome


def stat(cell: Cell, figure: str) -> Stat | None:
    """A figure of a cell by its name in :data:`FIGURES`."""
    found: Stat | None = getattr(cell, figure)
    return found


def differences(first: Run, second: Run) -> Iterator[Difference]:
    """Every figure that both runs have.

    A difference is more than the spread where the ranges do not overlap: with five measurements each, that happens by
    chance in 1 of 126 cases.
    """
    for cell in first.cells:
        other = second.cell(cell.users, cell.prompt_tokens)
        if other is None or not cell.rounds:
            continue
        for figure, name, unit, more_is_better in FIGURES:
            one, two = stat(cell, figure), stat(other, figure)
            if one is None or two is None or not one.median:
                continue
            apart = two.low > one.high or two.high < one.low
            outcome: Outcome = "within the spread"
            if apart and min(one.count, two.count) < ENOUGH:
                outcome = "too few measurements"
            elif apart:
                outcome = "better" if (two.median > one.median) == more_is_better else "worse"
            change = two.median / one.median - 1
            yield Difference(cell.users, cell.prompt_tokens, name, unit, one, two, change, outcome)


def subjects(first: Run, second: Run) -> list[tuple[str, str, str]]:
    """In what the runs differ besides their figures: name, of the first, of the second."""
    pairs: list[tuple[str, Any, Any]] = [("ojai", first.ojai, second.ojai)]
    for name in type(first.subject).model_fields:
        if name not in _OWN and name not in _BY_NAME:
            pairs.append((name.replace("_", " "), getattr(first.subject, name), getattr(second.subject, name)))
    for name in type(first.settings).model_fields:
        pairs.append((name.replace("_", " "), getattr(first.settings, name), getattr(second.settings, name)))
    for field in _BY_NAME:
        one, two = getattr(first.subject, field), getattr(second.subject, field)
        pairs += [(name, one.get(name), two.get(name)) for name in sorted({*one, *two})]
    return [(name, _shown(one), _shown(two)) for name, one, two in pairs if one != two]


def _shown(value: Any) -> str:
    if value is None or value == ():
        return "not known"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def document(first: Run, second: Run) -> dict[str, Any]:
    """A comparison as JSON has it."""
    return {
        "first": {"title": first.title, "when": first.when},
        "second": {"title": second.title, "when": second.when},
        "differ": [{"what": name, "first": one, "second": two} for name, one, two in subjects(first, second)],
        "figures": [
            {**asdict(one), "first": one.first.model_dump(), "second": one.second.model_dump()}
            for one in differences(first, second)
        ],
    }
