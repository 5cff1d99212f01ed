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
from collections.abc import Mapping
from functools import reduce
from typing import Any

from pyinfra import host
from pyinfra.api import FileUploadCommand, StringCommand, operation

from ojai.facts.files import (
    Closed,
    ClosedFile,
    EmptyFolder,
    Existing,
    File,
    NewerThan,
    Places,
    SecretFile,
    Secrets,
    SharedPlace,
    SmallFile,
    read_object,
    setting,
)
from ojai.operations import Steps
from ojai.operations.ledger import ADDED_DIR, STATE_DIR, keep, note_lines
from ojai.operations.progress import refuse, say


def beginning(path: str, user: str, group: str, mode: str) -> str:
    """Shell that creates an empty file beside ``path``, with its owner and mode, to be written and renamed.

    A reader, or a power cut, sees the old file or the new one, and nobody else can read it while it is written.
    """
    new = shlex.quote(f"{path}.ojai-new")
    return (
        f"mkdir -p {shlex.quote(path.rsplit('/', 1)[0])} && rm -f {new} && "
        f"install -m {mode} -o {user} -g {group} /dev/null {new}"
    )


def ending(path: str, user: str, group: str, mode: str) -> str:
    """Shell that renames the file that :func:`beginning` created to ``path``."""
    place, new = shlex.quote(path), shlex.quote(f"{path}.ojai-new")
    return (
        f"chown {user}:{group} {new} && chmod {mode} {new} && sync {new} && "
        f"{{ ! test -L {place} || rm {place}; }} && mv -fT {new} {place}"
    )


def _upload(text: str, path: str, user: str, group: str, mode: str, check: str | None = None) -> Steps:
    """Not for secrets: pyinfra uploads to /tmp first, where every account of the host can read it."""
    yield beginning(path, user, group, mode)
    yield FileUploadCommand(io.BytesIO(text.encode(errors="surrogateescape")), f"{path}.ojai-new")
    if check:
        yield f"new={shlex.quote(f'{path}.ojai-new')}; {check}"
    yield ending(path, user, group, mode)


def _same_rights(file: File | Secrets | Closed, user: str, group: str, mode: str) -> bool:
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


#: The sum of no line.
_NOTHING = hashlib.sha256(b"").hexdigest()


@operation()
def secret_text(path: str, text: str | None) -> Steps:
    """Write a file that only root can read, in a folder that only root can enter. Its text travels as standard input.

    + path: the file
    + text: its content, without the newline at its end; None: it must only be there
    """
    found = host.get_fact(ClosedFile, path=path)
    # pyinfra ends standard input with a newline, so the file has one too.
    content = None if text is None else f"{text}\n"
    folder = path.rsplit("/", 1)[0]
    around = host.get_fact(Places, paths=(folder,)).get(folder)
    if around and (around.user, around.mode) != ("root", "700"):
        yield f"chown root:root {shlex.quote(folder)} && chmod 700 {shlex.quote(folder)}"
    if found is None or (content is not None and found.sum != hashlib.sha256(content.encode()).hexdigest()):
        script = (
            f"umask 077; {beginning(path, 'root', 'root', '600')} && cat > {shlex.quote(f'{path}.ojai-new')} && "
            f"{ending(path, 'root', 'root', '600')}"
        )
        yield StringCommand(script, _stdin=content or "")
    elif not _same_rights(found, "root", "root", "600"):
        yield f"chown root:root {shlex.quote(path)} && chmod 600 {shlex.quote(path)}"
    elif around and (around.user, around.mode) == ("root", "700"):
        host.noop(f"{path} is unchanged")


