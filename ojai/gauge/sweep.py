"""Workloads for an engine's own program of measurement, and what came of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from pydantic import TypeAdapter

from ojai import resources
from ojai.engines import Engine, Workload
from ojai.gauge.result import Sweep


@cache
def _lengths() -> Mapping[str, Mapping[str, int]]:
    document = resources.data("bench-sweeps")["sweeps"]
    return TypeAdapter(dict[str, dict[str, int]]).validate_python(document)


def names() -> tuple[str, ...]:
    """The workloads of `ojai/data/bench-sweeps.yaml`."""
    return tuple(_lengths())


def workload(name: str, prompts: int, seed: int) -> Workload:
    """A workload of so many requests."""
    return Workload(**_lengths()[name], prompts=prompts, seed=seed)


def too_long(load: Workload, context: int | None) -> str:
    """Why a server with this context cannot take its requests; empty where it can."""
    tokens = load.input_tokens + load.output_tokens
    if context is None or tokens <= context:
        return ""
    return f"not run: its requests of {tokens} tokens are longer than the served context of {context}"


def read(name: str, load: Workload, engine: Engine, text: str, errors: str) -> Sweep:
    """What the program printed. Its exit status is 0 when every request failed: what it counted is what counts."""
    figures = dict(engine.read_benchmark(text))
    completed, failed = int(figures.get("completed", 0)), int(figures.get("failed", 0))
    lost = errors.strip()[-300:] if completed < load.prompts else ""
    return Sweep(
        name=name,
        input_tokens=load.input_tokens,
        output_tokens=load.output_tokens,
        prompts=load.prompts,
        completed=completed,
        # What it lost without a word has failed too.
        failed=max(failed, load.prompts - completed),
        figures=figures,
        error=lost if "completed" in figures else f"it printed no result: {lost or 'nothing'}",
    )
