"""Which vLLM an image has, by its tag, and what is known of that release: contracts and `ojai/data/vllm-releases.yaml`.

>>> of("vllm/vllm-openai-rocm:v0.30.0").contract.vllm
'0.28.0'
>>> of("vllm/vllm-openai-rocm:latest").version is None
True
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ojai import resources
from ojai.engines.vllm import cli
from ojai.memory import Planner

#: `…/vllm-openai-rocm:v0.20.1`, with what a rebuild adds (`-next`, `.post1`) and a digest. A release candidate is none,
#: nor is a date, and the tags of another repository are its own.
_TAG = re.compile(
    r"[^/]*vllm-openai[^/:]*:v?(\d{1,3}\.\d+\.\d+)(\.post\d+)?"
    r"(?!\S*[-_.](?:rc|alpha|beta|pre|dev)(?![a-z]))([-_][\w.-]*)?(@.*)?"
)

_Version = Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
_Pattern = re.Pattern[str]


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class When(_Facts):
    """What a command has to say for a window to concern it; None: whatever it says."""

    speculative: Literal[True] | None = None
    tools: Literal[True] | None = None
    moe: Literal[True] | None = None
    kv_cache_dtype: _Pattern | None = None
    quantization: _Pattern | None = None
    model: _Pattern | None = None
    accelerator: _Pattern | None = None

    def matched(self, name: str, said: Sequence[str]) -> str | None:
        """Which of the words that were ``said`` meets this condition; None where none does, or there is none."""
        pattern = getattr(self, name)
        if pattern is True:
            return said[0] if said else None
        return next((word for word in said if pattern is not None and pattern.fullmatch(word)), None)


class Window(_Facts):
    """Something that holds for some releases: see the data file."""

    code: str = Field(pattern=r"^[a-z0-9-]+$")
    about: str = Field(min_length=1)
    since: _Version | None = None
    before: _Version | None = None
    when: When
    unless: Mapping[str, str] = {}
    effect: Literal["refuse", "say"] = "refuse"
    reason: str = Field(min_length=1)
    instead: str = Field(min_length=1)
    source: str = Field(min_length=1)


class PlannerRule(_Facts):
    """Something in which the planners of some releases differ from the oldest's: fields of `Planner`."""

    since: _Version
    before: _Version | None = None
    rule: Mapping[str, int]
    source: str = Field(min_length=1)


@dataclass(frozen=True)
class Release:
    """The release of an image, and the contract that it is judged by.

    + version: None where the tag names none
    + contract: its own, else that of the nearest older release that has one; the newest where the tag names none
    """

    version: str | None
    contract: cli.Contract

    @property
    def exact(self) -> bool:
        """Whether the contract is its own: what another one refuses is not sure, and only said."""
        return self.version == self.contract.vllm

    @property
    def name(self) -> str:
        """It in a sentence."""
        return f"vLLM {self.version}" if self.version else "an unknown vLLM"


def of(image: str) -> Release:
    """The release of ``image`` (``repository:tag``)."""
    match = _TAG.fullmatch(image.rpartition("/")[2])
    if not match:
        return Release(None, cli.load(cli.RELEASES[-1]))
    version = match[1]
    older = [release for release in cli.RELEASES if numbers(release) <= numbers(version)]
    return Release(version, cli.load(older[-1] if older else cli.RELEASES[0]))


def numbers(version: str) -> tuple[int, ...]:
    """A release as numbers, to compare it."""
    return tuple(map(int, version.split(".")))


def within(version: str, since: str | None, before: str | None) -> bool:
    """Whether a release is in a window."""
    return (since is None or numbers(version) >= numbers(since)) and (
        before is None or numbers(version) < numbers(before)
    )


@cache
def windows() -> tuple[Window, ...]:
    """All of them, in the data file's order."""
    return TypeAdapter(tuple[Window, ...]).validate_python(resources.data("vllm-releases")["windows"])


def windows_of(version: str) -> Iterator[Window]:
    """Those that a release is in."""
    return (window for window in windows() if within(version, window.since, window.before))


@cache
def compared() -> tuple[str, ...]:
    """The releases whose KV cache planner `make contract-kv` holds the budget against."""
    return TypeAdapter(tuple[_Version, ...]).validate_python(resources.data("vllm-releases")["planner"]["compared"])


@cache
def _planner_rules() -> tuple[PlannerRule, ...]:
    return TypeAdapter(tuple[PlannerRule, ...]).validate_python(resources.data("vllm-releases")["planner"]["rules"])


def planner(version: str | None) -> Planner:
    """How a release plans the cache; None: as the newest does, which asks for most."""
    rules = [rule for rule in _planner_rules() if within(version or cli.RELEASES[-1], rule.since, rule.before)]
    return Planner.model_validate({name: value for rule in rules for name, value in rule.rule.items()})
