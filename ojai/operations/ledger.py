"""What the project added to a host, noted on the host *before* it is added, so that removal takes just that away.

One text file a kind under ``/var/lib/ojai/added``, one word a line. Writing before acting means that a run which
is cut short leaves a note too many, never one too few; taking away what is not there changes nothing.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from pyinfra import host
from pyinfra.api import operation

from ojai.facts.ledger import Added, Loose
from ojai.operations import Steps

STATE_DIR = "/var/lib/ojai"
ADDED_DIR = f"{STATE_DIR}/added"


def note(kind: str, words: Iterable[str]) -> str:
    """Shell that adds ``words`` to the list ``kind``, each once."""
    return note_lines(kind, f"printf '%s\\n' {shlex.join(words)}")


def forget(kind: str, words: Iterable[str]) -> str:
    """Shell that takes ``words`` off the list ``kind`` once they are gone from the host."""
    file = shlex.quote(f"{ADDED_DIR}/{kind}")
    return (
        f"for word in {shlex.join(words)}; do ! test -e {file} || "
        f'{{ grep -vxF -- "$word" {file} > {file}.new || true; mv {file}.new {file}; }}; done'
    )


def noted(kind: str, word: str) -> str:
    """Shell that succeeds where ``word`` (shell) is on the list ``kind``."""
    return f"grep -qsxF -- {word} {shlex.quote(f'{ADDED_DIR}/{kind}')}"


def note_lines(kind: str, command: str) -> str:
    """Shell that adds what ``command`` prints, a word a line, to the list ``kind``, each once."""
    file = shlex.quote(f"{ADDED_DIR}/{kind}")
    return (
        f"mkdir -p {ADDED_DIR} && touch {file} && {{ {command}; }} | while read -r word; do "
        f'grep -qxF -- "$word" {file} || printf "%s\\n" "$word" >> {file}; done && sync {file}'
    )


def record_residue(state: Iterable[str], folders: Iterable[str], groups: Iterable[str]) -> str:
    """Shell that notes what packages are about to make and would leave behind, as far as it is not there yet.

    ``state``: ``program:path``, of no use to anything else than that program. ``folders``: gone again only if empty.
    """
    absent = 'for each in %s; do test -e "${each#*:}" || echo "$each"; done'
    unknown = f'for each in {shlex.join(groups)}; do getent group "$each" >/dev/null || echo "$each"; done'
    return "; ".join(
        [
            note_lines("state", absent % shlex.join(state)),
            note_lines("folders", absent % shlex.join(folders)),
            note_lines("groups", unknown),
        ]
    )


@operation()
def root_owned() -> Steps:
    """Only root can change the notes: what they name, removal takes away as root."""
    loose = host.get_fact(Loose, directory=STATE_DIR)
    if loose:
        yield f"chown root:root {shlex.join(loose)} && chmod go-w {shlex.join(loose)}"
    else:
        host.noop("nobody else can")


@operation()
def left_behind_removed() -> Steps:
    """What was foreseen is gone: state whose program is no longer installed, and folders with nothing left in them."""
    state = host.get_fact(Added, directory=ADDED_DIR, kind="state")
    for entry in state:
        program, path = entry.split(":", 1)
        yield f"command -v {shlex.quote(program)} >/dev/null || rm -rf {shlex.quote(path)}"
    folders = host.get_fact(Added, directory=ADDED_DIR, kind="folders")
    for path in folders:
        yield f"! test -d {shlex.quote(path)} || rmdir --ignore-fail-on-non-empty {shlex.quote(path)}"
    if state:
        yield forget("state", state)
    if folders:
        yield forget("folders", folders)
    if not state and not folders:
        host.noop("nothing was foreseen")
