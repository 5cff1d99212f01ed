"""An engine's HTTP endpoints: what is offered to others, and why the rest is not (ojai/data/ENGINE-endpoints.yaml)."""

from __future__ import annotations

from functools import cache

from ojai import resources
from ojai.paths import Offered


@cache
def offered(engine: str) -> tuple[Offered, ...]:
    """What a gateway passes on."""
    entries = resources.data(f"{engine}-endpoints")["offered"]
    return tuple(Offered(**{**entry, "methods": tuple(entry["methods"])}) for entry in entries)


@cache
def closed(engine: str) -> dict[str, str]:
    """Every other endpoint that is known, and why it is not passed on."""
    entries = resources.data(f"{engine}-endpoints")["closed"]
    return {path: entry["why"] for entry in entries for path in entry["paths"]}
