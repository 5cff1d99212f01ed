"""Where our commands differ from the guides', read from ``ojai/data/deviations.yaml``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from ojai import resources

Guide = Literal["e4b", "26b"]


class DeviationError(ValueError):
    """A written deviation that does not apply to the listing it is written for."""


class Change(BaseModel):
    """Tokens of the guide's command and what replaces them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    guide: tuple[str, ...] = Field((), description="The guide's tokens; none when something is added.")
    here: tuple[str, ...] = Field((), description="Our tokens; none when something is left out.")
    before: tuple[str, ...] = Field((), description="The guide's tokens that added or moved ones come before.")
    command: tuple[str, ...] = Field((), description="A command before `docker run` that has no place here.")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.command and (self.guide or self.here or self.before):
            raise ValueError("command stands alone, without guide, here and before")
        if not self.command and self.guide == self.here and not self.before:
            raise ValueError("guide and here are the same: nothing changes")
        if not self.guide and self.here and not self.before:
            raise ValueError("added tokens need before, which gives their place")
        return self


class Deviation(BaseModel):
    """One decision to differ, and all it changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z0-9-]+$", description="Its name.")
    guides: tuple[Guide, ...] = Field(min_length=1, description="The guides it differs from.")
    when: Literal["always", "unit"] = Field("always", description="`unit`: on a host only.")
    changes: tuple[Change, ...] = Field(min_length=1, description="What it changes.")
    reason: str = Field(min_length=1, description="Why.")
    source: str = Field(min_length=1, description="Where the reason is from.")


def load() -> tuple[Deviation, ...]:
    """Every deviation, in the order they are written."""
    return TypeAdapter(tuple[Deviation, ...]).validate_python(resources.data("deviations"))


def apply(
    tokens: Sequence[str], guide: Guide, deviations: Sequence[Deviation], on_host: Mapping[str, object] | None = None
) -> list[str]:
    """The guide's ``docker run`` tokens with every deviation for ``guide`` made.

    ``on_host`` gives the unit's form, with what is the host's in it. Raises :class:`DeviationError` when
    the tokens a change is written for are not in the listing exactly once.
    """
    result = list(tokens)
    for deviation in deviations:
        if guide not in deviation.guides or (deviation.when == "unit" and on_host is None):
            continue
        for change in deviation.changes:
            if not change.command:
                result = _change(result, change, deviation.id, on_host or {})
    return result


def commands(guide: Guide, deviations: Sequence[Deviation]) -> list[list[str]]:
    """The guide's commands before ``docker run`` that are written down as done elsewhere."""
    return [
        list(change.command)
        for deviation in deviations
        if guide in deviation.guides
        for change in deviation.changes
        if change.command
    ]


def _change(tokens: list[str], change: Change, name: str, on_host: Mapping[str, object]) -> list[str]:
    result = list(tokens)
    here = [token.format(**on_host) if on_host else token for token in change.here]
    place = 0
    if change.guide:
        place = _find(result, change.guide, name)
        del result[place : place + len(change.guide)]
    if change.before:
        place = _find(result, change.before, name)
    result[place:place] = here
    return result


def _find(tokens: list[str], expected: tuple[str, ...], name: str) -> int:
    places = [place for place in range(len(tokens)) if tuple(tokens[place : place + len(expected)]) == expected]
    if len(places) != 1:
        raise DeviationError(
            f"deviations.yaml: {name}: found {' '.join(expected)!r} {len(places)} times in the guide's command, "
            "expected it once"
        )
    return places[0]
