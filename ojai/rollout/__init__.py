"""A rollout: canaries, then batches of hosts; each deployed, verified, smoked, and its result kept on the hosts.

Where it stands is asked from the hosts, each time. Nothing else is kept.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import ojai
from ojai.facts.rollout import HostStanding, Record, note
from ojai.pyinfra_runs import batches, kept
from ojai.pyinfra_runs.batches import OK, REFUSED, UNREACHABLE, Result
from ojai.pyinfra_runs.verification import Plan, Verdict, verify
from ojai.serving import Place
from ojai.settings.inventory import Entry
from ojai.settings.lock import models_of, read
from ojai.smoke import Report
from ojai.weights.program import record_name

if TYPE_CHECKING:
    from ojai.smoke.asking import Rules

#: `there`: it was as wanted before; `done`: it is now; `waiting`: nothing was begun, or it was interrupted.
State = Literal["there", "done", "failed", "offline", "busy", "waiting"]

#: The steps of a host, in their order.
STEPS = ("deploy", "verify", "smoke")

#: Hosts smoked at the same time.
_MAX_WORKERS = 8

#: Folders of the package that no deploy reads.
_NOT_READ = {"__pycache__", "lab", "cmdline", "checks", "repository"}

#: Folders beside a deploy of one's own that it may read.
_OWN = ("roles", "templates", "files")


class NothingBegunError(Exception):
    """There is no rollout to finish."""


@dataclass(frozen=True)
class Order:
    """How a rollout goes.

    + canary: hosts that come first; a rollout ends when one of them fails
    + batch: hosts at a time after them
    + max_failed: failed hosts with which it goes on
    + finish: only what an earlier rollout has left: no canary, and no end before the last host
    """

    canary: int = 1
    batch: int = 1
    max_failed: int = 0
    finish: bool = False


@dataclass
class Row:
    """A host.

    + wanted: stands for all that it is to be
    + batch: the one in which it was, from 1; 0: in none
    + step, said: what it does now, since when (monotonic seconds)
    + seconds: by step, how long it took
    """

    entry: Entry
    wanted: str
    state: State = "waiting"
    why: str = ""
    batch: int = 0
    step: str = ""
    said: str = ""
    since: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    verdict: Verdict | None = None
    reports: tuple[Report, ...] = ()
    standing: HostStanding = field(default_factory=HostStanding)

    @property
    def name(self) -> str:
        """The host's name."""
        return self.entry.name

    @property
    def well(self) -> bool:
        """Whether it is as it should be."""
        return self.state in ("there", "done")


