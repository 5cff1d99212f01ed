"""The guides' catalogue of failures: what a line in the journal means, and what mends it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict


class Finding(BaseModel):
    """One known failure. ``pattern`` is a regular expression that is looked for in every line."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pattern: str
    cause: str
    fix: str
    source: str


@cache
def catalogue() -> tuple[Finding, ...]:
    """Every known failure, most specific first."""
    text = (Path(__file__).parent / "data" / "failures.yaml").read_text()
    return tuple(Finding.model_validate(entry) for entry in yaml.safe_load(text))


def explain(lines: Iterable[str]) -> list[Finding]:
    """The findings whose pattern is in one of ``lines``, each once, in the catalogue's order; at most three."""
    text = "\n".join(lines)
    return [finding for finding in catalogue() if re.search(finding.pattern, text)][:3]
