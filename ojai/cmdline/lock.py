"""``ojai lock``: write down what the hosts of an inventory get, so that every deploy gives them exactly that."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, cast

import click
from rich.console import Console
from rich.table import Table

from ojai import __version__
from ojai.engines import ResolvedService
from ojai.facts.lock import Resolved
from ojai.parameters import InventoryFile, resolved
from ojai.preflight.lock import release_mark
from ojai.preflight.upstream import read_by
from ojai.pyinfra_runs.collect import CollectError, collect_locks
from ojai.settings import HostSettings
from ojai.settings.inventory import Entry
from ojai.settings.lock import (
    VARIABLE,
    File,
    Image,
    Lock,
    LockError,
    Model,
    Packages,
    is_protected,
    models_of,
    place,
    profile_hash,
    profile_of,
    read,
)
from ojai.versions import newer

_EPILOG = """\b
Examples:
  ojai lock inventory/fleet.py
  ojai lock --upgrade inventory/fleet.py
  ojai lock --upgrade inventory/fleet.py rocm google/gemma-4-E4B-it

Exit status: 0 the lock is written, or has it all already; 1 a host did not answer (what only that host could say stays
as it was), or something could not be found out (nothing is written); 2 usage error or faulty inventory.
"""

SECTIONS = ("images", "models", "packages", "profiles")


@click.command(epilog=_EPILOG)
@click.argument("inventory", type=InventoryFile())
@click.argument("what", nargs=-1)
@click.option("--upgrade", is_flag=True, help="Move what is locked to what there is now: WHAT, or all of it.")
def command(inventory: str, what: tuple[str, ...], upgrade: bool) -> NoReturn:
    """Lock what the hosts of INVENTORY get: image digests, model commits, package versions, profiles.

    Written to NAME.lock beside NAME.py or NAME.yaml. Where a host has something already, that is locked; else what its
    registry, hub and package archives have now. What is locked stays, and what is new is added, unless --upgrade moves
    it. WHAT is a section (images, models, packages, profiles), a family of packages (kernel, docker, rocm), or a name
    in the lock. The deploy then installs exactly that on every host.
    """
    if what and not upgrade:
        raise click.UsageError("WHAT says what --upgrade moves; without --upgrade all that is missing is added.")
    made, answered = make(inventory, what, upgrade, Console(highlight=False))
    sys.exit(0 if made and answered else 1)


def make(inventory: str, what: Iterable[str], upgrade: bool, console: Console) -> tuple[bool, bool]:
    """Make the lock, or move it: whether it is as it should be, and whether every host answered."""
    file, before = place(inventory), os.environ.get(VARIABLE)
    os.environ[VARIABLE] = ""  # the inventory is read as if there were none
    try:
        return _make(inventory, file, what, upgrade, console)
    finally:
        del os.environ[VARIABLE]
        if before is not None:
            os.environ[VARIABLE] = before


def _make(inventory: str, file: Path | None, what: Iterable[str], upgrade: bool, console: Console) -> tuple[bool, bool]:
    inventory, entries = resolved(inventory, ())
    if file is None:
        raise click.UsageError(f"{inventory} is no file, so there is no place for a lock beside it.")
    try:
        found = read(file)
    except LockError as error:
        raise click.UsageError(str(error)) from None
    entries = [entry for entry in entries if not entry.settings.removed]
    old = found or Lock(ojai=__version__)
    moved = set(_named(what or (SECTIONS if upgrade else ()), old))
    try:
        answers, failures = collect_locks(inventory, [entry.name for entry in entries], sorted(moved))
    except CollectError as error:
        raise click.ClickException(str(error)) from None
    for name, why in failures.items():
        click.echo(f"{name}: found no answer ({why}); what only this host could say stays as it was locked", err=True)
    made = _Making(entries, answers, old, moved)
    new = made.lock()
    if made.problems or not answers:
        for problem in made.problems:
            click.echo(problem, err=True)
        click.echo(f"{file.name} was not {'changed' if file.exists() else 'written'}.", err=True)
        return False, not failures
    for note in made.notes:
        click.echo(note, err=True)
    changes = list(_changes(old, new))
    if file.exists() and not changes:
        console.print(f"{file}: nothing to change")
        return True, not failures
    _write(file.resolve(), new.text())
    console.print(_table(changes))
    console.print(f"{file}: written")
    return True, not failures


def _write(file: Path, text: str) -> None:
    """The whole file, or the one that was there."""
    written = file.with_name(f"{file.name}.new")
    try:
        written.write_text(text, encoding="utf-8")
        written.replace(file)
    except OSError as error:
        with suppress(OSError):
            written.unlink()
        raise click.ClickException(
            f"{file}: found no way to write it ({error.strerror}); expected a folder of yours with room. What to do: "
            "mend that and run the command again; nothing was changed"
        ) from None


def _named(what: Iterable[str], lock: Lock) -> Iterator[str]:
    """The names in a lock that the words on the command line mean; a package stands for its family."""
    for word in what:
        found: list[str] = []
        for section in SECTIONS:
            entries: dict[str, Any] = getattr(lock, section)
            if word == section:
                found += entries
            for name in entries:
                of_family = section == "packages" and (
                    word == name.partition(" ")[0] or word in lock.packages[name].versions
                )
                if word in (name, name.rpartition("@")[0] or name) or of_family:
                    found.append(name)
        if not found and word not in SECTIONS:
            known = ", ".join([*SECTIONS, *lock.images, *lock.models, *lock.packages, *lock.profiles])
            raise click.UsageError(f"{word}: found nothing of that name in the lock; expected one of {known}")
        yield from found


class _Making:
    """A lock in the making. ``kept``: what stays as it is, but for the names in ``moved``."""

    def __init__(self, entries: list[Entry], answers: dict[str, dict[str, Any]], kept: Lock, moved: set[str]) -> None:
        self.entries, self.kept, self.moved = entries, kept, moved
        self.answers = {entry.name: answers[entry.name] for entry in entries if entry.name in answers}
        self.problems: list[str] = []
        self.notes: list[str] = []

    def _stays(self, section: str, name: str) -> Any:
        return None if name in self.moved else getattr(self.kept, section).get(name)

    def lock(self) -> Lock:
        """All of it."""
        images: dict[str, Image] = {}
        models: dict[str, Model] = {}
        names: dict[str, str] = {}
        for entry in self.entries:
            for service in entry.settings.resolved:
                if "@" not in service.image and service.image not in images and (image := self._image(service)):
                    images[service.image] = image
                for one in models_of(service):
                    if one not in models and (model := self._model(service, one)):
                        models[one] = model
                profile = profile_of(service)
                names[profile] = self._stays("profiles", profile) or profile_hash(profile)
        packages = {}
        if any(name in self.kept.packages for name in self.moved):
            self.notes += (
                f"{host}: apt there read what the archives have {age // 86_400} days ago; `sudo apt-get update` first "
                "finds what is newer"
                for host, answer in self.answers.items()
                if (age := answer["packages"]["lists_age"] or 0) > 2 * 86_400
            )
        for family in dict.fromkeys(name for entry in self.entries for name in entry.settings.families):
            if found := self._packages(family):
                packages[family] = found
        return Lock(ojai=__version__, images=images, models=models, packages=packages, profiles=names)

    def _image(self, service: ResolvedService) -> Image | None:
        name = service.image
        if stays := self._stays("images", name):
            return cast(Image, stays)
        found = self._first("images", name, lambda there: str(there or ""), "digest")
        if found is None:
            return self.kept.images.get(name)
        engine, contract = service.engine.identity(name)
        return Image(digest=found, engine=engine, contract=contract)

    def _model(self, service: ResolvedService, one: str) -> Model | None:
        if stays := self._stays("models", one):
            return cast(Model, stays)
        found = self._first("models", one, lambda lines: _recorded(lines), "commit")
        if found is None:
            return self.kept.models.get(one)
        listed = found["files"]
        files = {path: listed[path] for path in read_by(service, sorted(listed))}
        if not files:
            self.problems.append(f"{one}: found no file that {service.engine.name} reads; expected weights of it")
            return None
        return Model(commit=found["commit"], files={path: File(size=f[0], hash=f[1]) for path, f in files.items()})

    def _first(self, section: str, name: str, local: Any, key: str) -> Any:
        """What the first host has of something, or was answered; other hosts that have another are told.

        None where no host could say, which is a problem unless it is locked already.
        """
        found: Any = None
        errors: list[str] = []
        for host, answer in self.answers.items():
            if name not in answer[section]:
                continue
            asked = answer["upstream"].get(section, {}).get(name, {})
            # What was asked anew comes first.
            mine = (asked if section == "models" else asked[key]) if key in asked else local(answer[section][name])
            if not mine:
                errors.append(f"{host}: {name}: {asked.get('error', 'no answer: is python3 there?')}")
            elif found is None:
                found = mine
            elif mine != found:
                self.notes.append(f"{host}: has another {name}: its next deploy moves it")
        if found is None and (errors or name not in getattr(self.kept, section)):
            self.problems += errors or [f"{name}: no host answered"]
        return found

    def _packages(self, family: str) -> Packages | None:
        """A family's: as they are installed, else as apt would install them; the newest of all hosts."""
        before, stays = self.kept.packages.get(family), family not in self.moved
        if stays and before and all(one in before.versions for a in self.answers.values() for one in _roots(a, family)):
            return before
        found: dict[str, str] = {}
        silent: list[str] = []
        for entry in self.entries:
            if family not in entry.settings.families:
                continue
            versions = self._versions(entry, family) if entry.name in self.answers else {}
            if not versions:
                silent.append(entry.name)
            for name, version in versions.items():
                if name not in found or newer(version, found[name]):
                    found[name] = version
        if stays and before:
            return Packages(taken=before.taken, versions={**found, **before.versions})
        if before and silent and not before.versions.keys() <= found.keys():
            # Versions of a family belong together: what a host that says nothing needs is not left behind.
            self.notes.append(f"{family}: stays as it was locked: {', '.join(silent)} could not say what it has")
            return before
        if not found:
            self.notes.append(
                f"{family}: no host knows its packages yet; deploy one, then run `ojai lock` again to add them"
            )
            return None
        return Packages(taken=self._taken(family, found).strftime("%Y%m%dT%H%M%SZ"), versions=found)

    def _taken(self, family: str, found: dict[str, str]) -> datetime:
        """When an archive had them all: now, or when the last was installed of those that it has replaced since."""
        answers = [answer["packages"] for answer in self.answers.values()]
        offered = {one for answer in answers for one in answer["candidates"].get(family, {}).items()}
        since = [
            answer["since"][name]
            for answer in answers
            for name, version in found.items()
            if answer["installed"].get(name, [""])[0] == version and name in answer["since"]
        ]
        return datetime.fromtimestamp(max(since), UTC) if since and found.items() - offered else datetime.now(UTC)

    def _versions(self, entry: Entry, family: str) -> dict[str, str]:
        settings, answer = entry.settings, self.answers[entry.name]["packages"]
        packages = Resolved(
            {name: (version, tuple(needs)) for name, (version, needs) in answer["installed"].items()},
            answer["candidates"],
            answer["since"],
        )
        asked = _roots(self.answers[entry.name], family)
        there, offered = packages.closure(asked), packages.candidates.get(family, {})
        chosen = (offered or there) if family in self.moved else (there or offered)
        return {
            name: version
            for name, version in chosen.items()
            if name in asked or _of_family(settings, family, name, version)
        }