@dataclass
class Rollout:
    """A rollout to the hosts of ``rows``.

    + inventory: its file; deploy: what is deployed
    + files: the checks of verify; drift: whether it looks for drift too
    + rules: those of smoke, or None
    + tell: called when a host begins with something else
    + stopped: why it ended before the last batch
    """

    inventory: str
    deploy: Path
    rows: list[Row]
    order: Order
    files: tuple[Path, ...]
    drift: bool
    rules: Rules | None
    tell: Callable[[Row], None] = lambda row: None
    batch: int = 0
    stopped: str = ""

    @property
    def command(self) -> str:
        """The command that began it."""
        return f"ojai rollout {self.inventory}"

    @property
    def ok(self) -> bool:
        """Whether every host is as it should be."""
        return all(row.well for row in self.rows)

    def look(self, rows: Sequence[Row] | None = None) -> None:
        """Ask hosts where they stand: one look each."""
        rows = self.rows if rows is None else rows
        for row in rows:
            self._begin(row, "ask")
        found, results = batches.standings([row.entry for row in rows], self.deploy)
        for row in rows:
            self._end(row)
            if row.name in found:
                row.standing = found[row.name]
                row.state, row.why = _judged(row)
            else:
                result = results[row.name]
                row.state, row.why = "failed" if result.word not in (UNREACHABLE, OK) else "offline", result.reason
            self.tell(row)

    def run(self) -> None:
        """All of it, from where the hosts stand. Raises :class:`NothingBegunError`."""
        self.look()
        if self.order.finish and not any(row.well for row in self.rows):
            raise NothingBegunError
        self._all()
        if not self.stopped and (busy := [row for row in self.rows if row.state == "busy"]):
            self.look(busy)  # what was another controller's may be done by now
            self._all()

    def _all(self) -> None:
        while not self.stopped and (chosen := self.next()):
            self.batch += 1
            canaries = not self.order.finish and self._proven < self.order.canary
            if self.batch > 1:
                self.look(chosen)  # another controller may have been there, or the host may be gone
                chosen = [row for row in chosen if row.state == "waiting"]
            if chosen:
                self._bring(chosen)
            self.stopped = self._halt(chosen, canaries)

    @property
    def _proven(self) -> int:
        return sum(row.well for row in self.rows)

    def next(self) -> list[Row]:
        """The hosts that come next."""
        left = [row for row in self.rows if row.state == "waiting"]
        missing = 0 if self.order.finish else self.order.canary - self._proven
        return left[: missing if missing > 0 else self.order.batch]

    def _halt(self, chosen: Sequence[Row], canaries: bool) -> str:
        failed = [row.name for row in chosen if row.state == "failed"]
        all_failed = sum(row.state == "failed" for row in self.rows)
        if self.order.finish or not failed or not (canaries or all_failed > self.order.max_failed):
            return ""
        return f"after {'the canary' if canaries else f'batch {self.batch}'}, in which {', '.join(failed)} failed"

    def _begin(self, row: Row, step: str, said: str = "") -> None:
        row.step, row.said, row.since = step, said, time.monotonic()
        self.tell(row)

    def _end(self, row: Row, fault: str | None = None) -> None:
        row.seconds[row.step] = time.monotonic() - row.since
        row.step = row.said = ""
        if fault is not None:
            row.state, row.why = "failed", fault

    def _bring(self, rows: Sequence[Row]) -> None:
        """Deploy to hosts, verify and smoke those on which that worked, and keep on each what came of it."""
        for row in rows:
            row.batch = self.batch
        deployed = self._deployed(rows)
        ended = time.monotonic()
        verified = self._verified([row for row in deployed if not row.entry.settings.removed])
        self._smoked([row for row in verified if self.rules and row.entry.settings.resolved])
        self._kept([row for row in rows if row.state in ("waiting", "failed")], ended)

    def _deployed(self, rows: Sequence[Row]) -> list[Row]:
        known = {row.name: row for row in rows}
        for row in rows:
            self._begin(row, "deploy", "connecting")

        def hear(host: str, said: str) -> None:
            for row in [known[host]] if host in known else () if host else rows:
                row.said = said

        results = batches.deploy([row.entry for row in rows], self.deploy, hear, self.command)
        for row in rows:
            self._end(row)
            row.state, row.why = _of_deploy(results[row.name])
            self.tell(row)
        return [row for row in rows if row.state == "waiting"]

    def _verified(self, rows: Sequence[Row]) -> list[Row]:
        known = {row.name: row for row in rows}
        for row in rows:
            self._begin(row, "verify")
        plan = Plan(self.files, self.deploy if self.drift else None)
        for verdict in verify([row.entry for row in rows], plan):
            row = known[verdict.host]
            row.verdict = verdict
            kept.keep(self.inventory, verdict)
            self._end(row, None if verdict.ok else f"verify: {_of_verdict(verdict)}")
            self.tell(row)
        return [row for row in rows if row.state == "waiting"]

    def _smoked(self, rows: Sequence[Row]) -> None:
        if not rows or self.rules is None:
            return
        from ojai.smoke.hosts import ask  # OpenAI's client takes a second

        rules = self.rules

        def smoke(row: Row) -> None:
            def hear(server: str, said: str) -> None:
                row.said = said

            self._begin(row, "smoke")
            row.reports = tuple(ask(Place(row.name, entry=row.entry), self.inventory, rules, (), hear))
            faults = [f"{one.server}: {_of_report(one)}" for one in row.reports if not one.ok]
            self._end(row, f"smoke: {'; '.join(faults)}" if faults else None)
            self.tell(row)

        pool = ThreadPoolExecutor(max_workers=_MAX_WORKERS)
        try:
            for _ in pool.map(smoke, rows):
                pass
        finally:
            pool.shutdown(cancel_futures=True)

    def _kept(self, rows: Sequence[Row], ended: float) -> None:
        """Keep on the hosts what came of it. What cannot be kept is not done: nobody else would know of it."""
        if not rows:
            return
        age = time.monotonic() - ended
        now = datetime.now(UTC).isoformat(timespec="seconds")
        by = f"{getpass.getuser()} on {socket.gethostname()}"
        notes = {
            row.name: note(Record(row.wanted, row.state == "waiting", row.why, now, by, ojai.__version__), age)
            for row in rows
            if not row.entry.settings.removed
        }
        found, results = batches.standings([row.entry for row in rows], self.deploy, notes)
        for row in rows:
            row.standing = found.get(row.name, row.standing)
            if row.state == "waiting":
                row.state, row.why = _of_note(results[row.name])
                self.tell(row)


