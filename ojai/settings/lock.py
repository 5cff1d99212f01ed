"""The lock beside an inventory: which image, model and packages every host of it gets, whatever there is by now.

``NAME.lock`` belongs to ``NAME.py``, and to the ``NAME.yaml`` that this may read. ``ojai lock`` writes it; the deploy,
the checks and ``ojai plan`` read it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ojai import profiles, resources
from ojai.engines import ResolvedService
from ojai.settings.types import Package

#: Version of the format. An older ojai refuses a newer one.
FORMAT = 1

#: Names the lock of a run whose inventory is not the file itself; empty: the run has none.
VARIABLE = "OJAI_LOCK"

_HEADER = """\
# What the hosts of this inventory get. Written by `ojai lock`, moved by `ojai lock --upgrade`; not by hand.
"""

_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Hash = Annotated[str, Field(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")]


class LockError(Exception):
    """A lock that cannot be used; the message says what was found, what is expected and what to do."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Image(_Part):
    """An image by its digest, the engine's release in it, and the hash of the contract that it is judged by."""

    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    engine: str = Field(min_length=1)
    contract: _Sha256


class File(_Part):
    """A file of a model: SHA-256 of one in LFS, git's blob id of another."""

    size: int = Field(ge=0)
    hash: _Hash


class Model(_Part):
    """A model at a commit. ``files``: those that the engine reads."""

    commit: str = Field(pattern=r"^[0-9a-f]{40}$")
    files: dict[str, File] = Field(min_length=1)


class Packages(_Part):
    """The packages of a family. ``taken``: when an archive had them, as its snapshots are named."""

    taken: str = Field(pattern=r"^\d{8}T\d{6}Z$")
    versions: dict[Package, Annotated[str, Field(pattern=r"^\d[A-Za-z0-9.+:~-]*$")]] = Field(min_length=1)


class Lock(_Part):
    """All of it. Images by name and tag, models as ``MODEL@REVISION`` (what the inventory asks for), packages by
    family, profiles by name with the hash of what they say."""

    format: int = FORMAT
    ojai: str = Field(min_length=1)
    images: dict[str, Image] = {}
    models: dict[str, Model] = {}
    packages: dict[str, Packages] = {}
    profiles: dict[str, _Sha256] = {}

    def versions(self, families: tuple[str, ...]) -> dict[str, str]:
        """The packages of these families with their versions."""
        return {
            name: version
            for family in families
            if family in self.packages
            for name, version in self.packages[family].versions.items()
        }

    def text(self) -> str:
        """As it is written: sorted, a line for each value."""
        document = self.model_dump(mode="json")
        return _HEADER + yaml.safe_dump(document, sort_keys=True, default_flow_style=False, width=10_000)

    def applied(self, service: ResolvedService) -> ResolvedService:
        """A service with its image's digest, and the commits of its models. Raises :class:`LockError` without them."""
        name = profile_of(service)
        missing = [image for image in (service.image,) if "@" not in image and image not in self.images]
        missing += [one for one in models_of(service) if one not in self.models]
        missing += [f"profile {name}"] * (name not in self.profiles)
        if missing:
            raise LockError(
                f"{service.name}: found no {', no '.join(missing)} in it; expected all that a service is made of. "
                "What to do: `ojai lock INVENTORY` adds what is missing"
            )
        if self.profiles[name] != profile_hash(name):
            raise LockError(
                f"{service.name}: found a profile {name} that says something else than the one that is locked, which "
                f"is that of ojai {self.ojai}; expected the same. What to do: use ojai {self.ojai}, or `ojai lock "
                f"--upgrade INVENTORY {name}` after reading its changes"
            )
        image = service.image if "@" in service.image else f"{service.image}@{self.images[service.image].digest}"
        pins = {one.rpartition("@")[0]: self.models[one].commit for one in models_of(service)}
        return replace(service, image=image, pins=pins)


def models_of(service: ResolvedService) -> list[str]:
    """The models that a service reads, as a lock names them."""
    return [f"{one.model}@{one.revision or 'main'}" for one in service.engine.wanted(replace(service, pins=None))]


def profile_of(service: ResolvedService) -> str:
    """The profile of a service, as a lock names it: with its engine, where that is not the profile's own."""
    name, engine = service.profile.name, service.profile.engine
    return name if engine == profiles.load(name).engine else f"{engine}/{name}"


@cache
def profile_hash(name: str) -> str:
    """The hash of what a profile (as a lock names it) says, whatever its comments and sources."""
    engine, _, name = name.rpartition("/")
    said = profiles.load(name, engine=engine or None).model_dump(
        mode="json", exclude={"sources", "notes", "title"}, exclude_defaults=True
    )
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


@cache
def protected() -> Mapping[str, tuple[str, ...]]:
    """By family, regular expressions for the beginning of the names of its packages."""
    return {family: tuple(entry["names"]) for family, entry in resources.data("protected-packages").items()}


def is_protected(family: str, name: str) -> bool:
    """Whether a package is of a family, by its name."""
    return any(re.match(pattern, name) for pattern in protected()[family.partition(" ")[0]])


def place(inventory: str) -> Path | None:
    """Where the lock of an inventory is, or would be; None for one that is no file.

    ``NAME.yaml`` is data that ``NAME.py`` reads: they have one lock.
    """
    given = os.environ.get(VARIABLE)
    if given is not None:
        return Path(given) if given else None
    path = Path(inventory)
    return path.resolve().with_suffix(".lock") if path.suffix in (".py", ".yaml", ".yml") and path.is_file() else None


def read(file: Path | None) -> Lock | None:
    """The lock in a file; None without one. Raises :class:`LockError` for one that cannot be used."""
    if file is None or not os.path.lexists(file):
        return None
    if not file.is_file():
        raise LockError(
            f"{file}: found no file there (a folder, or a link to nothing); expected a lock. What to do: mend or "
            "remove it"
        )
    return _read(file, file.stat().st_mtime_ns)


@cache
def _read(file: Path, changed: int) -> Lock:
    again = "`git checkout` it, or delete it and run `ojai lock INVENTORY`"
    try:
        document: Any = resources.parse_once(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise LockError(f"{file}: found a file that cannot be read ({error}); expected a lock") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise LockError(
            f"{file}:{line}: found what is not YAML ({error.problem}); expected what `ojai lock` wrote. "
            f"What to do: {again}"
        ) from None
    except yaml.YAMLError as error:
        raise LockError(f"{file}: found what is not YAML ({error}); expected a lock. What to do: {again}") from None
    found = document.get("format") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(found, int) or isinstance(found, bool):
        raise LockError(
            f"{file}: found no `format:` in it; expected a lock that `ojai lock` wrote. What to do: move it away if it "
            "is another program's, and run `ojai lock INVENTORY`"
        )
    if found != FORMAT:
        raise LockError(
            f"{file}: found format {found}, of ojai {document.get('ojai', '?')}; expected {FORMAT}. What to do: use "
            "that ojai, or delete the file and run `ojai lock INVENTORY`"
        )
    try:
        return Lock.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        seen = "nothing" if first["type"] == "missing" else repr(first["input"])[:80]
        more = f", and {error.error_count() - 1} more" if error.error_count() > 1 else ""
        raise LockError(
            f"{file}: {where}: found {seen}; expected {_expected(first['type'], first['msg'])}{more}. "
            f"What to do: {again}"
        ) from None


def _expected(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "no such key"
    return "a value" if kind == "missing" else message[0].lower() + message[1:]
