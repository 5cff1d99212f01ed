"""From an inventory to settings: for the host at hand, and for every host before the first connection."""

from __future__ import annotations

import json
import subprocess
import sys
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import click
from pyinfra.api import Host
from pyinfra.api.exceptions import InventoryError

from ojai.pyinfra_internals import given_inventory, inventory_groups, make_inventory, parse_cli_arg
from ojai.schema.errors import shown
from ojai.settings import HostSettings, SettingsError, accepted, lock, parse


def settings_of(host: Host) -> HostSettings:
    """The settings of a pyinfra host. Raises ``InventoryError`` with all their errors."""
    try:
        return locked(host.name, _parse_once(host.name, host.data.dict()), lock.place(given_inventory()))
    except SettingsError as error:
        raise InventoryError(f"\n{error}") from None
    except lock.LockError as error:
        raise InventoryError(f"\n{host.name}: {error}") from None


def locked(name: str, settings: HostSettings, file: Path | None) -> HostSettings:
    """The settings of a host with what its inventory's lock says, and what was accepted on it: files beside each other.

    No lock counts on a host from which all is removed. Raises ``LockError``.
    """
    if notes := tuple(note for note in accepted.read(accepted.beside(file)) if note.host == name):
        settings = settings.accepting(notes)
    found = lock.read(file)
    if found is None or settings.removed:
        return settings
    try:
        return settings.locked(found)
    except lock.LockError as error:
        raise lock.LockError(f"{file}: {error}") from None


#: Data and settings by host: parsed before the first connection, and needed again when the host's turn comes.
_parsed: dict[str, tuple[Mapping[str, Any], HostSettings]] = {}


def _parse_once(name: str, data: Mapping[str, Any]) -> HostSettings:
    known = _parsed.get(name)
    if known is None or known[0] != data:
        known = _parsed[name] = data, parse(name, data)
    return known[1]


def refuse_faulty_data() -> None:
    """Called by ``config.py``, before pyinfra connects: refuse the run if any host's data has errors.

    Reads the inventory just as pyinfra is about to, ``--data`` and ``--group-data`` included. All errors of all
    hosts are in one ``InventoryError``. Does nothing outside of pyinfra's command line, or for a run that deploys
    nothing of ours (``exec``, ``fact``, ``debug-inventory``).
    """
    context = click.get_current_context(silent=True)
    if context is None or not any(str(file).endswith(".py") for file in context.params.get("operations") or ()):
        return
    params = context.params
    for pair in params.get("data") or ():
        if not pair.partition("=")[0] or "=" not in pair:
            raise InventoryError(f"--data {pair}: found no key; expected KEY=VALUE, such as kernel_reboot=never.")
    override = {key: parse_cli_arg(value) for key, value in (pair.split("=", 1) for pair in params.get("data") or ())}
    inventory = load(
        params["inventory"],
        cwd=str(Path.cwd()),
        override_data=override,
        group_data_directories=params.get("group_data"),
    )
    chosen = [host for host in inventory if within(host.name, host.groups, tuple(params.get("limit") or ()))]
    if not chosen:
        # pyinfra itself would end with an empty plan and status 0.
        limit = f" that matches --limit {' '.join(params['limit'])}" if params.get("limit") else ""
        raise InventoryError(f"{params['inventory']}: found no host{limit}. Is the name right?")
    refuse(((host.name, host.data.dict()) for host in inventory), lock.place(params["inventory"]))


def refuse(hosts: Iterable[tuple[str, Mapping[str, Any]]], file: Path | None = None) -> None:
    """Raise one ``InventoryError`` with every error in the data of the hosts, each line with host and key.

    ``file``: the lock of the inventory, which must fit them.
    """
    errors: list[str] = []
    for name, data in hosts:
        try:
            locked(name, _parse_once(name, data), file)
        except SettingsError as error:
            errors.extend(str(error).splitlines())
        except lock.LockError as error:
            errors.append(str(error))
    errors = list(dict.fromkeys(errors))
    if errors:
        known = "`ojai settings` lists what may be said."
        raise InventoryError("\n".join(["the inventory has errors; no host was connected to.", *errors, known]))


