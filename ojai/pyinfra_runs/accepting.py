"""Accept differences of hosts from what their deploys recorded: ``ojai verify --accept WHAT --why TEXT``."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from datetime import UTC, datetime

import click

from ojai import surface
from ojai.pyinfra_runs.verification import Plan, told, verify
from ojai.schema.nearest import nearest
from ojai.settings import accepted
from ojai.settings.accepted import Note
from ojai.settings.inventory import Entry
from ojai.surface import Difference


def accept_differences(entries: Sequence[Entry], plan: Plan, what: Sequence[str], why: str) -> None:
    """Write a note of each of ``what`` for each host on which it differs now. UsageError where it differs on none."""
    files = {entry.name: accepted.beside(entry.lock) for entry in entries}
    by_name = {entry.name: entry for entry in entries}
    found: dict[str, list[Difference]] = {}
    for verdict in verify(list(entries), plan):
        answer = next(filter(None, (told(case, "surface") for case in verdict.suite.iter("testcase"))), "")
        if not answer:
            reason = verdict.error or next(
                (one.message for one in verdict.checks if one.outcome == "failed"), "no answer"
            )
            raise click.UsageError(f"--accept: {verdict.host} does not say how it is: {reason}")
        settings = by_name[verdict.host].settings
        found[verdict.host] = list(surface.unexplained(settings, surface.read(answer).differences))
    names = sorted({one.what for differences in found.values() for one in differences})
    for wanted in what:
        if wanted not in names:
            near = nearest(wanted, names)
            hint = f"did you mean {near}?" if near else f"unexplained are: {', '.join(names) or 'none'}"
            raise click.UsageError(f"--accept {wanted}: nothing of this name is unexplained; {hint}")
    at = datetime.now(UTC).strftime("%Y-%m-%d")
    for host, differences in sorted(found.items()):
        notes = [
            Note(host=host, what=one.what, state=one.state, why=why, by=getpass.getuser(), at=at)
            for one in differences
            if one.what in what
        ]
        file = files[host]
        if notes and file is None:
            raise click.UsageError("--accept: this inventory is no file, so there is no place beside it for a note")
        if notes and file:
            accepted.add(file, notes)
            for one in differences:
                if one.what in what:
                    click.echo(f"{host}: accepted in {file}: {one}")
