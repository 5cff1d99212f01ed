"""The ledger: what the project added to a host, recorded there *before* it is added, so that removal takes only that.

One text file per kind under ``/var/lib/ojai/added``, one entry per line. Because the record comes first, an interrupted
run leaves a record too many, never one too few; removing what is not there changes nothing.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from itertools import chain

from pyinfra import host
from pyinfra.api import operation

from ojai.facts.ledger import Added, Kept, Loose
from ojai.operations import Steps, steps_or_noop

STATE_DIR = "/var/lib/ojai"
ADDED_DIR = f"{STATE_DIR}/added"

#: What was at a path before we wrote there, or moved it out of the way: each under its whole path.
KEPT_DIR = f"{STATE_DIR}/kept"


def added(kind: str) -> tuple[str, ...]:
    """The entries of the list ``kind`` on the host."""
    return host.get_fact(Added, directory=ADDED_DIR, kind=kind)


def note(kind: str, entries: Iterable[str]) -> str:
    """Shell that adds ``entries`` to the list ``kind``, each once."""
    return note_lines(kind, f"printf '%s\\n' {shlex.join(entries)}")


def forget(kind: str, entries: Iterable[str]) -> str:
    """Shell that removes ``entries`` from the list ``kind``, once they are gone from the host."""
    file = shlex.quote(f"{ADDED_DIR}/{kind}")
    return (
        f"for word in {shlex.join(entries)}; do ! test -e {file} || "
        f'{{ grep -vxF -- "$word" {file} > {file}.new || true; mv {file}.new {file}; }}; done'
    )


def noted(kind: str, entry: str) -> str:
    """Shell that succeeds if ``entry`` (a shell word) is on the list ``kind``."""
    return f"grep -qsxF -- {entry} {shlex.quote(f'{ADDED_DIR}/{kind}')}"


def note_lines(kind: str, command: str) -> str:
    """Shell that adds each line that ``command`` prints to the list ``kind``, each once."""
    file = shlex.quote(f"{ADDED_DIR}/{kind}")
    return (
        f"mkdir -p {ADDED_DIR} && touch {file} && {{ {command}; }} | while read -r word; do "
        f'grep -qxF -- "$word" {file} || printf "%s\\n" "$word" >> {file}; done && sync {file}'
    )


def undo(kind: str, command: Callable[[str], str]) -> Steps:
    """Undo what is recorded under ``kind``, then forget it. ``command`` gives the shell for one entry."""
    entries = added(kind)
    yield from map(command, entries)
    if entries:
        yield forget(kind, entries)


def _there(place: str) -> str:
    return f"{{ test -e {place} || test -L {place}; }}"


def _copy_aside(path: str) -> str:
    """Shell that copies what is at ``path`` under :data:`KEPT_DIR`, on disk when it returns; nothing kept is lost."""
    place, kept, parent = (shlex.quote(text) for text in (path, KEPT_DIR + path, (KEPT_DIR + path).rpartition("/")[0]))
    return (
        f"{{ ! {_there(place)} || cmp -s {place} {kept} || {{ (umask 077; mkdir -p {parent}) && rm -rf {kept}.new && "
        f"cp -a {place} {kept}.new && sync && mv -T --backup=numbered {kept}.new {kept} && sync; }}; }}"
    )


def keep(path: str) -> str:
    """Shell that keeps what is at ``path``, a file or a link, before the first time that we write there.

    A file of ours is not kept: ``path`` is recorded from then on, and a file from before that names ojai in its first
    line. :func:`kept_returned` puts back what is kept.
    """
    place = shlex.quote(path)
    ours = f"{{ ! test -L {place} && head -n 1 {place} 2>/dev/null | grep -q '^# Made by ojai'; }}"
    return f"{noted('files', place)} || {{ {{ {ours} || {_copy_aside(path)}; }} && {note('files', [path])}; }}"


def set_aside(path: str) -> str:
    """Shell that takes a file or link of the owner's out of the way until removal. See :func:`kept_returned`."""
    return f"{_copy_aside(path)} && rm -f {shlex.quote(path)}"


def record_residue(state: Iterable[str], groups: Iterable[str], users: Iterable[str] = ()) -> str:
    """Shell that records what packages will create and leave behind, unless it exists already.

    + state: ``program:path``, data of no use to anything but that program; with a slash at its end, a folder that
      others use too
    + groups, users: names
    """
    absent = 'for each in %s; do test -e "${each#*:}" || echo "$each"; done'
    steps = [note_lines("state", absent % shlex.join(state))]
    for kind, database, names in (("groups", "group", groups), ("users", "passwd", users)):
        if names or kind == "groups":
            unknown = f'for each in {shlex.join(names)}; do getent {database} "$each" >/dev/null || echo "$each"; done'
            steps.append(note_lines(kind, unknown))
    return "; ".join(steps)


@operation()
def root_owned() -> Steps:
    """Let only root change the ledger: removal deletes, as root, what it names."""
    loose = host.get_fact(Loose, directory=STATE_DIR)
    if loose:
        yield f"chown root:root {shlex.join(loose)} && chmod go-w {shlex.join(loose)}"
    else:
        host.noop("only root can change it")


def _delete_state(entry: str) -> str:
    """Shell that deletes data of a program that is gone; not where somebody has containers or volumes in it.

    A folder whose name ends with a slash is others' too: it is deleted if nothing is left in it.
    """
    program, path = map(shlex.quote, entry.split(":", 1))
    delete = _delete_folder(entry.split(":", 1)[1]) if entry.endswith("/") else f"rm -rf {path}"
    kept = f"find {path}/containers {path}/volumes -mindepth 1 -maxdepth 1 -type d 2>/dev/null | grep -q ."
    return f"(PATH=$PATH:/usr/local/sbin:/usr/sbin; command -v {program} >/dev/null) || {kept} || {delete}"


def _delete_folder(path: str) -> str:
    return f"! test -d {shlex.quote(path)} || rmdir --ignore-fail-on-non-empty {shlex.quote(path)}"


@operation()
def left_behind_removed() -> Steps:
    """Remove recorded residue: data whose program is no longer installed, and folders that are empty."""
    folders = added("folders")
    steps = chain(
        undo("state", _delete_state),
        map(_delete_folder, reversed(folders)),  # a folder in one of these was recorded after it
        [forget("folders", folders)] if folders else (),
    )
    yield from steps_or_noop(steps, "no residue was recorded")


def _put_back(path: str) -> str:
    """Shell that puts back what :func:`keep` kept. A reader, or a power cut, sees what was there before or this."""
    place, kept, folder = map(shlex.quote, (path, KEPT_DIR + path, path.rpartition("/")[0]))
    return (
        f"mkdir -p {folder} && rm -rf {place}.ojai-new && cp -a {kept} {place}.ojai-new && sync && "
        f"mv -fT {place}.ojai-new {place} && sync {folder} && rm -f {kept}"
    )


@operation()
def kept_returned(under: str = "/") -> Steps:
    """Put back the owner's files and links that were kept, after ours are gone.

    + under: only those in this folder
    """
    kept = [path for path in host.get_fact(Kept, directory=KEPT_DIR) if path.startswith(under)]
    yield from steps_or_noop(map(_put_back, kept), "nothing was set aside")
