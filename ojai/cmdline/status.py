"""``ojai status``: how the services of an inventory are at this moment."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

import ojai
from ojai import report_html
from ojai.facts.status import HostStatus, ServiceStatus
from ojai.parameters import FileToWrite, InventoryFile, find_deploy, limit_option, resolved
from ojai.pyinfra_runs import kept
from ojai.pyinfra_runs.collect import CollectError, collect_statuses
from ojai.pyinfra_runs.kept import Drift
from ojai.pyinfra_runs.verification import DRIFT, Plan, areas, verify
from ojai.report_html import Note, Page, Section, Value, render
from ojai.report_html import State as HtmlState
from ojai.settings.inventory import Entry
from ojai.sizes import GB, GIB

_EPILOG = """\b
Examples:
  ojai status inventory/ojai.py
  ojai status inventory/fleet.py --limit mini-03 --watch 10
  ojai status inventory/fleet.py --html status.html
  ojai status inventory/fleet.py --json | jq -r '.services[] | select(.serves | not) | .host'

Exit status: 0 every service serves, or Ctrl-C ended --watch, 1 one does not, or a host gave no answer, 2 usage error or
faulty inventory.
"""

#: What is not known.
_NONE = "-"

#: What is shown of a service, and of its host.
_TITLES = (
    *("Service", "State", "Since", "Model", "Running", "Waiting", "Tokens/s", "KV cache", "Tuning"),
    *("GPU memory", "Busy", "Temp.", "Disk", "Last deploy", "Drift"),
)

#: How many titles after the state are of the service.
_OF_SERVICE = 7


@dataclass(frozen=True)
class _Row:
    """A service of a host, or a host without one; ``service`` is what the host says of it."""

    entry: Entry
    name: str
    host: HostStatus
    service: ServiceStatus | None
    failure: str
    drift: Drift | None

    @property
    def serves(self) -> bool:
        return bool(self.service and self.service.health == 200)

    @property
    def well(self) -> bool:
        """Whether nothing is missing: it serves, or nothing should."""
        return self.serves or not (self.name or self.failure)

    @property
    def state(self) -> str:
        """In a word or two."""
        service = self.service
        if self.failure:
            return "unreachable"
        if not self.name:
            return "no service"
        if service is None or (service.active is None and not self.serves):
            return _NONE
        if service.load in ("not-found", "masked"):
            return {"not-found": "not deployed"}.get(service.load, service.load)
        if self.serves:
            return "serves"
        if service.sub == "auto-restart":
            return "restarts"
        return {"active": "not ready", "activating": "not ready", "inactive": "stopped"}.get(
            str(service.active), str(service.active)
        )


@click.command(epilog=_EPILOG)
@click.argument("inventory", type=InventoryFile())
@limit_option
@click.option(
    "--drift", is_flag=True, help="Look for drift now, by a dry run of the deploy. Default: the last verify's."
)
@click.option(
    "--watch",
    type=click.IntRange(min=1),
    metavar="SECONDS",
    is_flag=False,
    flag_value=5,
    help="Ask again and again, with this pause between. [without SECONDS: 5]",
)
@click.option("--html", type=FileToWrite(), help="Also write a page to this file; with --watch, anew at each reading.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, amounts in bytes; with --watch, a line a reading.")
def command(
    inventory: str, limit: tuple[str, ...], drift: bool, watch: int | None, html: Path | None, as_json: bool
) -> None:
    """Show how the services of INVENTORY are, a line each.

    Each host is asked by one command, which takes two seconds, since speed is counted between two looks. What a host
    does not say is shown as `-`. Speed is that of all requests together; `last deploy` is when the last one ended.
    """
    inventory, entries = resolved(inventory, limit)
    if drift:
        _look(inventory, entries)
    try:
        while True:
            try:
                rows = list(_asked(inventory, limit, entries))
            except CollectError as error:
                raise click.ClickException(str(error)) from None
            if html:
                html.write_text(render(_page(rows, inventory)), encoding="utf-8")
            if as_json:
                document = {"inventory": inventory, "services": [_document(row) for row in rows]}
                click.echo(json.dumps(document, indent=None if watch else 2))
            else:
                if watch:
                    click.clear()
                _show(rows)
            if watch is None:
                sys.exit(0 if all(row.well for row in rows) else 1)
            time.sleep(watch)
    except KeyboardInterrupt:  # how watching ends
        if watch is None:
            raise


def _look(inventory: str, entries: list[Entry]) -> None:
    files = tuple(areas()[DRIFT])
    for verdict in verify(entries, Plan(files, find_deploy(inventory))):
        kept.keep(inventory, verdict)


def _asked(inventory: str, limit: tuple[str, ...], entries: list[Entry]) -> Iterator[_Row]:
    answers, failures = collect_statuses(inventory, [entry.name for entry in entries], limit)
    for entry in entries:
        host = answers.get(entry.name, HostStatus())
        said = {service.name: service for service in host.services}
        names = [service.name for service in entry.settings.resolved] or [""]
        drift = kept.drift(inventory, entry.name)
        for name in names:
            yield _Row(entry, name, host, said.get(name), failures.get(entry.name, ""), drift)


def _gpu_memory(row: _Row) -> tuple[int | None, int | None]:
    """Used and all of the memory that the host's services live in."""
    host = row.host
    if row.entry.settings.memory_regime == "gtt":
        return host.gtt_used, host.gtt_total
    return host.vram_used, host.vram_total


