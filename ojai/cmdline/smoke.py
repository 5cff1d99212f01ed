"""``ojai smoke``: does a server do what its model can?"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import IO, TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ojai.schema.nearest import nearest
from ojai.serving import places, server_options

if TYPE_CHECKING:
    from ojai.smoke import Report

#: Hosts asked at the same time; a host's services are asked one after the other, since they share its GPU.
_MAX_WORKERS = 8

_STYLES = {"passed": "green", "failed": "red", "skipped": "dim"}

_EPILOG = """\b
Examples:
  ojai smoke inventory/ojai.py
  ojai smoke inventory/fleet.py --limit mini-03 --only streaming --only 'tool call'
  ojai smoke --url http://127.0.0.1:8000 --model google/gemma-4-E4B-it
  BOX_KEY=… ojai smoke --url https://box.example.net --model gemma --key-env BOX_KEY --junit smoke.xml

Exit status: 0 every check passed or does not apply, 1 one failed, or a host or server gave no answer, 2 usage error or
faulty inventory.
"""


def _complete_checks(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from ojai.smoke.checks import NAMES

    return [name for name in NAMES if name.startswith(incomplete)]


@click.command(epilog=_EPILOG)
@server_options
@click.option("--only", multiple=True, metavar="CHECK", shell_complete=_complete_checks, help="Only this check.")
@click.option(
    "--form-only",
    is_flag=True,
    help="Judge the form of answers and not what they say: for a model with random weights, or a stand-in.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="Longest wait for an answer. Long prompts get more, a second for 50 tokens.",
)
@click.option(
    "--first-token",
    type=click.FloatRange(min=0, min_open=True),
    default=10,
    show_default=True,
    metavar="SECONDS",
    help="Longest wait for the first content of a stream.",
)
@click.option("--junit", type=click.File("w", encoding="utf-8", lazy=False), help="Write JUnit XML to this file.")
@click.option("--json", "as_json", is_flag=True, help="Every check of every server as JSON.")
def command(
    inventory: str | None,
    limit: tuple[str, ...],
    url: str | None,
    model: str | None,
    key_env: str | None,
    use_sudo_password: bool,
    only: tuple[str, ...],
    form_only: bool,
    timeout: float,
    first_token: float,
    junit: IO[str] | None,
    as_json: bool,
) -> None:
    """Ask the services of the hosts in INVENTORY, or a server at --url, for all that they are configured to do.

    Chat, streams, thinking, tools, JSON, images, sound, film, long texts, many users, refusals: each check shows what
    was asked, what came and what was expected. Hosts are asked through SSH, so a service may listen on its host alone.
    It takes minutes, and the service is busy meanwhile.
    """
    # Imported here: OpenAI's client takes a second.
    from ojai.smoke import junit as junit_of
    from ojai.smoke.asking import Rules
    from ojai.smoke.checks import NAMES
    from ojai.smoke.hosts import ask

    for name in only:
        if name not in NAMES:
            near = nearest(name, NAMES)
            hint = f"did you mean {near}?" if near else f"known: {', '.join(NAMES)}"
            raise click.UsageError(f"--only {name}: there is no such check; {hint}")
    found = places(inventory, limit, url, model, key_env, use_sudo_password)
    rules = Rules(form_only=form_only, timeout=timeout, first_token=first_token)
    console = Console(quiet=as_json, highlight=False)
    reports: list[Report] = []
    progress = Console(stderr=True, quiet=as_json, highlight=False)
    progress.print(f"Asking {', '.join(escape(place.name) for place in found)} …", soft_wrap=True)
    with ThreadPoolExecutor(max_workers=_MAX_WORKERS) as pool, progress.status("…") as status:
        told: Callable[[str, str], None] = lambda name, said: status.update(escape(f"{name}: {said}"))  # noqa: E731
        for several in pool.map(lambda place: ask(place, inventory, rules, only, told), found):
            for report in several:
                reports.append(report)
                _show(console, report)
    if junit:
        junit.write(junit_of(reports))
    ok = all(report.ok for report in reports)
    if as_json:
        click.echo(json.dumps({"ok": ok, "servers": [{**asdict(one), "ok": one.ok} for one in reports]}, indent=2))
    elif len(reports) > 1:
        console.print(f"{sum(report.ok for report in reports)} of {len(reports)} servers are ok")
    sys.exit(0 if ok else 1)


def _show(console: Console, report: Report) -> None:
    line: Callable[..., None] = lambda text: console.print(text, soft_wrap=True)  # noqa: E731
    if report.error is not None:
        line(f"[bold red]NOT ASKED[/] {escape(report.error)}")
        return
    counts = ", ".join(f"{report.count(outcome)} {outcome}" for outcome in ("passed", "failed", "skipped"))
    state = "[bold green]ok[/]" if report.ok else "[bold red]FAILED[/]"
    line(f"{escape(report.server)} ({escape(report.model)}): {state} {counts}")
    table = Table(box=None, pad_edge=False)
    for heading, options in (("check", {"no_wrap": True}), ("", {"no_wrap": True}), ("s", {"justify": "right"})):
        table.add_column(heading, **options)
    table.add_column("what came, or why not", overflow="fold")
    for result in report.results:
        came: Any = escape(result.came)
        outcome = f"[{_STYLES[result.outcome]}]{result.outcome}[/]"
        table.add_row(result.name, outcome, f"{result.seconds:.1f}", came)
    console.print(table)
    for result in report.results:
        if result.outcome == "failed":
            line(f"[red]{escape(result.name)}[/]")
            for word in ("asked", "came", "expected"):
                line(f"  {word}: {escape(getattr(result, word))}")
