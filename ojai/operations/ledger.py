"""What the project added to a host, noted on the host *before* it is added, so that removal takes just that away.

One text file a kind under ``/var/lib/ojai/added``, one word a line. Writing before acting means that a run which
is cut short leaves a note too many, never one too few; taking away what is not there changes nothing.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable

STATE_DIR = "/var/lib/ojai"
ADDED_DIR = f"{STATE_DIR}/added"


def note(kind: str, words: Iterable[str]) -> str:
    """Shell that adds ``words`` to the list ``kind``, each once."""
    file = shlex.quote(f"{ADDED_DIR}/{kind}")
    return (
        f"mkdir -p {ADDED_DIR} && touch {file} && for word in {shlex.join(words)}; do "
        f'grep -qxF -- "$word" {file} || printf "%s\\n" "$word" >> {file}; done'
    )


def forget(kind: str, words: Iterable[str]) -> str:
    """Shell that takes ``words`` off the list ``kind`` once they are gone from the host."""
    file = shlex.quote(f"{ADDED_DIR}/{kind}")
    return (
        f"for word in {shlex.join(words)}; do ! test -e {file} || "
        f'{{ grep -vxF -- "$word" {file} > {file}.new || true; mv {file}.new {file}; }}; done'
    )
