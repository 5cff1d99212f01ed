"""What each option of a command is for, read from ``ojai/data/option-explanations.yaml``."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ojai import resources
from ojai.engines import ResolvedService


class Reason(BaseModel):
    """Why something is in the command."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    why: str = Field(min_length=1, description="What it is for.")
    source: str = Field(min_length=1, description="Where that is from.")


@cache
def load() -> dict[str, dict[str, Reason]]:
    """Reasons under ``docker``, ``environment`` and the name of an engine, by option, variable or argument."""
    return TypeAdapter(dict[str, dict[str, Reason]]).validate_python(resources.data("option-explanations"))


def parts(service: ResolvedService) -> Iterator[tuple[tuple[str, ...], str]]:
    """The command in parts (``--ulimit memlock=-1``), each with its reason.

    The head ``docker run``, the image and a model without a flag have none.
    """
    known = load()
    command = service.command

    def why(kind: str, name: str) -> str:
        return known[kind][name].why if name in known[kind] else ""

    yield ("docker", "run"), ""
    for part in _cut(command.docker_argv[2 : len(command.docker_argv) - len(command.engine_argv) - 1]):
        variable = part[1].partition("=")[0] if part[0] == "-e" else ""
        yield (
            part,
            why("environment", variable) if variable else why("docker", " ".join(part)) or why("docker", _option(part)),
        )
    yield (service.image,), ""
    for part in _cut(command.engine_argv):
        yield part, why(service.engine.name, _option(part))


def _option(part: tuple[str, ...]) -> str:
    return part[0].partition("=")[0]


def _cut(tokens: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Cut before each token that begins with a dash."""
    part: list[str] = []
    for token in tokens:
        if token.startswith("-") and part:
            yield tuple(part)
            part = []
        part.append(token)
    if part:
        yield tuple(part)
