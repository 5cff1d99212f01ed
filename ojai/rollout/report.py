"""What a rollout came to: as JSON, and as a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ojai
from ojai.plan import plan
from ojai.report_html import Bar, Bars, Note, Page, Section, State, Table, Value, Zone
from ojai.rollout import STEPS, Rollout, Row, against_lock
from ojai.sizes import GIB

#: What each state is called, and how it is to be taken.
STATES: dict[str, tuple[str, State]] = {
    "there": ("there already", "ok"),
    "done": ("done", "ok"),
    "failed": ("failed", "bad"),
    "offline": ("offline", "note"),
    "busy": ("busy", "note"),
    "waiting": ("to do", "plain"),
}

#: What a host's line has.
TITLES = ("Host", "State", "Batch", "Deploy", "Verify", "Smoke")

#: What is not known, or does not apply.
_NONE = "-"


def sentence(rollout: Rollout) -> str:
    """Where it stands, in a line."""
    counts = {state: sum(row.state == state for row in rollout.rows) for state in STATES}
    good = counts.pop("there") + counts.pop("done")
    others = [f"{count} {STATES[state][0]}" for state, count in counts.items() if count]
    return f"{'; '.join([f'{good} of {len(rollout.rows)} hosts are as wanted', *others])}."


def document(rollout: Rollout) -> dict[str, Any]:
    """All of it, for JSON; amounts in bytes, times in seconds."""
    return {
        "inventory": rollout.inventory,
        "ok": rollout.ok,
        "stopped": rollout.stopped or None,
        "hosts": [
            {
                "host": row.name,
                "state": row.state,
                "why": row.why or None,
                "batch": row.batch or None,
                "seconds": {step: round(row.seconds[step], 1) for step in STEPS if step in row.seconds},
                "checks": [asdict(one) for one in row.verdict.checks] if row.verdict else None,
                "smoke": [{**asdict(one), "ok": one.ok} for one in row.reports],
                "lock": [dict(zip(("what", "locked", "found"), one, strict=True)) for one in against_lock(row)],
                "record": asdict(row.standing.record) if row.standing.record else None,
            }
            for row in rollout.rows
        ],
    }


def steps(row: Row) -> Iterator[str]:
    """What came of each step of a host, in a word, and how long it took."""
    for step in STEPS:
        if step not in row.seconds:
            yield _NONE
        else:
            yield f"{'failed' if row.why.startswith(f'{step}: ') else 'ok'}, {row.seconds[step]:.0f} s"


def page(rollout: Rollout) -> Page:
    """The page: what is not well first."""
    rows = sorted(rollout.rows, key=lambda row: row.well)
    sections = [Section("Hosts", (*_faults(rows), _hosts(rows)))]
    if checks := _checks(rows):
        sections.append(Section("Checks", (checks,), ("Passed checks of each area of `ojai verify`, and of smoke.",)))
    if bars := _memory(rollout.rows):
        sections.append(Section("GPU memory", (bars,), ("What the services of each host need, of what it has.",)))
    sections.append(Section("Versions against the lock", *_versions(rollout.rows)))
    good: State = "ok" if rollout.ok else "bad" if any(row.state == "failed" for row in rows) else "note"
    stopped = f" Stopped {rollout.stopped}." if rollout.stopped else ""
    return Page(
        title=f"Rollout to {Path(rollout.inventory).name}",
        verdict=Value(sentence(rollout) + stopped, good),
        sections=tuple(sections),
        about=(
            ("Ended", datetime.now(UTC).isoformat(timespec="seconds")),
            ("Inventory", rollout.inventory),
            ("Deploy", str(rollout.deploy)),
        ),
        foot=f"Made by ojai {ojai.__version__}. What is not known, or does not apply, is shown as {_NONE}.",
    )


def _faults(rows: list[Row]) -> Iterator[Note]:
    for row in rows:
        if row.why and not row.well:
            word, state = STATES[row.state]
            yield Note(f"{row.name}: {word}", row.why.replace("`", "'"), state=state)


def _hosts(rows: list[Row]) -> Table:
    return Table(
        TITLES,
        tuple((row.name, Value(*STATES[row.state]), str(row.batch or _NONE), *map(_step, steps(row))) for row in rows),
    )


def _step(text: str) -> Value:
    return Value(text, "bad" if text.startswith("failed") else "plain")


def _checks(rows: list[Row]) -> Table | None:
    """Hosts and areas; a cell says how many checks failed, else how many warned, else how many passed."""
    found: dict[str, dict[str, Counter[str]]] = {}
    for row in rows:
        outcomes = [(one.area, one.outcome) for one in row.verdict.checks] if row.verdict else []
        outcomes += [("smoke", one.outcome) for report in row.reports for one in report.results]
        for area, outcome in outcomes:
            found.setdefault(area, {}).setdefault(row.name, Counter())[outcome] += 1
    if not found:
        return None
    areas = sorted(found)

    def cell(area: str, name: str) -> Value:
        counts = found[area].get(name, Counter())
        if counts["failed"]:
            return Value(f"✗ {counts['failed']} failed", "bad")
        if counts["warned"]:
            return Value(f"! {counts['warned']} warned", "note")
        return Value(f"✓ {counts['passed']}", "ok") if counts["passed"] else Value(_NONE)

    names = [row.name for row in rows if any(row.name in of for of in found.values())]
    return Table(("Host", *areas), tuple((name, *(cell(area, name) for area in areas)) for name in names))


def _memory(rows: list[Row]) -> Bars | None:
    bars = []
    for row in rows:
        needed = plan(row.entry).needed_gpu_bytes
        if needed is None:
            continue
        there = row.standing.gtt if row.entry.settings.memory_regime == "gtt" else row.standing.vram
        text = f"{needed / GIB:.0f} GiB" + (f" of {there / GIB:.1f} GiB" if there else ", of what it does not say")
        fits: State = "plain" if there is None else "ok" if needed <= there else "bad"
        share = needed / there * 100 if there else 0.0
        bars.append(Bar(row.name, share, f"{text}{' ✗' if fits == 'bad' else ''}", state=fits))
    zones = Zone("what the host has", 0.0, 100.0), Zone("more than that", 100.0, None, "bad")
    return Bars("Needed, as a share of what the host has", tuple(bars), zones) if bars else None


def _versions(rows: list[Row]) -> tuple[tuple[Table, ...], tuple[str, ...]]:
    """A line for each host, and one for each thing that is not as it is locked."""
    lines: list[tuple[Value | str, ...]] = []
    other: list[tuple[Value | str, ...]] = []
    for row in rows:
        found = list(against_lock(row))
        wrong = [one for one in found if one[1] != one[2]]
        if found:
            as_locked = f"{len(found) - len(wrong)} of {len(found)}"
            lines.append((row.name, Value(f"{'✗' if wrong else '✓'} {as_locked}", "bad" if wrong else "ok")))
        other += ((row.name, what, locked[:26], Value(seen[:26] or "not there", "bad")) for what, locked, seen in wrong)
    if not lines:
        return (), ("There is no lock beside the inventory: `ojai lock` makes one.",)
    tables = [Table(("Host", "As locked"), tuple(lines))]
    if other:
        tables.append(Table(("Host", "What", "Locked", "There"), tuple(other)))
    return tuple(tables), ()