@operation()
def secret_file(path: str, values: Mapping[str, str | None], header: str) -> Steps:
    """Set variables in an environment file that only root can read, in a folder that only root can change.

    The operator may edit the file too: every other line is kept. Values never appear in a log, a diff or an argument
    list: they travel as standard input, and the content of the file is never read back.

    + path: the file, of ``NAME=value`` lines
    + values: variables to set; if empty, the file is only created and its permissions are set. One with an empty value
      is taken out, one with None must only be there
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
    lines = {name: f"{name}={value}\n" if value else "" for name, value in sorted(values.items()) if value is not None}
    sums = {name: hashlib.sha256(line.encode()).hexdigest() for name, line in lines.items()}
    if found is None or any(
        found.sums.get(name) == _NOTHING if value is None else found.sums.get(name) != sums[name]
        for name, value in values.items()
    ):
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
        f"umask 077; {beginning(path, 'root', 'root', '600')} && {{ if test -f {place} && ! test -L {place}; "
        f"then {others}; else printf %s {shlex.quote(header)}; fi{'; cat' if lines else ''}; }} > {new} && "
        f"{ending(path, 'root', 'root', '600')}"
    )
    # pyinfra adds a line end to standard input that is empty.
    return StringCommand(script, _stdin="".join(lines.values())) if lines else StringCommand(script)


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


def parted(
    current: Mapping[str, Any], ours: Mapping[str, Any], theirs: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """``current`` without what :func:`merged` added from ``ours``; what others have set since stays.

    ``theirs``: what was there before. A value of theirs that ours replaced is put back.
    """
    result = dict(current)
    theirs = theirs or {}
    for key, value in ours.items():
        if key not in result:
            continue
        have, old = result[key], theirs.get(key)
        if isinstance(value, dict) and isinstance(have, dict):
            result[key] = parted(have, value, old if isinstance(old, dict) else {})
        elif isinstance(value, list) and isinstance(have, list):
            rest = _without(have, value)
            same = isinstance(old, list) and len(old) == len(rest) and not _without(rest, old)
            result[key] = old if same else rest
        elif _same(have, value):
            del result[key]
        else:
            continue
        if result.get(key) in ({}, []):
            del result[key]
        # An object or list that both had, and that others have emptied since, stays gone.
        shared = isinstance(value, dict | list) and type(old) is type(value) and old
        if key not in result and key in theirs and not shared:
            result[key] = old
    return result


def _unshared(found: File | None) -> str:
    """The mode of a file without write permission for others; 644 for a new file."""
    return f"{int(found.mode, 8) & ~0o022:o}" if found else "644"


def _as_text(value: Any) -> str:
    return json.dumps(value, indent=4) + "\n"


def _ledger_of(path: str) -> str:
    """What we added to a JSON file. With ``.theirs`` after it: the file as it was without that."""
    return f"{ADDED_DIR}/json{path.replace('/', '-')}"


def _only(value: Any, ours: Any) -> Any:
    """The part of ``value`` that ``ours`` has too. Settings of others may be secret: they are not to be shown."""
    if isinstance(value, dict) and isinstance(ours, dict):
        return {key: _only(value[key], ours[key]) for key in ours if key in value}
    if isinstance(value, list) and isinstance(ours, list):
        return [item for item in value if any(_same(item, other) for other in ours)]
    return "(not shown)" if isinstance(value, dict | list) else value


@operation()
def json_merged(path: str, values: dict[str, Any], check: str | None = None, then: str | None = None) -> Steps:
    """Set values in a JSON file that others write too; their settings stay.

    What an earlier run set and is no longer expected is taken back, and the value that it replaced is put back. With
    nothing of ours in it the file is as it was before, to the byte unless others have changed it since.

    A file that is not plain JSON is refused, because replacing it would destroy what others wrote. A link is followed
    only where root alone can write (:class:`SharedPlace`). Where something of ours is in it, root owns the file and
    nobody else may write to it; who may read it does not change. ``--diff`` shows our part of it only.

    + path: the file, a JSON object
    + values: what must be in it; empty to take everything back
    + check: shell that fails, and says why, if ``$new`` is no file that its program can read
    + then: shell that has the program read it
    """
    ledger = _ledger_of(path)
    notes = {name: host.get_fact(SmallFile, path=name) for name in (ledger, f"{ledger}.theirs")}
    before = _noted(notes[ledger])
    if not values and not before:
        host.noop(f"nothing of ours is in {path}")
        return
    place = host.get_fact(SharedPlace, path=path)
    end = place.path or path
    found = host.get_fact(SmallFile, path=end)
    current, fault = read_object(found.text if found else "")
    if place.unsafe:
        yield refuse(
            f"{path}: found {place.unsafe}; expected a file, or a link to one that only root can change. What to do: "
            "put a file in its place, or set the values there yourself and leave them out of the inventory."
        )
        return
    if fault:
        yield refuse(
            f"{path}: found {fault}; expected a JSON object. It may hold settings of others, so it was not changed. "
            f"What to do: fix or remove {path}, then run the deploy again."
        )
        return
    stored = notes[f"{ledger}.theirs"]
    was, _ = read_object(stored.text if stored else "")
    theirs = current
    for added in reversed(before):
        theirs = parted(theirs, added, was)
    mine = parted(values, theirs)
    expected = merged(theirs, mine)
    group, mode = found.group if found else "root", _unshared(found)
    closed = found and (not mine or _same_rights(found, "root", group, mode))
    noted = [*[added for added in before if not _same(added, mine)], *([mine] if mine else [])]
    if closed and _same(expected, current) and _same(before, [mine] if mine else []):
        host.noop(f"{path} has our settings")
        return
    ours = reduce(merged, [*before, values])
    _show_diff(path, _as_text(_only(current, ours)) if found else "", _as_text(_only(expected, ours)))
    kept = _as_it_was(found, before, stored, theirs)
    if kept is not None and (stored is None or stored.text != kept):
        yield from _upload(kept, f"{ledger}.theirs", "root", "root", "600")
    if found is None and mine:
        folder = shlex.quote(end.rpartition("/")[0])
        yield note_lines("folders", f"test -e {folder} || echo {folder}")
    # If the run is interrupted between the two, the ledger must still have what earlier runs added.
    if not _same(noted, before):
        yield from _upload(_as_text(noted[0] if len(noted) == 1 else noted), ledger, "root", "root", "600")
    # Docker, for one, goes on with a list that it no longer finds, so it is told once that the list is empty.
    lists = [key for added in before for key, value in added.items() if isinstance(value, list) and key not in expected]
    if then and found and lists:
        yield from _upload(_as_text({**expected, **{key: [] for key in lists}}), end, "root", group, mode)
        yield then
    text = _as_text(expected) if mine else kept
    if text is not None:
        yield from _upload(text, end, "root", group, mode, check)
    elif found:
        yield f"rm -f {shlex.quote(end)}"
    if then and not lists:
        yield then
    if not mine:
        yield f"rm -f {shlex.quote(ledger)} {shlex.quote(ledger)}.theirs"
    elif not _same(noted, [mine]):
        yield from _upload(_as_text(mine), ledger, "root", "root", "600")


def _noted(file: File | None) -> list[dict[str, Any]]:
    """What we added to a JSON file, by its ledger; after a run that was interrupted, what each run added."""
    added = json.loads(file.text) if file else []
    return added if isinstance(added, list) else [added]


def _as_it_was(
    found: File | None, before: list[dict[str, Any]], stored: File | None, theirs: dict[str, Any]
) -> str | None:
    """The text of the file without anything of ours; None for no file."""
    if found is None:
        return None
    if not before:
        return found.text
    if stored and _same(read_object(stored.text)[0], theirs):
        return stored.text
    return _as_text(theirs) if theirs else None


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
