"""Whole files, JSON files that others also write, and folders.

pyinfra's ``files.put`` follows a link where the file should be, takes three round trips, and shows the content with
``--diff`` even if it is secret. It cannot merge into a file that another program writes too.
"""

from __future__ import annotations

import difflib
import hashlib
import io
import json
import re
import shlex
from typing import Any

from pyinfra import host
from pyinfra.api import FileUploadCommand, StringCommand, operation

from ojai.facts.files import EmptyFolder, Existing, File, NewerThan, Places, SecretFile, Secrets, SmallFile, setting
from ojai.operations import Steps
from ojai.operations.ledger import ADDED_DIR, STATE_DIR, keep
from ojai.operations.progress import refuse, say


def _beginning(path: str, user: str, group: str, mode: str) -> str:
    """Shell that creates an empty file beside ``path``, with its owner and mode, to be written and renamed.

    A reader, or a power cut, sees the old file or the new one, and nobody else can read it while it is written.
    """
    new = shlex.quote(f"{path}.ojai-new")
    return (
        f"mkdir -p {shlex.quote(path.rsplit('/', 1)[0])} && rm -f {new} && "
        f"install -m {mode} -o {user} -g {group} /dev/null {new}"
    )


def _ending(path: str, user: str, group: str, mode: str) -> str:
    """Shell that renames the file that :func:`_beginning` created to ``path``."""
    place, new = shlex.quote(path), shlex.quote(f"{path}.ojai-new")
    return (
        f"chown {user}:{group} {new} && chmod {mode} {new} && sync {new} && "
        f"{{ ! test -L {place} || rm {place}; }} && mv -fT {new} {place}"
    )


def _upload(text: str, path: str, user: str, group: str, mode: str) -> Steps:
    """Not for secrets: pyinfra uploads to /tmp first, where every account of the host can read it."""
    yield _beginning(path, user, group, mode)
    yield FileUploadCommand(io.BytesIO(text.encode(errors="surrogateescape")), f"{path}.ojai-new")
    yield _ending(path, user, group, mode)


def _same_rights(file: File | Secrets, user: str, group: str, mode: str) -> bool:
    return (file.user, file.group, file.mode.lstrip("0")) == (user, group, mode.lstrip("0"))


def _show_diff(path: str, before: str, after: str) -> None:
    """Print the change of a file with ``--diff``; credentials in URLs are masked. Not for files with secrets."""
    state = host.state
    # Once a run: while looking for changes, or, where that is skipped (-y), while making them.
    if not getattr(state.config, "DIFF", False) or (state.is_executing and state.should_check_for_changes()):
        return
    say(host, f"{path}:")
    for line in difflib.unified_diff(
        before.splitlines(), after.splitlines(), "as it is", "as it should be", lineterm=""
    ):
        say(host, f"  {re.sub(r'//[^/@]*@', '//***@', line)}")


@operation()
def text_file(path: str, text: str, user: str = "root", group: str = "root", mode: str = "644") -> Steps:
    """Write a file that is entirely ours. What was there before is kept, and put back at removal.

    + path: the file
    + text: its content
    + user, group, mode: its owner and its mode (octal digits)
    """
    found = host.get_fact(SmallFile, path=path)
    if found is None or found.text != text:
        _show_diff(path, found.text if found else "", text)
        if not path.startswith(f"{STATE_DIR}/"):
            yield keep(path)
        yield from _upload(text, path, user, group, mode)
    elif not _same_rights(found, user, group, mode):
        yield f"chown {user}:{group} {shlex.quote(path)} && chmod {mode} {shlex.quote(path)}"
    else:
        host.noop(f"{path} is unchanged")


@operation()
def secret_file(path: str, values: dict[str, str], header: str) -> Steps:
    """Set variables in an environment file that only root can read, in a folder that only root can change.

    The operator may edit the file too: every other line is kept. Values never appear in a log, a diff or an argument
    list: they travel as standard input, and the content of the file is never read back.

    + path: the file, of ``NAME=value`` lines
    + values: variables to set; if empty, the file is only created and its permissions are set
    + header: comment at the top of a new file
    """
    found = host.get_fact(SecretFile, path=path, names=tuple(sorted(values)))
    folder = path.rsplit("/", 1)[0]
    around = host.get_fact(Places, paths=(folder,)).get(folder)
    # Whoever can write to the folder can replace the file.
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
        host.noop(f"{path} is unchanged")


def _set_secrets(path: str, lines: dict[str, str], header: str) -> StringCommand:
    """The step that writes them. They travel as its standard input, because pyinfra uploads to /tmp first, where every
    account of the host can read them."""
    place, new = shlex.quote(path), shlex.quote(f"{path}.ojai-new")
    others = f"{{ LC_ALL=C grep -avE {shlex.quote(setting(lines))} {place} || true; }}" if lines else f"cat {place}"
    script = (
        f"umask 077; {_beginning(path, 'root', 'root', '600')} && {{ if test -f {place} && ! test -L {place}; "
        f"then {others}; else printf %s {shlex.quote(header)}; fi{'; cat' if lines else ''}; }} > {new} && "
        f"{_ending(path, 'root', 'root', '600')}"
    )
    # pyinfra adds a line end to standard input that is empty.
    return StringCommand(script, _stdin="".join(lines.values())) if lines else StringCommand(script)


