"""Which models a service reads, which files of them, and how it is told to start from those alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from pydantic import BaseModel, ConfigDict, Field

from ojai import resources
from ojai.engines import Files, ResolvedService, Wanted
from ojai.profiles.features import Speculative


class _Patterns(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    patterns: tuple[str, ...] = Field(min_length=1)
    source: str = Field(min_length=1)


@cache
def _data() -> dict[str, _Patterns]:
    return {name: _Patterns.model_validate(entry) for name, entry in resources.data("vllm-files").items()}


@cache
def files() -> Files:
    """The files of a model that vLLM reads."""
    found = _data()
    return Files(found["allow"].patterns, found["weights"].patterns, found["ignore"].patterns)


def wanted(service: ResolvedService) -> Iterator[Wanted]:
    """Its model and its assistant; not one that is served from a folder."""
    pins = service.pins or {}
    if not service.model.startswith("/"):
        yield Wanted(service.model, pins.get(service.model) or service.revision or _own(service).get("--revision"))
    draft = service.features.speculative
    if isinstance(draft, Speculative) and not draft.model.startswith("/"):
        yield Wanted(draft.model, pins.get(draft.model))


def offline(service: ResolvedService) -> bool:
    """Whether it can start without the hub: all that it reads is fetched, none by a flag of the owner's own."""
    return service.revisions is not None and not _own(service).keys() & set(_data()["elsewhere"].patterns)


def arguments(service: ResolvedService) -> Iterator[str]:
    """The commit, and the name to serve under: offline, vLLM would name a model's metrics by its folder."""
    revision, own = (service.revisions or {}).get(service.model), _own(service)
    if revision is None:
        return
    for flag, value in (("--revision", revision), ("--served-model-name", service.model)):
        if flag not in own:
            yield from (flag, value)


def _own(service: ResolvedService) -> dict[str, str]:
    """The flags among the owner's own arguments, with their values."""
    found: dict[str, str] = {}
    words = service.features.engine_args or ()
    for position, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name.startswith("--"):
            found[name.replace("_", "-")] = value if equals else "".join(words[position + 1 : position + 2])
    return found