def _roots(answer: dict[str, Any], family: str) -> list[str]:
    found: list[str] = answer["roots"].get(family, [])
    return found


def _of_family(settings: HostSettings, family: str, name: str, version: str) -> bool:
    if family.startswith("rocm"):
        return release_mark(settings) in version
    return is_protected(family, name)


def _recorded(lines: list[str]) -> dict[str, Any] | None:
    """A record of what was fetched, as the hub would tell it."""
    words = [line.split("\t") for line in lines]
    commit = next((word[1] for word in words if word[0] == "commit" and len(word) == 2), "")
    if not commit or ["complete"] not in words:
        return None
    return {
        "commit": commit,
        "files": {word[3]: [int(word[1]), word[2]] for word in words if word[0] == "file" and len(word) == 4},
    }


def _changes(old: Lock, new: Lock) -> Iterator[tuple[str, str, str]]:
    """What moved: what, before, after."""
    for section in SECTIONS:
        before, after = _flat(old, section), _flat(new, section)
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) != after.get(name):
                yield name, before.get(name, "-"), after.get(name, "-")


def _flat(lock: Lock, section: str) -> dict[str, str]:
    if section == "images":
        return {name: image.digest[:19] for name, image in lock.images.items()}
    if section == "models":
        return {name: model.commit[:12] for name, model in lock.models.items()}
    if section == "profiles":
        return {f"profile {name}": value[:12] for name, value in lock.profiles.items()}
    return {
        f"{name} ({family})" if family.startswith("rocm") else name: version
        for family, packages in lock.packages.items()
        for name, version in packages.versions.items()
    }


def _table(changes: list[tuple[str, str, str]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("What", "Old", "New"):
        table.add_column(title, overflow="fold")
    for row in changes:
        table.add_row(*row)
    return table
