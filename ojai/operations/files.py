"""Whole files, JSON files that others also write, and folders.

pyinfra's ``files.put`` follows a link where the file should be, takes three round trips, and shows the content
with ``--diff`` even when it is secret; a file that another program also owns needs merging, which it has not.
"""

from __future__ import annotations

import difflib
import hashlib
import io
import json
import shlex
from typing import Any

from pyinfra import host
from pyinfra.api import FileUploadCommand, StringCommand, operation

from ojai.facts.files import EmptyFolder, Existing, File, NewerThan, Places, SecretFile, Secrets, SmallFile, setting
from ojai.operations import Steps
from ojai.operations.ledger import ADDED_DIR
from ojai.operations.progress import refuse, say


def _beginning(path: str, user: str, group: str, mode: str) -> str:
    """Shell: beside ``path`` there is an empty file with its owner and mode, to be written and renamed.

    A reader, or a power cut, sees the old file or the new one, and nobody else can read it while it is written.
    """
    new = shlex.quote(f"{path}.ojai-new")
    return (
        f"mkdir -p {shlex.quote(path.rsplit('/', 1)[0])} && rm -f {new} && "
        f"install -m {mode} -o {user} -g {group} /dev/null {new}"
    )


def _ending(path: str, user: str, group: str, mode: str) -> str:
    """Shell: the file that :func:`_beginning` made takes its place."""
    place, new = shlex.quote(path), shlex.quote(f"{path}.ojai-new")
    return (
        f"chown {user}:{group} {new} && chmod {mode} {new} && sync {new} && "
        f"{{ ! test -L {place} || rm {place}; }} && mv -fT {new} {place}"
    )


def _upload(text: str, path: str, user: str, group: str, mode: str) -> Steps:
    """Not for secrets: on its way it lies in /tmp for a moment, where every account of the host can read it."""
    yield _beginning(path, user, group, mode)
    yield FileUploadCommand(io.BytesIO(text.encode(errors="surrogateescape")), f"{path}.ojai-new")
    yield _ending(path, user, group, mode)


def _same_rights(file: File | Secrets, user: str, group: str, mode: str) -> bool:
    return (file.user, file.group, file.mode.lstrip("0")) == (user, group, mode.lstrip("0"))


def _show_diff(path: str, before: str, after: str) -> None:
    """With ``--diff``: what becomes of a file. Never called for one with secrets, or one that others write to."""
    state = host.state
    # Once a run: while looking for changes, or, where that is skipped (-y), while making them.
    if not getattr(state.config, "DIFF", False) or (state.is_executing and state.should_check_for_changes()):
        return
    say(host, f"{path}:")
    for line in difflib.unified_diff(
        before.splitlines(), after.splitlines(), "as it is", "as it should be", lineterm=""
    ):
        say(host, f"  {line}")


@operation()
def text_file(path: str, text: str, user: str = "root", group: str = "root", mode: str = "644") -> Steps:
    """Own the file at ``path``: this ``text`` (str), owner, group and ``mode`` (octal digits), whatever was there."""
    found = host.get_fact(SmallFile, path=path)
    if found is None or found.text != text:
        _show_diff(path, found.text if found else "", text)
        yield from _upload(text, path, user, group, mode)
    elif not _same_rights(found, user, group, mode):
        yield f"chown {user}:{group} {shlex.quote(path)} && chmod {mode} {shlex.quote(path)}"
    else:
        host.noop(f"{path} is as it should be")


@operation()
def secret_file(path: str, values: dict[str, str], header: str) -> Steps:
    """An environment file (``NAME=value`` lines) that only root can read, in a folder that only root can change,
    which the operator may edit too.

    ``values`` are set in it, every other line is kept; an empty ``values`` only sees that the file is there and
    closed. Values never appear in a log, a diff or an argument list: they travel as standard input, and nothing of the
    file comes back.
    """
    found = host.get_fact(SecretFile, path=path, names=tuple(sorted(values)))
    folder = path.rsplit("/", 1)[0]
    around = host.get_fact(Places, paths=(folder,)).get(folder)
    # Who can write to the folder can put another file in the place of this one.
    if around and (around.user != "root" or int(around.mode, 8) & 0o022):
        yield f"chown root:root {shlex.quote(folder)} && chmod go-w {shlex.quote(folder)}"
        opened = True
    else:
        opened = False
    lines = {name: f"{name}={value}\n" for name, value in sorted(values.items())}
    sums = {name: hashlib.sha256(line.encode()).hexdigest() for name, line in lines.items()}
    if found is None or found.sums != sums:
        yield _set_secrets(path, lines, header)
    elif not _same_rights(found, "root", "root", "600"):
        yield f"chown root:root {shlex.quote(path)} && chmod 600 {shlex.quote(path)}"
    elif not opened:
        host.noop(f"{path} is as it should be")


