"""vLLM's HTTP endpoints: those that are offered to others, and why the rest is not (ojai/data/vllm-endpoints.yaml)."""

from __future__ import annotations

from functools import cache

from ojai import resources
from ojai.paths import Offered


@cache
def offered() -> tuple[Offered, ...]:
    """What a gateway passes on."""
    entries = resources.data("vllm-endpoints")["offered"]
    return tuple(Offered(**{**entry, "methods": tuple(entry["methods"])}) for entry in entries)


@cache
def closed() -> dict[str, str]:
    """Every other endpoint that is known, and why it is not passed on."""
    return {path: entry["why"] for entry in resources.data("vllm-endpoints")["closed"] for path in entry["paths"]}
