"""What fetching came to, in words: texts from ``ojai/data/fetch-errors.yaml``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ojai import resources
from ojai.weights.program import amount

#: In the place of a word that a failure did not bring.
NOT_KNOWN = "(not known)"


class Text(BaseModel):
    """A failure: what was found, what was expected, what to do; `{…}` is filled in. ``when``: how it comes about."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    when: str = Field(min_length=1)
    found: str = Field(min_length=1)
    expected: str = Field(min_length=1)
    todo: str = Field(min_length=1)


@cache
def load() -> dict[str, Text]:
    """The texts by their code."""
    return TypeAdapter(dict[str, Text]).validate_python(resources.data("fetch-errors"))


def text(code: str, words: Mapping[str, str], endpoint: str) -> str:
    """The failure in one line."""
    found = load()[code]
    page = f"https://huggingface.co/{words.get('model', '')}"
    filled = defaultdict(lambda: NOT_KNOWN, {**words, "endpoint": endpoint, "page": page})
    head = f"{words['service']}: " if "service" in words else ""
    parts = f"found {found.found}; expected {found.expected}. What to do: {found.todo}."
    return (
        head + f"weights of {words['model']}: {parts}".format_map(filled)
        if "model" in words
        else (head + f"weights: {parts}".format_map(filled))
    )


def sentence(result: Mapping[str, Any]) -> str:
    """What was fetched of one model."""
    fetched = f"{amount(result['bytes_fetched'])} fetched" if result["bytes_fetched"] else "nothing to fetch"
    return (
        f"{result['service']}: {result['model']} at {result['revision'][:12]}: {result['files']} files, "
        f"{amount(result['bytes'])}, {fetched}, verified in {result['seconds']:.0f} s"
    )
