"""Whole files, JSON files that others also write, and folders.

pyinfra's ``files.put`` follows a link where the file should be, takes three round trips, and shows the content
with ``--diff`` even when it is secret; a file that another program also owns needs merging, which it has not.
"""

from __future__ import annotations

import io
import json
import shlex
from typing import Any

from pyinfra import host
from pyinfra.api import FileUploadCommand, operation

from ojai.facts.files import Existing, File, Place, SmallFile
from ojai.operations import Steps
from ojai.operations.ledger import ADDED_DIR
from ojai.operations.progress import refuse


def _upload(text: str, path: str, user: str, group: str, mode: str) -> Steps:
    # Written beside its place with its final owner and mode, then renamed: a reader, or a power cut, sees the
    # old file or the new one, and a secret is never readable for a moment.
    new = f"{path}.ojai-new"
    folder = path.rsplit("/", 1)[0]
    yield (
        f"mkdir -p {shlex.quote(folder)} && rm -f {shlex.quote(new)} && "
        f"install -m {mode} -o {user} -g {group} /dev/null {shlex.quote(new)}"
    )
    yield FileUploadCommand(io.BytesIO(text.encode()), new)
    place, new = shlex.quote(path), shlex.quote(new)
    yield (
        f"chown {user}:{group} {new} && chmod {mode} {new} && sync {new} && "
        f"{{ ! test -L {place} || rm {place}; }} && mv -fT {new} {place}"
    )


def _same_rights(file: File, user: str, group: str, mode: str) -> bool:
    return (file.user, file.group, file.mode.lstrip("0")) == (user, group, mode.lstrip("0"))


@operation()
def text_file(path: str, text: str, user: str = "root", group: str = "root", mode: str = "644") -> Steps:
    """Own the file at ``path``: this ``text`` (str), owner, group and ``mode`` (octal digits), whatever was there."""
    found = host.get_fact(SmallFile, path=path)
    if found is None or found.text != text:
        yield from _upload(text, path, user, group, mode)
    elif not _same_rights(found, user, group, mode):
        yield f"chown {user}:{group} {shlex.quote(path)} && chmod {mode} {shlex.quote(path)}"
    else:
        host.noop(f"{path} is as it should be")


@operation()
def secret_file(path: str, values: dict[str, str], header: str) -> Steps:
    """An environment file (``NAME=value`` lines) that only root can read, which the operator may edit too.

    ``values`` are set in it, every other line is kept; an empty ``values`` only sees that the file is there and
    closed. Values never appear in a log, a diff or an argument list: they travel as file content.
    """
    found = host.get_fact(SmallFile, path=path)
    lines = found.text.splitlines() if found else header.splitlines()
    wanted = [line for line in lines if line.split("=", 1)[0].strip() not in values]
    wanted += [f"{name}={value}" for name, value in sorted(values.items())]
    text = "\n".join(wanted) + "\n"
    if found is None or sorted(text.splitlines()) != sorted(found.text.splitlines()):
        yield from _upload(text, path, "root", "root", "600")
    elif not _same_rights(found, "root", "root", "600"):
        yield f"chown root:root {shlex.quote(path)} && chmod 600 {shlex.quote(path)}"
    else:
        host.noop(f"{path} is as it should be")


def _object(path: str, found: File | None) -> tuple[dict[str, Any], str | None]:
    """The JSON object in a file, and what is wrong with it (then the object is empty)."""
    if found is None or not found.text.strip():
        return {}, None
    try:
        value = json.loads(found.text)
    except ValueError as error:
        return {}, (
            f"{path}: found a file that is no JSON ({error}); wanted one that can be merged into. It may hold "
            f"settings of others, so it was left alone. What to do: mend or remove {path}, then run the deploy again."
        )
    if not isinstance(value, dict):
        return {}, f"{path}: found a JSON {type(value).__name__}; wanted an object. What to do: mend or remove it."
    return value, None


def merged(current: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """``wanted`` laid over ``current``: objects merge, lists gain what they lack, anything else is replaced."""
    result = dict(current)
    for key, value in wanted.items():
        have = result.get(key)
        if isinstance(value, dict) and isinstance(have, dict):
            result[key] = merged(have, value)
        elif isinstance(value, list) and isinstance(have, list):
            result[key] = value + [item for item in have if item not in value]
        else:
            result[key] = value
    return result


def parted(current: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """``current`` without what :func:`merged` put in from ``ours``; what others set since stays."""
    result = dict(current)
    for key, value in ours.items():
        have = result.get(key)
        if isinstance(value, dict) and isinstance(have, dict):
            result[key] = parted(have, value)
        elif isinstance(value, list) and isinstance(have, list):
            result[key] = [item for item in have if item not in value]
        elif have == value:
            del result[key]
        if result.get(key) in ({}, []):
            del result[key]
    return result


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

    A value that an earlier run put there and that is no longer wanted is taken out again. A file that is no JSON
    is refused, since mending it would destroy what others wrote.
    """
    found = host.get_fact(SmallFile, path=path)
    current, fault = _object(path, found)
    if fault:
        yield refuse(fault)
        return
    before = _ours(path)
    others = parted(current, before)
    wanted, mine = merged(others, values), parted(values, others)
    if wanted == current and mine == before and found and _same_rights(found, "root", "root", "644"):
        host.noop(f"{path} has what it should")
        return
    yield from _upload(_as_text(mine), _ledger_of(path), "root", "root", "600")
    yield from _upload(_as_text(wanted), path, "root", "root", "644")


@operation()
def json_parted(path: str) -> Steps:
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
        yield from _upload(_as_text(rest), path, "root", "root", "644")
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
def folder(path: str, user: str, group: str, mode: str) -> Steps:
    """A real folder (no link) at ``path`` with this owner and ``mode``; what lies in it is left alone.

    A link or a file in its place is refused: following it would change something that is not ours, and
    replacing it could lose data.
    """
    place, found = shlex.quote(path), host.get_fact(Place, path=path)
    if found is None:
        yield f"install -d -m {mode} -o {user} -g {group} {place}"
    elif found.kind != "directory":
        yield refuse(
            f"{path}: found a {found.kind}; wanted a directory. What to do: move it away, then run the deploy again."
        )
    elif (found.user, found.group, found.mode) != (user, group, mode.lstrip("0")):
        yield f"chown {user}:{group} {place} && chmod {mode} {place}"
    else:
        host.noop(f"{path} is as it should be")
