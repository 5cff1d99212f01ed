"""A fleet in one YAML file: defaults, groups and hosts; every error in it is reported with its line.

The file's shape, and how a host's data is merged from it (as pyinfra merges: key by key, never into a value):

    x-NAME:   ANYTHING                                  passed over: a place for YAML anchors
    defaults: {KEY: VALUE}                              for every host
    groups:   {NAME: {groups: [NAME], KEY: VALUE}}      over the defaults and the groups that it is in itself
    hosts:    {NAME: {groups: [NAME], KEY: VALUE}}      over its groups, of which the last one named wins

A host's NAME may be a range, ``mini-[01:50]``; a host that is also listed by itself has its own entry over the range's.
A KEY is a setting (docs/reference/settings.md) or data of pyinfra's (``ssh_hostname``, ``_sudo_password``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pyinfra.api.exceptions import InventoryError

from ojai.schema.errors import FieldError, shown
from ojai.schema.errors import Path as Place
from ojai.schema.nearest import nearest
from ojai.settings.host import TOGETHER, SettingsError, parse

SECTIONS = ("defaults", "groups", "hosts")

#: Groups that pyinfra makes by itself.
RESERVED = ("all", "fleet")

GROUP = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
HOST = re.compile(r"[^\s,]+")
RANGE = re.compile(r"([^\[\]]*)\[(\d+):(\d+)\]([^\[\]]*)")

#: Top-level keys that are passed over.
EXTENSION = "x-"

_MOST_HOSTS = 10_000

_MERGE = "tag:yaml.org,2002:merge"
_NAMED_HOSTS = 8


class FleetError(InventoryError):
    """What is wrong with a fleet file: pyinfra prints it and exits with status 1. ``errors`` has the lines."""

    def __init__(self, file: str, errors: list[str]) -> None:
        self.errors = tuple(errors)
        many = f"{len(errors)} errors" if len(errors) > 1 else "1 error"
        super().__init__("\n".join([f"{file} has {many}; no host was connected to.", *errors]))


@dataclass(frozen=True)
class Fleet:
    """``hosts``: name and merged data, in the file's order. ``groups``: the names of each group's hosts."""

    hosts: list[tuple[str, dict[str, Any]]]
    groups: dict[str, list[str]]


def load(path: str | os.PathLike[str]) -> Fleet:
    """Read a fleet file.

    Raises :class:`FleetError` with all its errors: file, line, host or group, key, value, what is expected.
    """
    file = _relative(Path(path))
    document = _read(Path(path), file)
    found = _Findings(document.lines, {(line, "", text): [] for line, text in document.twice})
    sections = _sections(document.data, found)
    groups, hosts = sections["groups"], sections["hosts"]
    entries_of = _expanded(hosts, found)
    _check_names(groups, hosts, entries_of, found)
    for place, data in _parts(sections):
        _check(place, data, found)
    groups_of = {("groups", name): _membership(("groups", name), data, groups, found) for name, data in groups.items()}
    groups_of |= {("hosts", name): _membership(("hosts", name), data, groups, found) for name, data in hosts.items()}
    _check_circles(groups_of, found)
    fleet = Fleet([], {name: [] for name in groups})
    for name, entries in entries_of.items():
        naming = [entry for entry in entries if "groups" in hosts[entry]] or entries
        member = _with_parents(groups_of["hosts", naming[-1]], groups_of)
        layers = [("defaults",), *(("groups", group) for group in member), *(("hosts", entry) for entry in entries)]
        merged: dict[str, Any] = {}
        origin: dict[str, Place] = {}
        for place in layers:
            for key, value in _at(sections, place).items():
                if key != "groups":
                    merged[key] = value
                    origin[key] = place
        _check_host(name, merged, origin, ("hosts", entries[-1]), found)
        fleet.hosts.append((name, merged))
        for group in member:
            fleet.groups[group].append(name)
    if found.errors:
        raise FleetError(file, found.lines_for(file))
    return fleet


@dataclass
class _Findings:
    """Errors by line, place and text, each with the hosts that it affects."""

    lines: Mapping[Place, int]
    errors: dict[tuple[int, str, str], list[str]] = field(default_factory=dict)

    def add(self, place: Place, text: str, *, label: str | None = None, host: str | None = None) -> None:
        line = next((self.lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in self.lines), 1)
        hosts = self.errors.setdefault((line, _label(place) if label is None else label, text), [])
        if host is not None and host not in hosts:
            hosts.append(host)

    def lines_for(self, file: str) -> list[str]:
        lines = []
        for (line, label, text), hosts in sorted(self.errors.items(), key=lambda entry: entry[0]):
            named = ", ".join(hosts[:_NAMED_HOSTS])
            more = f" and {len(hosts) - _NAMED_HOSTS} more" if len(hosts) > _NAMED_HOSTS else ""
            noun = "hosts" if len(hosts) > 1 else "host"
            whose = "" if not hosts or label == f"host {hosts[0]}" else f" ({noun} {named}{more})"
            lines.append(f"{file}:{line}: {label}: {text}{whose}" if label else f"{file}:{line}: {text}{whose}")
        return lines


@dataclass(frozen=True)
class _Document:
    """A YAML file's data, and the line of every key and entry in it (a name as text, a position as a number).

    ``twice``: line and text for each key that is in one mapping twice.
    """

    data: Any
    lines: Mapping[Place, int]
    twice: tuple[tuple[int, str], ...] = ()


class _Loader(yaml.SafeLoader):
    """The safe loader, with the place of a value that Python cannot hold (a 13th month, 5,000 digits)."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except ValueError as error:
            problem = f"found a value that cannot be read ({str(error).partition(':')[0]}); put text in quotes"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None


