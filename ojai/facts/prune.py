"""What a host keeps of images and models that ojai fetched: what ``ojai prune`` decides by."""

from __future__ import annotations

import shlex
from pathlib import Path

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass
from pyinfra.api import FactBase

_PROGRAM = Path(__file__).with_name("prune_program.py")


@dataclass(frozen=True)
class PulledImage:
    """An image that ojai pulled. ``RepoTags``, ``RepoDigests``: all its names, the owner's too."""

    name: str
    id: str
    size: int
    RepoTags: tuple[str, ...]
    RepoDigests: tuple[str, ...]


@dataclass(frozen=True)
class SomeContainer:
    """Any container: the id of its image, and the host's folders in it."""

    name: str
    image: str
    mounts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Commit:
    """A commit of a model that ojai fetched.

    + folder: the model's, in the cache
    + blobs: files that no other commit has, and their sizes
    + foreign: what somebody else put among its files
    + open: those of the blobs that a process has open
    + refs, their_refs: branches that name it, ours and those that another program wrote
    """

    folder: str
    commit: str
    blobs: dict[str, int]
    foreign: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    refs: tuple[str, ...] = ()
    their_refs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kept:
    """All of it. ``containers`` is None where Docker did not answer; ``texts``: of units and saved releases."""

    images: tuple[PulledImage, ...] = ()
    containers: tuple[SomeContainer, ...] | None = None
    models: tuple[Commit, ...] = ()
    records: dict[str, str] | None = None
    texts: tuple[str, ...] = ()


_JSON = TypeAdapter(Kept)


class KeptByOjai(FactBase[Kept]):
    """The :class:`Kept` of a host, by the host's own Python."""

    @staticmethod
    def default() -> Kept:
        """Nothing."""
        return Kept()

    def command(self) -> str:
        """The program."""
        return shlex.join(["python3", "-I", "-c", _PROGRAM.read_text(encoding="utf-8")])

    def process(self, output: list[str]) -> Kept:
        """Read the JSON."""
        return _JSON.validate_json("".join(output))
