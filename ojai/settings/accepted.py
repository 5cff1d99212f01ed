"""What was accepted on hosts of an inventory, to be reviewed beside it: ``NAME.accepted.yaml`` for ``NAME.py``."""

from __future__ import annotations

import os
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ojai import resources
from ojai.settings.lock import LockError

_HEADER = """\
# What differs on a host from what its deploys made, and is meant. Written by `ojai verify --accept WHAT --why TEXT`.
# To be reviewed; without its note, a difference is told again.
"""


class Note(BaseModel):
    """A difference that is meant. ``state``: how it was then; another change of the same thing is not accepted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str
    what: str
    state: str
    why: str = Field(min_length=1)
    by: str
    at: str


class AcceptedError(LockError):
    """A file of notes that cannot be read; the message says what was found, what is expected and what to do."""


def beside(lock: Path | None) -> Path | None:
    """The file of notes, by where the lock of the inventory is."""
    return lock.with_suffix(".accepted.yaml") if lock else None


def read(file: Path | None) -> tuple[Note, ...]:
    """The notes in a file; none without one. Raises :class:`AcceptedError`."""
    if file is None or not os.path.lexists(file):
        return ()
    try:
        found = resources.parse_once(file.read_text(encoding="utf-8")) or []
        return tuple(TypeAdapter(list[Note]).validate_python(found))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        detail = error.errors()[0]["msg"] if isinstance(error, ValidationError) else " ".join(str(error).split())
        raise AcceptedError(
            f"{file}: found what cannot be read as notes ({detail}); expected what `ojai verify --accept` wrote. "
            "What to do: mend the file, or `git checkout` it"
        ) from None


def add(file: Path, notes: list[Note]) -> None:
    """Add notes; one of the same thing on the same host is replaced. Raises :class:`AcceptedError`."""
    kept = {(note.host, note.what): note for note in (*read(file), *notes)}
    listed = [note.model_dump() for _, note in sorted(kept.items())]
    new = file.with_name(f"{file.name}.new")
    new.write_text(_HEADER + yaml.safe_dump(listed, sort_keys=False, width=10_000), encoding="utf-8")
    new.replace(file)
