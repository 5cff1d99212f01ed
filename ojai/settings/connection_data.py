"""pyinfra's own data of a host: how it is reached (``ssh_…``) and defaults of global arguments (``_sudo``).

pyinfra passes over a name that it does not know, so that a host with ``ssh_usr`` is reached as somebody else.
Names, types and meanings are read from pyinfra itself.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from ojai.pyinfra_internals import FakeConnector, SSHConnector, all_global_arguments
from ojai.schema.errors import FieldError, shown
from ojai.schema.nearest import nearest

#: What is pyinfra's and not a setting of ours.
OWN = re.compile(r"^(_|ssh_|fake_)")

_TYPES = {str: "text", int: "a whole number", float: "a number", bool: "true or false", dict: "a mapping"}


@dataclass(frozen=True)
class Item:
    """One name that pyinfra reads: its type, its meaning, what it is when left out."""

    kind: Any
    meaning: str
    default: Any


@cache
def ssh() -> Mapping[str, Item]:
    """All data of how a host is reached."""
    return _items(SSHConnector)


@cache
def global_arguments() -> frozenset[str]:
    """Names of pyinfra's global arguments, which host data may give a default: ``_sudo``, ``_retries`` …"""
    return frozenset(name for name, _ in all_global_arguments())


def errors(host: str, data: Mapping[str, Any]) -> Iterable[FieldError]:
    """What is wrong with pyinfra's part of a host's data; the rest of it is passed over.

    Where ``ssh_hostname`` is not given, the name of the ``host`` is its address.

    A name with an underscore that is unlike any global argument may be a helper of a group_data file: it passes.
    """
    for name in (name for name in data if isinstance(name, str) and OWN.match(name)):
        if name.startswith("_"):
            if name not in global_arguments() and (near := nearest(name, global_arguments(), parts=False)):
                yield FieldError((name,), f"pyinfra has no such argument; the nearest is {near}")
            continue
        known = ssh() if name.startswith("ssh_") else _fake()
        if name not in known:
            near = nearest(name, known)
            hint = f"the nearest is {near}" if near else f"known: {', '.join(known)}"
            yield FieldError((name,), f"pyinfra has no such data; {hint}")
        elif (expected := _TYPES.get(known[name].kind)) and not _is(data[name], known[name].kind):
            # A password in digits is still a password.
            seen = "another kind of value" if "password" in name else shown(data[name])
            yield FieldError(
                (name,), f"found {seen}; expected {expected}{'; put it in quotes' if expected == 'text' else ''}"
            )
    address = data.get("ssh_hostname") or (host if not host.startswith("@") else None)
    if isinstance(address, str) and (advice := _instead(address)):
        yield FieldError(
            ("ssh_hostname",), f"found {shown(address)}; expected a host's name or address alone; write {advice}"
        )


#: What people write who know ssh's command line, or a URL: a user before the address, a port behind it.
_ADDRESS = re.compile(
    r"(?P<scheme>ssh://)?(?:(?P<user>[^@/]+)@)?(?:\[(?P<v6>[^]]+)\]|(?P<host>[^@:/\[\]]+))(?::(?P<port>\d+))?/?"
)


def _instead(address: str) -> str | None:
    """How to write an address that has more in it than a name; None for one that has not."""
    if address.strip() != address or not address:
        return f"ssh_hostname: {address.strip()}"
    found = _ADDRESS.fullmatch(address)
    if not found or found["host"] == address:
        return None
    parts = {"ssh_hostname": found["v6"] or found["host"], "ssh_user": found["user"], "ssh_port": found["port"]}
    return " and ".join(f"{key}: {value}" for key, value in parts.items() if value)


@cache
def _fake() -> Mapping[str, Item]:
    return _items(FakeConnector)


def _items(connector: Any) -> Mapping[str, Item]:
    kinds = typing.get_type_hints(connector.data_cls)
    return {
        name: Item(kinds.get(name), str(meta.description), meta.default) for name, meta in connector.data_meta.items()
    }


def _is(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, int | float) if kind is float else isinstance(value, kind)