def load(inventory: str, **options: Any) -> Iterable[Host]:
    """An inventory as pyinfra reads it. Raises ``InventoryError``, a sentence, for one that cannot be read."""
    from ojai.connection import thrift  # with gevent, and so only where pyinfra is run

    thrift.install()
    path = Path(inventory)
    if path.suffix in (".yaml", ".yml"):
        raise InventoryError(f"{inventory} is read by an inventory: name that, {path.with_suffix('.py')}.")
    try:
        hosts: Iterable[Host] = make_inventory(inventory, **options)
    except InventoryError:
        raise
    except (Exception, SystemExit) as error:  # an inventory is a program
        raise InventoryError(_why(inventory, getattr(error, "exception", error))) from None
    return hosts


def _why(inventory: str, error: BaseException) -> str:
    """What is wrong with an inventory that raised ``error``: file, line and the error itself."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {error.msg}"
    kind = type(error).__name__
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_file()]
    own = [frame for frame in frames if Path(frame.filename).resolve() == Path(inventory).resolve()]
    if own:
        return f"{inventory}:{own[-1].lineno}: {kind}: {error}"
    for group, found in inventory_groups(inventory).items() if Path(inventory).is_file() else ():
        for entry in found[0] if isinstance(found, tuple) else found:
            if isinstance(entry, tuple) and not (len(entry) == 2 and isinstance(entry[1], Mapping)):
                seen = shown(entry[1] if len(entry) == 2 else entry)
                return f"{inventory}: {group}: {entry[0]}: found {seen}; expected a mapping such as {{'ssh_port': 22}}"
    return f"{inventory}: {kind}: {error}"


def within(name: str, groups: Iterable[str], limit: tuple[str, ...]) -> bool:
    """Whether pyinfra's --limit would take the host: any of them is a group of it, or a pattern for its name.

    pyinfra's `debug-inventory` passes over --limit.
    """
    return not limit or any(pattern in groups or fnmatch(name, pattern) for pattern in limit)


@dataclass(frozen=True)
class Entry:
    """A host of an inventory as pyinfra sees it: ``data`` is all of it, ``settings`` our part, with the ``lock``'s."""

    name: str
    groups: tuple[str, ...]
    data: Mapping[str, Any]
    settings: HostSettings
    lock: Path | None = None


class InventoryUnreadableError(Exception):
    """pyinfra could not read the inventory, or its data has errors; the message has them."""


def read(inventory: str, limit: tuple[str, ...] = ()) -> list[Entry]:
    """The hosts of an inventory, asked of pyinfra itself in a process of its own (it patches the one it runs in).

    ``limit``: group names or host patterns, as for pyinfra. Raises :class:`InventoryUnreadableError`.
    """
    argv = [sys.executable, "-P", "-m", "ojai.settings.listing", inventory]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    try:
        listing = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        raise InventoryUnreadableError(f"{inventory}: it ended the program that reads it: {last}") from None
    if isinstance(listing, dict):
        raise InventoryUnreadableError(listing["error"])
    file = lock.place(inventory)
    entries, errors = [], []
    for found in listing:
        if not within(found["name"], found["groups"], limit):
            continue
        try:
            settings = locked(found["name"], parse(found["name"], found["data"]), file)
        except (SettingsError, lock.LockError) as error:
            errors.append(str(error))
            continue
        entries.append(Entry(found["name"], tuple(found["groups"]), found["data"], settings, file))
    if errors:
        raise InventoryUnreadableError("\n".join(dict.fromkeys(errors)))
    if not entries:
        raise InventoryUnreadableError(f"{inventory}: found no host{' that matches --limit' if limit else ''}.")
    return entries
