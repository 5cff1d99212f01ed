"""From an inventory to settings: for the host at hand, and for every host before the first connection."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import click
from pyinfra.api import Host
from pyinfra.api.exceptions import InventoryError

from ojai.pyinfra_internals import make_inventory, parse_cli_arg
from ojai.settings import HostSettings, SettingsError, parse


def settings_of(host: Host) -> HostSettings:
    """The settings of a pyinfra host. Raises ``InventoryError`` with all their faults."""
    try:
        return parse(host.name, host.data.dict())
    except SettingsError as error:
        raise InventoryError(f"\n{error}") from None


def refuse_faulty_data() -> None:
    """Called by ``config.py``, before pyinfra connects: refuse the run if any host's data is faulty.

    Reads the inventory just as pyinfra is about to, ``--data`` and ``--group-data`` included. All faults of all
    hosts are in one ``InventoryError``. Does nothing outside of pyinfra's command line, or for a run that deploys
    nothing of ours (``exec``, ``fact``, ``debug-inventory``).
    """
    context = click.get_current_context(silent=True)
    if context is None or not any(str(word).endswith(".py") for word in context.params.get("operations") or ()):
        return
    words = context.params
    for word in words.get("data") or ():
        if not word.partition("=")[0] or "=" not in word:
            raise InventoryError(f"--data {word}: found no key; expected KEY=VALUE, such as kernel_reboot=never.")
    override = {key: parse_cli_arg(value) for key, value in (word.split("=", 1) for word in words.get("data") or ())}
    inventory = make_inventory(
        words["inventory"],
        cwd=str(Path.cwd()),
        override_data=override,
        group_data_directories=words.get("group_data"),
    )
    chosen = [host for host in inventory if within(host.name, host.groups, tuple(words.get("limit") or ()))]
    if not chosen:
        # pyinfra itself would end with an empty plan and status 0.
        limit = f" that matches --limit {' '.join(words['limit'])}" if words.get("limit") else ""
        raise InventoryError(f"{words['inventory']}: found no host{limit}. Is the name right?")
    refuse((host.name, host.data.dict()) for host in inventory)


def refuse(hosts: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """Raise one ``InventoryError`` with every fault in the data of the hosts, each line with host and key."""
    faults: list[str] = []
    for name, data in hosts:
        try:
            parse(name, data)
        except SettingsError as error:
            faults.extend(str(error).splitlines())
    if faults:
        known = "docs/reference/settings.md"
        raise InventoryError(
            "\n".join(["the inventory is faulty; nothing was connected to.", *faults, f"See {known}."])
        )


#: What pyinfra says of its progress, on the way to an error.
_CHATTER = re.compile(r"--> (Loading|Disconnecting)|\s*$")

#: Before an error, where in the code it was raised.
_PREFIX = re.compile(r"--> pyinfra error( in \S+ line \d+)?: ")


def within(name: str, groups: Iterable[str], limit: tuple[str, ...]) -> bool:
    """Whether pyinfra's --limit would take the host: any of them is a group of it, or a pattern for its name.

    pyinfra's `debug-inventory` passes over --limit.
    """
    return not limit or any(pattern in groups or fnmatch(name, pattern) for pattern in limit)


@dataclass(frozen=True)
class Entry:
    """A host of an inventory as pyinfra sees it: ``data`` is all of it, ``settings`` our part."""

    name: str
    groups: tuple[str, ...]
    data: Mapping[str, Any]
    settings: HostSettings


class InventoryUnreadableError(Exception):
    """pyinfra could not read the inventory, or its data is faulty; the message says why."""


def read(inventory: str, limit: tuple[str, ...] = ()) -> list[Entry]:
    """The hosts of an inventory, asked of pyinfra itself in a process of its own (it patches the one it runs in).

    ``limit``: group names or host patterns, as for pyinfra. Raises :class:`InventoryUnreadableError`.
    """
    argv = [sys.executable, "-m", "pyinfra", inventory, "debug-inventory", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    try:
        listing = json.loads(done.stdout)
    except ValueError:
        said = "\n".join(line for line in done.stderr.splitlines() if not _CHATTER.match(line)).strip()
        said = _PREFIX.sub("", said)
        raise InventoryUnreadableError(f"{inventory}: pyinfra cannot read it.\n{said}") from None
    entries, faults = [], []
    for found in listing:
        if not within(found["name"], found["groups"], limit):
            continue
        try:
            settings = parse(found["name"], found["data"])
        except SettingsError as error:
            faults.append(str(error))
            continue
        entries.append(Entry(found["name"], tuple(found["groups"]), found["data"], settings))
    if faults:
        raise InventoryUnreadableError("\n".join(faults))
    if not entries:
        raise InventoryUnreadableError(f"{inventory}: found no host{' that matches --limit' if limit else ''}.")
    return entries