def _object(path: str, found: File | None) -> tuple[dict[str, Any], str | None]:
    """The JSON object in a file, and what is wrong with the file (then the object is empty)."""
    if found is None or not found.text.strip():
        return {}, None
    try:
        value = json.loads(found.text)
    except ValueError as error:
        return {}, (
            f"{path}: found a file that is not JSON ({error}); expected a JSON object. It may hold settings of others, "
            f"so it was not changed. What to do: fix or remove {path}, then run the deploy again."
        )
    if not isinstance(value, dict):
        return {}, f"{path}: found a JSON {type(value).__name__}; expected an object. What to do: fix or remove it."
    return value, None


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON, where true is not 1 (in Python it is)."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _without(items: list[Any], taken: list[Any]) -> list[Any]:
    return [item for item in items if not any(_same(item, other) for other in taken)]


def merged(current: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """``expected`` merged into ``current``: objects merge, lists gain what they lack, anything else is replaced."""
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
    """``current`` without what :func:`merged` added from ``ours``; what others have set since stays."""
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
    """The mode of a file without write permission for others; 644 for a new file."""
    return f"{int(found.mode, 8) & ~0o022:o}" if found else "644"


def _as_text(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=4) + "\n"


def _ledger_of(path: str) -> str:
    return f"{ADDED_DIR}/json{path.replace('/', '-')}"


def _ours(path: str) -> dict[str, Any]:
    """What earlier runs added, according to the ledger."""
    return _object(path, host.get_fact(SmallFile, path=_ledger_of(path)))[0]


def _only(value: Any, ours: Any) -> Any:
    """The part of ``value`` that ``ours`` has too. Settings of others may be secret: they are not to be shown."""
    if isinstance(value, dict) and isinstance(ours, dict):
        return {key: _only(value[key], ours[key]) for key in ours if key in value}
    if isinstance(value, list) and isinstance(ours, list):
        return [item for item in value if any(_same(item, other) for other in ours)]
    return "(not shown)" if isinstance(value, dict | list) else value


@operation()
def json_merged(path: str, values: dict[str, Any]) -> Steps:
    """Set values in a JSON file that others write too; their settings stay.

    A value from an earlier run that is no longer expected is removed. A file that is not JSON is refused, because
    replacing it would destroy what others wrote. Root owns the file and nobody else may write to it; who may read it
    does not change. ``--diff`` shows our part of it only.

    + path: the file, a JSON object
    + values: what must be in it
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
        host.noop(f"{path} has our settings")
        return
    ours = merged(before, values)
    _show_diff(path, _as_text(_only(current, ours)) if found else "", _as_text(_only(expected, ours)))
    # If the run is interrupted between the two, the ledger must still have what earlier runs added.
    yield from _upload(_as_text(merged(before, mine)), _ledger_of(path), "root", "root", "600")
    yield from _upload(_as_text(expected), path, "root", "root", mode)
    if not _same(merged(before, mine), mine):
        yield from _upload(_as_text(mine), _ledger_of(path), "root", "root", "600")


@operation()
def json_unmerged(path: str) -> Steps:
    """Remove what :func:`json_merged` added to a file, and the file if nothing is left in it.

    + path: the file
    """
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
    """Delete files.

    + paths: the files
    + recursive: whether folders are deleted too, with everything in them
    """
    there = host.get_fact(Existing, paths=tuple(paths))
    if there:
        yield f"rm {'-rf' if recursive else '-f'} -- {shlex.join(there)}"
    else:
        host.noop("none of them exists")


@operation()
def empty_folder_absent(path: str) -> Steps:
    """Delete a folder unless something is in it.

    + path: the folder
    """
    if host.get_fact(EmptyFolder, path=path):
        yield f"rmdir {shlex.quote(path)}"
    else:
        host.noop("it does not exist, or is not empty")


@operation()
def folder_there(path: str) -> Steps:
    """Create a folder that belongs to root, unless something of that name exists.

    + path: the folder
    """
    if host.get_fact(Existing, paths=(path,)):
        host.noop("it exists")
    else:
        yield f"install -d -m 755 -o root -g root {shlex.quote(path)}"


@operation()
def derived_file(output: str, inputs: list[str], command: str, sound: str | None = None) -> Steps:
    """Make a file from others whenever it is older than one of them, even after an interrupted run.

    + output: the file
    + inputs: what it is made from
    + command: shell that makes it
    + sound: shell that fails if the file must be made again for another reason
    """
    kwargs = {"sound": sound} if sound else {}
    if host.get_fact(NewerThan, path=output, inputs=tuple(inputs), **kwargs):
        host.noop(f"{output} is newer than its inputs")
    else:
        yield command


@operation()
def folders(paths: list[str], user: str, group: str, mode: str) -> Steps:
    """Create folders and set their owner and mode; their content stays.

    A link or a file in the place of a folder is refused: following it would change something that is not ours, and
    replacing it could lose data.

    + paths: the folders, parents first
    + user, group, mode: their owner and their mode (octal digits)
    """
    found = host.get_fact(Places, paths=tuple(paths))
    wrong = {path: entry for path, entry in found.items() if entry.kind != "directory"}
    if wrong:
        message = "; ".join(f"{path} is a {entry.kind}" for path, entry in wrong.items())
        yield refuse(f"found: {message}; expected: directories. What to do: move them away, then run the deploy again.")
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
        host.noop("all folders have this owner and mode")
