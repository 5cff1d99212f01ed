"""The surface of a host: what decides what it does, as it was recorded after a deploy, and every difference since.

What is read and what a difference means is data (``ojai/data/surface.yaml``); what asks the host is
:mod:`ojai.surface.program`, which the role Surface writes there.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ojai import firewall, gateway, resources
from ojai.settings import HostSettings

FOLDER = "/var/lib/ojai/surface"
PROGRAM = f"{FOLDER}/program.py"
ORDER = f"{FOLDER}/order.json"
#: The hash of the order that the record was made by.
RECORDED = f"{FOLDER}/recorded"
RECORD, BEFORE = f"{FOLDER}/record.json", f"{FOLDER}/before.json"

#: The package of AIDE's program; its configuration, its database and its daily job are in another one.
PACKAGE = "aide"

#: Of a file: who may change it.
_RIGHTS = ("perm", "uid", "gid", "acl", "xattrs")


def command(*words: str) -> str:
    """Shell that runs the program on a host."""
    return " ".join(["python3 -IB", PROGRAM, *words])


def program_text() -> str:
    """The text of the program."""
    return Path(__file__).with_name("program.py").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Kind:
    """What differences mean: what they are about, whether verify fails, and what to do."""

    name: str
    says: str
    red: bool
    todo: str


@cache
def _data() -> Mapping[str, Any]:
    found: Mapping[str, Any] = resources.data("surface")
    return found


@cache
def kinds() -> dict[str, Kind]:
    """By name."""
    return {name: Kind(name, **entry) for name, entry in _data()["kinds"].items()}


def units(settings: HostSettings) -> list[str]:
    """Our units, and those that they need."""
    ours = [service.unit for service in settings.resolved]
    theirs = [path.rpartition("/")[2] for path in gateway.UNIT_FILES]
    return [*ours, *theirs, *firewall.UNIT_FILES, *_data()["units"]]


def folders(settings: HostSettings) -> list[str]:
    """Where data is that services read."""
    return [settings.data_directory, *settings.own_caches, *settings.cache_folders.values()]


def _filled(pattern: str, settings: HostSettings) -> str:
    hubs = [f"{path}/hub" for path in dict.fromkeys(s.folders["huggingface"] for s in settings.resolved)]
    words = {
        "%UNITS%": units(settings),
        "%TOOLS%": _data()["tools"],
        "%MODULES%": _data()["modules"],
        "%DATA%": folders(settings),
        "%HUBS%": hubs or ["/nonexistent"],
    }
    for mark, values in words.items():
        pattern = pattern.replace(mark, "|".join(re.escape(value.lstrip("/")) for value in dict.fromkeys(values)))
    return pattern


def order(settings: HostSettings) -> str:
    """What the program is to read on this host, as the text of a file."""
    data = _data()
    rules = [
        f"{_filled(pattern, settings)} {data['reads'][place['read']]}"
        for place in data["places"]
        if "read" in place
        for pattern in place["match"]
    ]
    found = {
        "rules": "".join(f"{rule}\n" for rule in rules),
        "units": units(settings),
        "containers": [service.name for service in settings.resolved],
        "accounts": sorted({"root", settings.data_owner, *settings.gpu_users}),
        **{name: data[name] for name in ("daemons", "modules", "devices", "tools", "groups", "client_files")},
        "mounts_passed": data["mounts_passed"],
    }
    return json.dumps(found, indent=1, sort_keys=True) + "\n"


@dataclass(frozen=True)
class Difference:
    """Something that is not as it was recorded.

    + what: a path, or a line of the live side by its name
    + was, now: how; None for what was or is not there
    + explained: by what; empty: nobody knows
    + when, owner: of a file
    """

    what: str
    was: Any
    now: Any
    explained: str = ""
    when: str = ""
    owner: str = ""

    @property
    def state(self) -> str:
        """How it is now, by a short hash: what is accepted is this, and no other change of the same thing."""
        return hashlib.sha256(json.dumps(self.now, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def fields(self) -> list[str]:
        """What of a file is another, where it was and is there."""
        if not isinstance(self.was, dict) or not isinstance(self.now, dict):
            return []
        return sorted(name for name in self.was.keys() | self.now.keys() if self.was.get(name) != self.now.get(name))

    def kind(self, settings: HostSettings) -> Kind:
        """What it means."""
        if set(self.fields) & set(_RIGHTS):
            return kinds()["who"]
        for place in _data()["places"]:
            for pattern in place["match"]:
                if re.match(_filled(pattern, settings).replace("%HOMES%", "root|home/[^/]+"), self.what):
                    return kinds()[place["kind"]]
        return kinds()["other"]

    def __str__(self) -> str:
        if self.was is None:
            told = "is new" if isinstance(self.now, dict) else f"is new: {self.now}"
        elif self.now is None:
            told = "is gone" if isinstance(self.was, dict) else f"is gone: it was {self.was}"
        elif self.fields:
            told = ", ".join(map(self._changed, self.fields))
        else:
            told = f"was {self.was}, is {self.now}"
        about = ", ".join(filter(None, [self.when, self.owner]))
        return f"{self.what}: {told}{f' ({about})' if about else ''}"

    def _changed(self, name: str) -> str:
        title = {"perm": "mode", "uid": "owner", "gid": "group", "lname": "target", "e2fsattrs": "attributes"}
        if name in ("size", "ctime", "mtime", "sha256", "xattrs"):
            return {"xattrs": "other capabilities", "sha256": "other content"}.get(name, f"other {name}")
        return f"{title.get(name, name)} {self.was.get(name, 'none')} -> {self.now.get(name, 'none')}"


@dataclass(frozen=True)
class Report:
    """What a host says of its surface. ``error``: why it says nothing. ``cost``: seconds a part."""

    differences: tuple[Difference, ...] = ()
    error: str = ""
    things: int = 0
    cost: Mapping[str, float] | None = None


def read(answer: str) -> Report:
    """The program's answer."""
    try:
        found = json.loads(answer)
    except ValueError:
        return Report(error=" ".join(answer.split())[-300:] or "no answer")
    if found.get("error"):
        return Report(error=found["error"])
    differences = tuple(Difference(**one) for one in found["differences"])
    return Report(differences, things=found["things"], cost=found["cost"])


def unexplained(settings: HostSettings, differences: Iterable[Difference]) -> Iterator[Difference]:
    """What neither a package nor an accepted note explains."""
    accepted = {(note.what, note.state) for note in settings.accepted}
    for one in differences:
        if not one.explained and (one.what, one.state) not in accepted:
            yield one
