"""``ojai verify``: is every host of an inventory what it should be?"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ojai.parameters import HostPattern, InventoryFile, resolved
from ojai.pyinfra_runs.verification import TIMEOUT, Verdict, merge_junit, verify


@click.command()
@click.argument("inventory", type=InventoryFile())
@click.option(
    "--limit", multiple=True, type=HostPattern(), metavar="PATTERN", help="Only these hosts or groups, as for pyinfra."
)
@click.option(
    "--disruptive",
    is_flag=True,
    help="Also kill the container and its engine, and reboot, to see the service come back. Interrupts service.",
)
@click.option(
    "--timeout",
    type=click.IntRange(min=1),
    metavar="SECONDS",
    help=f"Give a host up after this long. [default: {TIMEOUT}; with --disruptive longer, by the start times]",
)
@click.option("--junit", type=click.Path(dir_okay=False, writable=True), help="Write JUnit XML to this file.")
@click.option("--nagios", is_flag=True, help="One line for a monitoring system; exit status 0 or 2.")
@click.option("--json", "as_json", is_flag=True, help="Every check of every host as JSON.")
def command(
    inventory: str,
    limit: tuple[str, ...],
    disruptive: bool,
    timeout: int | None,
    junit: str | None,
    nagios: bool,
    as_json: bool,
) -> None:
    """Check what the hosts of INVENTORY really do, not what was written to them.

    Hosts are checked side by side over SSH; nothing on them is changed. A host that cannot be reached counts as
    failed and hides no other. Exit status: 0 all good, 1 something is not, 2 the call was wrong.
    """
    started = time.monotonic()
    # The checks run in the project's folder, whatever folder this is.
    inventory, entries = resolved(inventory, limit)
    hosts = [entry.name for entry in entries]
    # The container is killed, its engine is killed, the host is booted: three starts of each service of a host.
    starts = max((sum(one.start_timeout for one in entry.settings.services) for entry in entries), default=0)
    timeout_seconds = timeout or TIMEOUT + (3 * starts if disruptive else 0)
    quiet = nagios or as_json
    console = Console()
    if not quiet:
        click.echo(f"Checking {', '.join(hosts)} …", err=True)
    verdicts: list[Verdict] = []
    for verdict in verify(inventory, hosts, disruptive, timeout_seconds):
        verdicts.append(verdict)
        if not quiet:
            _show(console, verdict)
    verdicts.sort(key=lambda verdict: hosts.index(verdict.host))
    if junit:
        Path(junit).write_text(merge_junit(verdicts))
    ok = all(verdict.ok for verdict in verdicts)
    if nagios:
        click.echo(_nagios_line(verdicts, time.monotonic() - started))
        sys.exit(0 if ok else 2)
    if as_json:
        shown = [
            {"host": v.host, "good": v.ok, "trouble": v.error, "checks": [asdict(check) for check in v.checks]}
            for v in verdicts
        ]
        click.echo(json.dumps({"good": ok, "hosts": shown}, indent=2))
    elif len(verdicts) > 1:
        _summary(console, verdicts)
    sys.exit(0 if ok else 1)


def _show(console: Console, verdict: Verdict) -> None:
    title = f"{verdict.host}: {'as it should be' if verdict.ok else 'NOT as it should be'}"
    table = Table(title=title, title_justify="left", title_style="bold green" if verdict.ok else "bold red")
    for column in ("area", "check", "result"):
        table.add_column(column, overflow="fold")
    last = ""
    for check in verdict.checks:
        style = {"passed": "green", "failed": "red", "skipped": "dim"}[check.outcome]
        result = f"[{style}]{check.outcome}[/]"
        if check.message:
            result += f"\n{escape(check.message)}"
        table.add_row("" if check.area == last else check.area, check.name, result)
        last = check.area
    if verdict.error:
        table.add_row("host", "can be checked", f"[red]failed[/]\n{escape(verdict.error)}")
    console.print(table)
    console.print(
        f"{verdict.host}: {verdict.count('passed')} passed, {verdict.count('failed')} failed, "
        f"{verdict.count('skipped')} skipped in {sum(check.seconds for check in verdict.checks):.0f} s\n",
        highlight=False,
    )


def _summary(console: Console, verdicts: list[Verdict]) -> None:
    table = Table(title="All hosts", title_justify="left")
    for column in ("host", "verdict", "passed", "failed", "skipped"):
        table.add_column(column)
    for verdict in verdicts:
        word = "[green]good[/]" if verdict.ok else "[red]not good[/]"
        counts = [str(verdict.count(outcome)) for outcome in ("passed", "failed", "skipped")]
        table.add_row(verdict.host, word, *counts)
    console.print(table)


def _nagios_line(verdicts: list[Verdict], seconds: float) -> str:
    bad = [verdict.host for verdict in verdicts if not verdict.ok]
    passed = sum(verdict.count("passed") for verdict in verdicts)
    failed = sum(verdict.count("failed") for verdict in verdicts)
    word = "CRITICAL" if bad else "OK"
    where = f": {', '.join(bad)}" if bad else ""
    return f"OJAI {word} - {len(verdicts)} hosts, {passed} passed, {failed} failed in {seconds:.0f} seconds{where}"
