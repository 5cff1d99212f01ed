"""Known failures: what a line in a journal, or in the output of a failed command, means, and how to fix it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Literal

from pydantic import BaseModel, ConfigDict

from ojai import resources


class Finding(BaseModel):
    """One known failure. ``pattern`` is a regular expression that is searched for in each line."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pattern: str
    cause: str
    fix: str
    source: str


#: ``failures``: of a server that starts, from the guides. ``failures-installing``: of downloads and installations.
Catalogue = Literal["failures", "failures-installing"]


@cache
def catalogue(name: Catalogue = "failures") -> tuple[Finding, ...]:
    """Every known failure, most specific first."""
    return tuple(Finding.model_validate(entry) for entry in resources.data(name))


def explain(lines: Iterable[str], name: Catalogue = "failures") -> list[Finding]:
    """The findings whose pattern matches one of ``lines``, each once, in the order of the catalogue; at most three."""
    text = "\n".join(lines)
    return [finding for finding in catalogue(name) if re.search(finding.pattern, text)][:3]