def _relative(path: Path) -> str:
    """The path as a person would type it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _read(path: Path, file: str) -> _Document:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise FleetError(file, [f"{file}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise FleetError(file, [f"{file}:{line}: found a byte that is not UTF-8; save the file as UTF-8"]) from None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return _Document({}, {})
        twice = tuple(_duplicates(node))
        data = loader.construct_document(node)
        return _Document(data, dict(_lines(loader, node, ())), twice)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        place = f"{file}:{mark.line + 1}" if mark else file
        raise FleetError(file, [f"{place}: not YAML: {problem}"]) from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise FleetError(file, [f"{file}:{line}: not YAML: found a character that YAML does not allow"]) from None
    except RecursionError:
        raise FleetError(file, [f"{file}: is nested too deeply"]) from None


def _duplicates(node: yaml.Node) -> Iterator[tuple[int, str]]:
    """Keys that are in one mapping twice: YAML forbids it, PyYAML takes the last."""
    waiting, seen = [node], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            first: dict[tuple[str, str], int] = {}
            for key, value in node.value:
                waiting.append(value)
                if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                    continue
                line = key.start_mark.line + 1
                before = first.setdefault((key.tag, key.value), line)
                if before != line:
                    yield line, f"{key.value}: found here and on line {before}; expected it once"


def _lines(loader: _Loader, node: yaml.Node, place: Place, above: tuple[int, ...] = ()) -> Iterator[tuple[Place, int]]:
    if id(node) in above:
        return
    above = (*above, id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*place, index), value.start_mark.line + 1
            yield from _lines(loader, value, (*place, index), above)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = str(loader.construct_object(key, deep=True))
            yield (*place, name), key.start_mark.line + 1
            yield from _lines(loader, value, (*place, name), above)


def _sections(data: Any, found: _Findings) -> dict[str, Any]:
    """The three sections as mappings of text; what is not one is left out and reported."""
    sections: dict[str, Any] = {name: {} for name in SECTIONS}
    if not isinstance(data, Mapping):
        found.add((), f"found {shown(data)}; expected a mapping with {', '.join(SECTIONS)}", label="")
        return sections
    for key, value in data.items():
        if str(key).startswith(EXTENSION):
            continue
        if key not in SECTIONS:
            near = nearest(str(key), SECTIONS)
            hint = f"the nearest is {near}" if near else f"expected {', '.join(SECTIONS)}"
            found.add((str(key),), f"{key}: no such section; {hint}", label="")
        elif isinstance(value, Mapping):
            sections[key] = _named(key, value, found)
        elif value is not None:
            found.add((key,), f"{key}: found {shown(value)}; expected a mapping", label="")
    if not sections["hosts"] and not found.errors:
        found.add(("hosts",), "hosts: found none; expected one at least", label="")
    for section in ("groups", "hosts"):
        for name, value in sections[section].items():
            if value is not None and not isinstance(value, Mapping):
                found.add((section, name), f"found {shown(value)}; expected a mapping of settings")
        sections[section] = {
            name: value if isinstance(value, Mapping) else {} for name, value in sections[section].items()
        }
    return sections


def _named(section: str, value: Mapping[Any, Any], found: _Findings) -> dict[str, Any]:
    if section != "defaults":
        for name in (name for name in value if not isinstance(name, str)):
            found.add((section, str(name)), f"found {shown(name)} as a name; expected text: put it in quotes")
    return {str(name): entry for name, entry in value.items()}


def _check_names(
    groups: Mapping[str, Any], entries: Mapping[str, Any], hosts: Mapping[str, Any], found: _Findings
) -> None:
    for name in groups:
        if name in RESERVED:
            found.add(("groups", name), "pyinfra has a group of that name with every host in it; expected another name")
        elif name in hosts:
            found.add(("groups", name), "a host has that name too; expected another, since --limit takes either")
        elif not GROUP.fullmatch(name):
            found.add(("groups", name), f"found the name {name!r}; expected letters, digits, - and _, a letter first")
    for name in entries:
        if not HOST.fullmatch(name):
            found.add(("hosts", name), f"found the name {name!r}; expected one without spaces and commas")


def _parts(sections: Mapping[str, Any]) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    yield ("defaults",), sections["defaults"]
    for name, data in sections["groups"].items():
        yield ("groups", name), data


def _check(place: Place, data: Mapping[str, Any], found: _Findings) -> None:
    """A part by itself, so that what no host uses, or what a host overrides, is right too."""
    if place == ("defaults",) and "groups" in data:
        found.add((*place, "groups"), "groups: found here; expected in an entry of groups or hosts")
    try:
        parse(_label(place), {key: value for key, value in data.items() if key != "groups"})
    except SettingsError as error:
        for one in error.errors:
            if not one.contradiction:  # another part may resolve it
                found.add((*place, *one.path), str(one))


def _membership(place: Place, data: Mapping[str, Any], groups: Mapping[str, Any], found: _Findings) -> list[str]:
    """The groups that a host or a group is in, as its entry has them."""
    value = data.get("groups")
    if value is None:
        return []
    place = (*place, "groups")
    known = ", ".join(groups) or "none is declared"
    if not isinstance(value, list):
        hint = f"; write [{value}]" if isinstance(value, str) else ""
        found.add(place, f"groups: found {shown(value)}; expected a list of group names{hint}")
        return []
    member: list[str] = []
    for index, group in enumerate(value):
        at = f"groups[{index}]: "
        if not isinstance(group, str) or group not in groups:
            near = nearest(str(group), groups)
            hint = f"the nearest is {near}" if near else f"known: {known}"
            found.add((*place, index), f"{at}there is no group {shown(group)}; {hint}")
        elif group in member:
            found.add((*place, index), f"{at}found {group} twice; expected it once")
        else:
            member.append(group)
    return member


def _check_circles(groups_of: dict[tuple[str, str], list[str]], found: _Findings) -> None:
    for place in [place for place in groups_of if place[0] == "groups"]:
        name = place[1]
        for index, parent in enumerate(groups_of[place]):
            if name in _with_parents([parent], groups_of):
                text = f"groups[{index}]: found {parent}, which is {name} or in it; expected another group"
                found.add((*place, "groups", index), text)


def _with_parents(names: list[str], groups_of: Mapping[tuple[str, str], list[str]]) -> list[str]:
    """The groups, each after those that it is in itself."""
    ordered: list[str] = []

    def visit(name: str, above: tuple[str, ...] = ()) -> None:
        for parent in groups_of["groups", name]:
            if parent not in (*above, name):
                visit(parent, (*above, name))
        if name not in ordered:
            ordered.append(name)

    for name in names:
        visit(name)
    return ordered


def _expanded(hosts: Mapping[str, Any], found: _Findings) -> dict[str, list[str]]:
    """Each host's name with its entries of the file, ranges before its own."""
    entries: dict[str, list[str]] = {}
    for name in hosts:
        span = RANGE.fullmatch(name)
        if span is None:
            if "[" in name or "]" in name:
                found.add(("hosts", name), f"found the name {name!r}; expected a range such as mini-[01:50]")
            entries.setdefault(name, []).append(name)
            continue
        before, first, last, after = span.groups()
        if not 0 <= int(last) - int(first) < _MOST_HOSTS:
            text = f"found the range {first}:{last}; expected it to rise, to {_MOST_HOSTS} hosts at most"
            found.add(("hosts", name), text)
            continue
        for number in range(int(first), int(last) + 1):
            host = f"{before}{number:0{len(first)}}{after}"
            own = entries.setdefault(host, [])
            if own and own[0] != host:
                found.add(("hosts", name), f"{host} is in {own[0]} too; expected each host in one range")
            own.insert(0, name)
    return entries


def _check_host(
    name: str, merged: Mapping[str, Any], origin: Mapping[str, Place], entry: Place, found: _Findings
) -> None:
    try:
        parse(name, merged)
    except SettingsError as error:
        for one in error.errors:
            found.add(_source(one, origin, entry), str(one), host=name)


def _source(error: FieldError, origin: Mapping[str, Place], entry: Place) -> Place:
    """Where in the file the value is that a host's error is about; the host's ``entry`` where it is about none."""
    key = str(error.path[0]) if error.path else ""
    if key not in origin:  # what is missing is missing beside another
        key = next((other for pair in TOGETHER if key in pair for other in pair if other in origin), key)
        return (*origin[key], key) if key in origin else entry
    return (*origin[key], *error.path)


def _at(sections: Mapping[str, Any], place: Place) -> Mapping[str, Any]:
    found: Any = sections
    for part in place:
        found = found[part]
    return {str(key): value for key, value in found.items()}


def _label(place: Place) -> str:
    """What a place belongs to: ``defaults``, ``group NAME``, ``host NAME``."""
    if place[:1] == ("defaults",) or len(place) < 2:
        return str(place[0]) if place else ""
    return f"{str(place[0]).removesuffix('s')} {place[1]}"