def _judged(row: Row) -> tuple[State, str]:
    """What a host's standing means."""
    record = row.standing.record
    if row.standing.busy:
        return "busy", f"a deploy runs there: {row.standing.busy}"
    if row.entry.settings.removed:
        return ("waiting", "") if row.standing.ours else ("there", "nothing of ojai's is left")
    if record is None or record.wanted != row.wanted:
        return "waiting", ""
    if record.ok:
        return "there", f"since {record.when}, by {record.by}"
    return "waiting", f"failed at {record.when}, by {record.by}: {record.why}"


def _of_deploy(result: Result) -> tuple[State, str]:
    if result.word == OK:
        return "waiting", ""
    if result.word == UNREACHABLE:
        return "offline", result.reason
    if result.word == REFUSED and "deploy lock: found another deploy" in result.reason:
        return "busy", result.reason
    return "failed", f"deploy: {result.reason or result.word.lower()}"


def _of_note(result: Result) -> tuple[State, str]:
    if result.word == OK:
        return "done", ""
    if result.word == UNREACHABLE:
        return "offline", f"verified, and gone before that could be kept there: {result.reason}"
    return "busy", f"verified, and not kept there: {result.reason}"


def _of_verdict(verdict: Verdict) -> str:
    found = [f"{one.area}: {one.name}: {one.message}" for one in verdict.checks if one.outcome == "failed"]
    return verdict.error or "; ".join(found) or verdict.state


def _of_report(report: Report) -> str:
    found = [f"{one.name}: {one.came}" for one in report.results if one.outcome == "failed"]
    return report.error or "; ".join(found) or "no check applies"


def against_lock(row: Row) -> Iterator[tuple[str, str, str]]:
    """What a lock names of a host: what, as locked, as found there (empty: not there)."""
    settings, standing = row.entry.settings, row.standing
    locked = read(row.entry.lock)
    if locked is None or settings.removed:
        return
    for service in settings.resolved:
        digest = standing.digests.get(service.name, "").rpartition("@")[2]
        yield f"image of {service.name}", service.image.rpartition("@")[2], digest
        for one in models_of(service):
            found = standing.models.get(record_name(*one.rsplit("@", 1)), "")
            yield f"model {one}", locked.models[one].commit, found
    for name, version in sorted(locked.versions(settings.families).items()):
        # What a host has not is what its settings do not ask for, or what a check of verify names.
        if name in standing.packages:
            yield f"package {name}", version, standing.packages[name]


def rows(entries: Sequence[Entry], inventory: str, deploy: Path) -> list[Row]:
    """The hosts of an inventory, with what each is to be."""
    return [Row(entry, wanted(entry, inventory, deploy)) for entry in entries]


def wanted(entry: Entry, inventory: str, deploy: Path) -> str:
    """What stands for all that a deploy makes of a host: ojai, the deploy with its roles, data and lock.

    Not how the host is reached (``ssh_…``, ``_…``), nor a secret's text: the data has only where it is read.
    """
    data: dict[str, Any] = {k: v for k, v in entry.data.items() if not k.startswith(("ssh_", "_"))}
    lock = entry.lock.read_text(encoding="utf-8") if entry.lock and entry.lock.is_file() else ""
    said = [_package(), _own(deploy.resolve(), Path(inventory).resolve()), entry.groups, data, lock]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


@cache
def _package() -> str:
    return _digest(_files(Path(ojai.__file__).parent))


@cache
def _own(deploy: Path, inventory: Path) -> str:
    """A deploy of one's own: the modules beside it, but for the inventory, and the folders of roles."""
    if deploy.is_relative_to(Path(ojai.__file__).resolve().parent):
        return ""
    top = deploy.parent
    files = [path for path in top.glob("*.py") if path != inventory]
    return _digest([*files, *(path for name in _OWN for path in _files(top / name))])


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(set(folders) - _NOT_READ)
        yield from (Path(place, name) for name in names if name.endswith((".py", ".j2", ".yaml", ".json", ".sh")))


def _digest(files: Sequence[Path] | Iterator[Path]) -> str:
    found = hashlib.sha256()
    for path in sorted(files):
        found.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()