def _document(row: _Row) -> dict[str, Any]:
    host = asdict(row.host)
    del host["services"]
    used, total = _gpu_memory(row)
    service = asdict(row.service or ServiceStatus(row.name))
    return {
        "host": row.entry.name,
        "service": row.name or None,
        "state": row.state,
        "serves": row.serves,
        "failure": row.failure or None,
        **{name: value for name, value in service.items() if name != "name"},
        "gpu_memory_used": used,
        "gpu_memory_total": total,
        **host,
        "drift": asdict(row.drift) if row.drift else None,
    }


def _show(rows: list[_Row]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in _TITLES:
        table.add_column(title, no_wrap=True, justify="right" if title in _TITLES[4:-2] else "left")
    for row in rows:
        service, state, *others = _cells(row)
        style = {"serves": "green", "unreachable": "red"}.get(state, "")
        table.add_row(service, Text(state, style), *others)
    # A line a service, also where the terminal is narrower: it breaks lines by itself.
    console = Console(highlight=False, width=500)
    console.print(table)
    for name, failure in {row.entry.name: row.failure for row in rows if row.failure}.items():
        console.print(f"{name}: {failure}", style="red", markup=False, soft_wrap=True)


def _page(rows: list[_Row], inventory: str) -> Page:
    """The same as a page: what does not serve first; services, then their hosts."""
    services: list[tuple[Value | str, ...]] = []
    hosts: dict[str, tuple[str, ...]] = {}
    for row in sorted(rows, key=lambda row: row.well):
        service, state, *others = _cells(row)
        color: HtmlState = "ok" if row.serves else "plain" if row.well else "bad"
        services.append((service, Value(state, color), *others[:_OF_SERVICE]))
        hosts[row.entry.name] = (row.entry.name, *others[_OF_SERVICE:])
    failures = {row.entry.name: row.failure for row in rows if row.failure}
    asked = [row for row in rows if row.name or row.failure]
    good = sum(row.serves for row in asked)
    return Page(
        title=f"Services of {inventory}",
        verdict=Value(f"{good} of {len(asked)} services serve.", "ok" if all(row.well for row in rows) else "bad"),
        sections=(
            Section(
                "Services",
                (
                    *(Note(name, failure, state="bad") for name, failure in failures.items()),
                    report_html.Table(_TITLES[: 2 + _OF_SERVICE], tuple(services)),
                ),
            ),
            Section("Hosts", (report_html.Table(("Host", *_TITLES[2 + _OF_SERVICE :]), tuple(hosts.values())),)),
        ),
        about=(("Asked", datetime.now(UTC).isoformat(timespec="seconds")),),
        foot=f"Made by ojai {ojai.__version__}. What a host does not say is shown as {_NONE}.",
    )


def _cells(row: _Row) -> Iterator[str]:
    host, service = row.host, row.service or ServiceStatus(row.name)
    now = host.now
    yield f"{row.entry.name}{'/' if row.name else ''}{row.name}"
    yield row.state
    yield _ago(now, service.since) if service.active == "active" else _NONE
    yield service.model or _NONE
    yield _given(service.running, "{}")
    yield _given(service.waiting, "{}")
    yield _given(service.tokens_per_second, "{:.1f}")
    yield _given(None if service.kv_cache is None else 100 * service.kv_cache, "{:.0f} %")
    yield service.tuning or _NONE
    used, total = _gpu_memory(row)
    yield _NONE if used is None else f"{used / GIB:.1f}{'' if total is None else f' of {total / GIB:.1f}'} GiB"
    yield _given(host.gpu_busy, "{:.0f} %")
    yield _given(host.gpu_celsius, "{:.0f} °C")
    yield _given(None if host.disk_free is None else host.disk_free / GB, "{:.0f} GB free")
    yield "running" if host.deploying else _ago(now, host.deployed, " ago")
    if row.drift is None:
        yield _NONE
    else:
        yield f"{'yes' if row.drift.drifted else 'none'}, {_ago(time.time(), row.drift.when, ' ago')}"


def _given(value: float | None, form: str) -> str:
    return _NONE if value is None else form.format(value)


def _ago(now: float | None, when: float | None, after: str = "") -> str:
    """How long ago, in its two largest units."""
    if now is None or when is None:
        return _NONE
    seconds = max(0, int(now - when))
    units = (("d", seconds // 86400), ("h", seconds // 3600 % 24), ("min", seconds // 60 % 60), ("s", seconds % 60))
    first = next((place for place, (_, count) in enumerate(units) if count), len(units) - 1)
    return " ".join(f"{count} {unit}" for unit, count in units[first : first + 2]) + after
