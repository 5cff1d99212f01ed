"""What each option of a command is for, read from ``ojai/data/reasons.yaml``."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ojai import resources
from ojai.engines.vllm.command import Command


class Reason(BaseModel):
    """Why something is in the command."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    why: str = Field(min_length=1, description="What it is for.")
    source: str = Field(min_length=1, description="Where that is from.")


@cache
def load() -> dict[str, dict[str, Reason]]:
    """Reasons under ``docker``, ``environment`` and ``engine``, by option, variable or argument."""
    return TypeAdapter(dict[str, dict[str, Reason]]).validate_python(resources.data("reasons"))


def parts(command: Command) -> Iterator[tuple[tuple[str, ...], Reason | None]]:
    """The command cut into what belongs together (``--ulimit memlock=-1``), each with its reason.

    The head ``docker run``, the image and the model have none.
    """
    known = load()
    docker = command.docker_argv[2 : len(command.docker_argv) - len(command.engine_argv) - 1]
    yield ("docker", "run"), None
    for part in _cut(docker):
        variable = part[1].partition("=")[0] if part[0] == "-e" else ""
        yield part, known["environment"].get(variable) if variable else known["docker"].get(_option(part))
    yield (command.image,), None
    yield command.engine_argv[:1], None
    for part in _cut(command.engine_argv[1:]):
        yield part, known["engine"].get(_option(part))


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