def _set_secrets(path: str, lines: dict[str, str], header: str) -> StringCommand:
    """The step that writes them. They travel as its standard input: pyinfra uploads by way of a file in /tmp, which
    every account of the host can read."""
    place, new = shlex.quote(path), shlex.quote(f"{path}.ojai-new")
    others = f"{{ LC_ALL=C grep -avE {shlex.quote(setting(lines))} {place} || true; }}" if lines else f"cat {place}"
    script = (
        f"umask 077; {_beginning(path, 'root', 'root', '600')} && {{ if test -f {place} && ! test -L {place}; "
        f"then {others}; else printf %s {shlex.quote(header)}; fi{'; cat' if lines else ''}; }} > {new} && "
        f"{_ending(path, 'root', 'root', '600')}"
    )
    # pyinfra ends what it is given for standard input with a line end, also where it has none.
    return StringCommand(script, _stdin="".join(lines.values())) if lines else StringCommand(script)


def _object(path: str, found: File | None) -> tuple[dict[str, Any], str | None]:
    """The JSON object in a file, and what is wrong with it (then the object is empty)."""
    if found is None or not found.text.strip():
        return {}, None
    try:
        value = json.loads(found.text)
    except ValueError as error:
        return {}, (
            f"{path}: found a file that is no JSON ({error}); expected one that can be merged into. It may hold "
            f"settings of others, so it was left alone. What to do: mend or remove {path}, then run the deploy again."
        )
    if not isinstance(value, dict):
        return {}, f"{path}: found a JSON {type(value).__name__}; expected an object. What to do: mend or remove it."
    return value, None


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON, in which true is not 1 (Python's == says that it is)."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _without(items: list[Any], taken: list[Any]) -> list[Any]:
    return [item for item in items if not any(_same(item, other) for other in taken)]


def merged(current: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """``expected`` laid over ``current``: objects merge, lists gain what they lack, anything else is replaced."""
    result = dict(current)
    for key, value in expected.items():
        have = result.get(key)
        if isinstance(value, dict) and isinstance(have, dict):
            result[key] = merged(have, value)
        elif isinstance(value, list) and isinstance(have, list):
            result[key] = value + _without(have, value)
        else:
            result[key] = value
    return result


def parted(current: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """``current`` without what :func:`merged` put in from ``ours``; what others set since stays."""
    result = dict(current)
    for key, value in ours.items():
        if key not in result:
            continue
        have = result[key]
        if isinstance(value, dict) and isinstance(have, dict):
            result[key] = parted(have, value)
        elif isinstance(value, list) and isinstance(have, list):
            result[key] = _without(have, value)
        elif _same(have, value):
            del result[key]
        if result.get(key) in ({}, []):
            del result[key]
    return result


def _unshared(found: File | None) -> str:
    """The mode that a file has, without anybody else's right to write; 644 for a new one."""
    return f"{int(found.mode, 8) & ~0o022:o}" if found else "644"


def _as_text(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=4) + "\n"


def _ledger_of(path: str) -> str:
    return f"{ADDED_DIR}/json{path.replace('/', '-')}"


def _ours(path: str) -> dict[str, Any]:
    """What earlier runs merged in and others had not put there, as the host's own note has it."""
    return _object(path, host.get_fact(SmallFile, path=_ledger_of(path)))[0]


@operation()
def json_merged(path: str, values: dict[str, Any]) -> Steps:
    """Keep ``values`` in the JSON object at ``path`` and let everything that others put there be.

    A value that an earlier run put there and that is no longer expected is taken out again. A file that is no JSON
    is refused, since mending it would destroy what others wrote. Root owns it and nobody else may write to it; who may
    read it stays as it is.
    """
    found = host.get_fact(SmallFile, path=path)
    current, fault = _object(path, found)
    if fault:
        yield refuse(fault)
        return
    before = _ours(path)
    others = parted(current, before)
    expected, mine = merged(others, values), parted(values, others)
    mode = _unshared(found)
    if found and _same(expected, current) and _same_rights(found, "root", "root", mode):
        host.noop(f"{path} has what it should")
        return
    # Cut off between the two, the note must still have what earlier runs put there.
    yield from _upload(_as_text(merged(before, mine)), _ledger_of(path), "root", "root", "600")
    yield from _upload(_as_text(expected), path, "root", "root", mode)
    if not _same(merged(before, mine), mine):
        yield from _upload(_as_text(mine), _ledger_of(path), "root", "root", "600")


@operation()
def json_unmerged(path: str) -> Steps:
    """Take what :func:`json_merged` put into ``path`` out again; an object left empty takes the file with it."""
    found = host.get_fact(SmallFile, path=path)
    before = _ours(path)
    if not before:
        host.noop(f"nothing was added to {path}")
        return
    current, fault = _object(path, found)
    if fault:
        yield refuse(fault)
        return
    rest = parted(current, before)
    if rest:
        yield from _upload(_as_text(rest), path, "root", "root", _unshared(found))
    else:
        yield f"rm -f {shlex.quote(path)}"
    yield f"rm -f {shlex.quote(_ledger_of(path))}"


@operation()
def absent(paths: list[str], recursive: bool = False) -> Steps:
    """None of ``paths`` exists; folders only with ``recursive``."""
    there = host.get_fact(Existing, paths=tuple(paths))
    if there:
        yield f"rm {'-rf' if recursive else '-f'} -- {shlex.join(there)}"
    else:
        host.noop("nothing there")


@operation()
def empty_folder_absent(path: str) -> Steps:
    """The folder is gone, unless something is in it."""
    if host.get_fact(EmptyFolder, path=path):
        yield f"rmdir {shlex.quote(path)}"
    else:
        host.noop("not there, or not empty")


@operation()
def folder_there(path: str) -> Steps:
    """A folder of root's at ``path``, unless there is something by that name, whatever it is."""
    if host.get_fact(Existing, paths=(path,)):
        host.noop("it is there")
    else:
        yield f"install -d -m 755 -o root -g root {shlex.quote(path)}"


@operation()
def derived_file(output: str, inputs: list[str], command: str, sound: str | None = None) -> Steps:
    """``output`` is newer than each of ``inputs``, and ``sound`` (shell) succeeds where it is given; else ``command``
    makes it anew, however often a run was cut off."""
    more = {"sound": sound} if sound else {}
    if host.get_fact(NewerThan, path=output, inputs=tuple(inputs), **more):
        host.noop(f"{output} is newer than what it is made from")
    else:
        yield command


@operation()
def folders(paths: list[str], user: str, group: str, mode: str) -> Steps:
    """Real folders (no links) at ``paths``, in this order, with this owner and ``mode``; what lies in them stays.

    A link or a file in the place of one is refused: following it would change something that is not ours, and
    replacing it could lose data.
    """
    found = host.get_fact(Places, paths=tuple(paths))
    wrong = {path: entry for path, entry in found.items() if entry.kind != "directory"}
    if wrong:
        said = "; ".join(f"{path} is a {entry.kind}" for path, entry in wrong.items())
        yield refuse(f"found: {said}; expected: directories. What to do: move them away, then run the deploy again.")
        return
    missing = [path for path in paths if path not in found]
    if missing:
        yield f"install -d -m {mode} -o {user} -g {group} {shlex.join(missing)}"
    strays = [
        path
        for path, entry in found.items()
        if (entry.user, entry.group, entry.mode) != (user, group, mode.lstrip("0"))
    ]
    if strays:
        yield f"chown {user}:{group} {shlex.join(strays)} && chmod {mode} {shlex.join(strays)}"
    if not missing and not strays:
        host.noop("all folders are as they should be")
