"""How fast a model can decode: the memory's bytes a second over the bytes a token needs.

Every generated token reads all weights that take part in it once (a dense model's layers, a mixture's active
experts) and the cache of the sequence so far. An APU's memory is slow beside its arithmetic, so this ceiling is
what a single user sees, less the runtime's overhead.
"""

from __future__ import annotations

from functools import cache
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ojai import resources
from ojai.sizes import GB

Verdict = Literal["broken", "sub-optimal", "healthy", "excellent", "suspicious"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Band(_Frozen):
    """One verdict, and the speed it ends at."""

    verdict: Verdict
    below: float | None = Field(description="Tokens a second at the table's own ceiling; None: no end.")
    meaning: str


class Bands(_Frozen):
    """The table of verdicts."""

    source: str
    reference_tok_per_s: float = Field(gt=0, description="The ceiling that the bounds belong to.")
    bands: tuple[Band, ...]

    @model_validator(mode="after")
    def _rising(self) -> Self:
        ends = [band.below for band in self.bands[:-1]]
        rising = all(end is not None for end in ends) and ends == sorted(ends, key=lambda end: end or 0)
        if not rising or not self.bands or self.bands[-1].below is not None:
            raise ValueError("bands must rise, and only the last may be open")
        return self

    def rate(self, tok_per_s: float, ceiling_tok_per_s: float) -> Band:
        """The band that a measured speed falls in, on a machine and profile with that ceiling."""
        scaled = tok_per_s / ceiling_tok_per_s * self.reference_tok_per_s
        return next(band for band in self.bands if band.below is None or scaled < band.below)

    def span(self, verdict: Verdict, ceiling_tok_per_s: float) -> tuple[float, float | None]:
        """From and to which speed a verdict reaches under that ceiling, in tokens a second."""
        ends = [0.0, *(band.below for band in self.bands)]
        position = [band.verdict for band in self.bands].index(verdict)
        scale = ceiling_tok_per_s / self.reference_tok_per_s
        start, end = ends[position], ends[position + 1]
        return (start or 0.0) * scale, None if end is None else end * scale


class Decode(_Frozen):
    """What to expect of one sequence's decode."""

    gb_per_s: float
    weight_bytes_per_token: int
    cache_bytes_per_token: int
    ceiling_tok_per_s: float = Field(description="The memory's bandwidth over the bytes of one token.")
    expected_tok_per_s: tuple[float, float] = Field(description="From the start of the healthy band to the ceiling.")


@cache
def bands() -> Bands:
    """The table of verdicts from `ojai/data/decode-bands.yaml`."""
    return Bands.model_validate(resources.data("decode-bands"))


def decode(
    weight_bytes_per_token: int,
    gb_per_s: float,
    *,
    cache_bytes_per_token: int = 0,
) -> Decode:
    """The ceiling and the band to expect, from the bytes of a token and the memory's GB/s.

    Raises:
        ValueError: bytes or bandwidth are not above zero.
    """
    if weight_bytes_per_token <= 0 or gb_per_s <= 0 or cache_bytes_per_token < 0:
        raise ValueError("bytes of a token and bandwidth must be above zero")
    ceiling = gb_per_s * GB / (weight_bytes_per_token + cache_bytes_per_token)
    start, _ = bands().span("healthy", ceiling)
    return Decode(
        gb_per_s=gb_per_s,
        weight_bytes_per_token=weight_bytes_per_token,
        cache_bytes_per_token=cache_bytes_per_token,
        ceiling_tok_per_s=ceiling,
        expected_tok_per_s=(start, ceiling),
    )
