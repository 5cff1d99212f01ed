"""``ojai verify``: is every host of an inventory what it should be?"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import click
from rich.console import Console
from rich.markup import escape

import ojai
from ojai.gateway import open_meaning
from ojai.parameters import FileToWrite, InventoryFile, find_deploy, limit_option, resolved, sudo_password
from ojai.pyinfra_runs import kept, telling
from ojai.pyinfra_runs.accepting import accept_differences
from ojai.pyinfra_runs.verification import (
    DRIFT,
    TIMEOUT,
    ChecksError,
    Outcome,
    Plan,
    Verdict,
    areas,
    merge_junit,
    verify,
)
from ojai.report_html import Note, Page, Section, Table, Value, render
from ojai.report_html import State as HtmlState
from ojai.schema.nearest import nearest

#: What to do about failed checks of an area, beside running the deploy again.
_NEXT_STEPS = {
    "apt": "repair apt first: sudo apt-get -f install",
    "docker": "see its log: journalctl -u docker",
    "gateway": "see its log: journalctl -u ojai-gateway",
    "groups": "log in again: a session keeps the groups it began with",
    "kernel": "reboot the host yourself if kernel_reboot is `never`",
    "rocm": "run rocminfo on it",
    "surface": "undo what nobody meant; what is meant: ojai verify INVENTORY --accept WHAT --why TEXT",
    "vllm": "see its log: journalctl -u UNIT (ojai plan names the units)",
}

_STYLES = {"ok": "green", "failed": "red", "unreachable": "red", "timed out": "yellow", "not checked": "yellow"}

#: The area that tells what differs from what the last deploy recorded.
_SURFACE = "surface"

_EPILOG = """\b
Examples:
  ojai verify inventory/ojai.py
  ojai verify inventory/fleet.py --limit mini-03 --only docker --only drift
  ojai verify inventory/fleet.py --checks my-checks --junit verify.xml --html verify.html
  ojai verify inventory/ojai.py --accept /etc/udev/rules.d/60-ups.rules --why "the UPS, ticket 812"

Exit status: 0 every host is ok, 1 one is not, 2 usage error or faulty inventory. With --nagios: 0 OK, 2 CRITICAL
(a check failed, or a host cannot be reached), 3 UNKNOWN (it could not be checked).
"""


class _Command(click.Command):
    """Tells a monitoring system of a usage error as it expects: one line on standard output, status 3."""

    def _reported(self, call: Callable[[], Any], nagios: bool) -> Any:
        try:
            return call()
        except click.UsageError as error:
            if not nagios:
                raise
            click.echo(f"OJAI UNKNOWN - {' '.join(error.format_message().split())}")
            sys.exit(3)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        found: list[str] = self._reported(lambda: super(_Command, self).parse_args(ctx, args), "--nagios" in args)
        return found

    def invoke(self, ctx: click.Context) -> Any:
        return self._reported(lambda: super(_Command, self).invoke(ctx), ctx.params["nagios"])


def _complete_areas(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in areas(ctx.params.get("checks") or ()) if name.startswith(incomplete)]


@click.command(cls=_Command, epilog=_EPILOG)
@click.argument("inventory", type=InventoryFile())
@limit_option
@click.option(
    "--only", multiple=True, metavar="AREA", shell_complete=_complete_areas, help="Only the checks of this area."
)
@click.option(
    "--checks",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder of your own checks (test_*.py), run beside ours.",
)
@click.option(
    "--deploy",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The deploy that must find nothing to change. [default: deploy.py beside or above the inventory, or here]",
)
@click.option("--use-sudo-password", is_flag=True, help="Ask for sudo's password, once for all hosts.")
@click.option(
    "--disruptive",
    is_flag=True,
    help="Also kill the container and its engine, and reboot, to see the service come back. Interrupts service.",
)
@click.option(
    "--timeout",
    type=click.IntRange(min=1),
    metavar="SECONDS",
    help=f"Stop checking a host after this long. [default: {TIMEOUT}; with --disruptive longer, by the start times]",
)
@click.option("--strict", is_flag=True, help="Fail on warnings too: on any difference that nothing explains.")
@click.option("--deep", is_flag=True, help="Also hash what is known by its size and times: package files, models.")
@click.option(
    "--accept",
    multiple=True,
    metavar="WHAT",
    help="Note that this difference is meant, as it is now: in NAME.accepted.yaml beside the inventory.",
)
@click.option("--why", metavar="TEXT", help="The reason for --accept.")
@click.option("--timings", is_flag=True, help="Also show how long each area took.")
@click.option("--failed-only/--all", default=None, help="Show failed checks, or all. [default: all of a single host]")
@click.option("--junit", type=click.File("w", encoding="utf-8", lazy=False), help="Write JUnit XML to this file.")
@click.option(
    "--html",
    type=FileToWrite(),
    help="Also write a page with every check to this file.",
)
@click.option("--nagios", is_flag=True, help="One line for a monitoring system; exit status 0, 2 or 3.")
@click.option("--json", "as_json", is_flag=True, help="Every check of every host as JSON.")
def command(
    inventory: str,
    limit: tuple[str, ...],
    only: tuple[str, ...],
    checks: tuple[Path, ...],
    deploy: Path | None,
    use_sudo_password: bool,
    disruptive: bool,
    timeout: int | None,
    strict: bool,
    deep: bool,
    accept: tuple[str, ...],
    why: str | None,
    timings: bool,
    failed_only: bool | None,
    junit: IO[str] | None,
    html: Path | None,
    nagios: bool,
    as_json: bool,
) -> None:
    """Check the running state of the hosts in INVENTORY, and that a deploy would change nothing.

    Hosts are checked side by side over SSH; nothing on them is changed, but where `watch` is set the verdict is left
    for the alerts. A host that cannot be reached counts as failed and hides no other.
    """
    started = time.monotonic()
    if nagios and as_json:
        raise click.UsageError("--nagios and --json: choose one; each is all of the output")
    if bool(accept) != bool(why):
        raise click.UsageError("--accept and --why: give both, what is meant and the reason")
    if accept and (only or nagios or as_json):
        raise click.UsageError("--accept: looks at the surface only, and shows no checks")
    known = areas(checks)
    for area in only:
        if area not in known:
            near = nearest(area, known)
            hint = f"did you mean {near}?" if near else f"known: {', '.join(known)}"
            raise click.UsageError(f"--only {area}: there is no such area; {hint}")
    name = inventory
    # The checks run in a folder of their own, whatever folder this is.
    inventory, entries = resolved(inventory, limit)
    if use_sudo_password:
        password = sudo_password()
        entries = [replace(entry, data={**entry.data, "_sudo_password": password}) for entry in entries]
    # The container is killed, its engine is killed, the host is booted: three starts of each service of a host.
    starts = max((sum(one.start_timeout for one in entry.settings.services) for entry in entries), default=0)
    if accept:
        only = (_SURFACE,)
    chosen = [area for area in known if not only or area in only]
    deploy = (deploy or find_deploy(inventory)).resolve() if DRIFT in chosen else None
    plan = Plan(
        files=tuple(path for area in chosen for path in known[area]),
        deploy=deploy,
        disruptive=disruptive,
        strict=strict,
        deep=deep,
        timeout_seconds=timeout or TIMEOUT + (3 * starts if disruptive else 0),
    )
    console = Console(quiet=nagios or as_json)
    hosts = [entry.name for entry in entries]
    if not console.quiet:
        click.echo(f"Checking {', '.join(hosts)}{f' against {deploy}' if deploy else ''} …", err=True)
    verdicts: list[Verdict] = []
    if accept:
        accept_differences(entries, plan, accept, str(why))
        return
    try:
        for verdict in verify(entries, plan):
            verdicts.append(verdict)
            kept.keep(inventory, verdict)
            # Not of some areas alone: it would take the place of a verdict on all.
            if not only and (why := telling.tell(next(e for e in entries if e.name == verdict.host), verdict)):
                click.echo(f"{verdict.host}: those who watch it were not told: {why}", err=True)
            _show(console, verdict, len(hosts) > 1 if failed_only is None else failed_only, name, deploy)
            if timings:
                _show_timings(console, verdict)
    except ChecksError as error:
        raise click.UsageError(f"--checks: found files that cannot be imported: {error}") from None
    if not console.quiet:
        for entry in entries:
            for text in open_meaning(entry.settings):
                click.echo(f"{entry.name}: {text}", err=True)
    verdicts.sort(key=lambda verdict: hosts.index(verdict.host))
    if junit:
        junit.write(merge_junit(verdicts))
    if html:
        html.write_text(render(_page(verdicts, name, deploy)), encoding="utf-8")
    if nagios:
        line, status = _nagios(verdicts, time.monotonic() - started)
        click.echo(line)
        sys.exit(status)
    ok = all(verdict.ok for verdict in verdicts)
    if as_json:
        shown = [
            {"host": v.host, "ok": v.ok, "state": v.state, "error": v.error, "checks": [asdict(c) for c in v.checks]}
            for v in verdicts
        ]
        click.echo(json.dumps({"ok": ok, "hosts": shown}, indent=2))
    elif len(verdicts) > 1:
        console.print(f"{sum(v.ok for v in verdicts)} of {len(verdicts)} hosts are ok", highlight=False)
    sys.exit(0 if ok else 1)


def _show(console: Console, verdict: Verdict, failed_only: bool, inventory: str, deploy: Path | None) -> None:
    outcomes: tuple[Outcome, ...] = ("passed", "failed", "skipped", "warned")
    shown = [outcome for outcome in outcomes if outcome != "warned" or verdict.count(outcome)]
    counts = ", ".join(f"{verdict.count(outcome)} {outcome}" for outcome in shown)
    summary = verdict.error or f"{counts} in {verdict.seconds:.0f} s"
    state = "ok" if verdict.ok else verdict.state.upper()
    console.print(
        f"{escape(verdict.host)}: [bold {_STYLES[verdict.state]}]{state}[/] {escape(summary)}",
        highlight=False,
        soft_wrap=True,
    )
    for check in verdict.checks:
        if check.outcome in ("failed", "warned") or not failed_only:
            style = {"passed": "green", "warned": "yellow", "failed": "red", "skipped": "dim"}[check.outcome]
            message = check.message.replace("\n", "\n      ")
            text = f"  [{style}]{check.outcome}[/] {check.area}: {escape(check.name)}"
            console.print(text + (f": {escape(message)}" if message else ""), highlight=False, soft_wrap=True)
    for step in _next_steps(verdict, inventory, deploy):
        console.print(f"  Next: {escape(step)}", highlight=False, soft_wrap=True)


def _show_timings(console: Console, verdict: Verdict) -> None:
    """Seconds by area, the longest first; areas run one after the other, and the dry run beside them."""
    areas = dict.fromkeys(check.area for check in verdict.checks)
    seconds = {area: sum(check.seconds for check in verdict.checks if check.area == area) for area in areas}
    for area, value in sorted(seconds.items(), key=lambda one: -one[1]):
        console.print(f"  {value:6.2f} s  {area}", highlight=False)


def _page(verdicts: list[Verdict], inventory: str, deploy: Path | None) -> Page:
    """The verdicts as a page: hosts that are not ok, and checks that failed, first."""
    states: dict[str, HtmlState] = {"passed": "ok", "warned": "note", "failed": "bad", "skipped": "note"}
    sections = []
    for verdict in sorted(verdicts, key=lambda one: one.ok):
        checks = sorted(verdict.checks, key=lambda check: check.outcome != "failed")
        rows = tuple((Value(one.outcome, states[one.outcome]), one.area, one.name, one.message) for one in checks)
        notes = tuple(Note("Next", step, state="note") for step in _next_steps(verdict, inventory, deploy))
        table = (Table(("outcome", "area", "check", "why"), rows),) if rows else ()
        sections.append(
            Section(f"{verdict.host}: {verdict.state}", (*notes, *table), (verdict.error,) if verdict.error else ())
        )
    good = sum(verdict.ok for verdict in verdicts)
    return Page(
        title=f"Hosts of {inventory}",
        verdict=Value(f"{good} of {len(verdicts)} hosts are ok.", "ok" if good == len(verdicts) else "bad"),
        sections=tuple(sections),
        about=(("Checked", datetime.now(UTC).isoformat(timespec="seconds")), ("Against", str(deploy or "no deploy"))),
        foot=f"Made by ojai {ojai.__version__}.",
    )


def _next_steps(verdict: Verdict, inventory: str, deploy: Path | None) -> list[str]:
    """What to do about the failed checks of a host."""
    if verdict.state != "failed":
        return []
    found = dict.fromkeys(check.area for check in verdict.checks if check.outcome == "failed")
    file = str(deploy or find_deploy(inventory))
    run = shlex.join(["pyinfra", inventory, file, "--limit", verdict.host])
    return [f"run the deploy again: {run}", *(f"{area}: {_NEXT_STEPS[area]}" for area in found if area in _NEXT_STEPS)]


def _nagios(verdicts: list[Verdict], seconds: float) -> tuple[str, int]:
    """The line and the exit status that Nagios' plugin conventions ask for."""
    states = {verdict.state for verdict in verdicts}
    word, status = ("UNKNOWN", 3) if states - {"ok"} else ("OK", 0)
    if states & {"failed", "unreachable"}:
        word, status = "CRITICAL", 2
    found = []
    for state in ("unreachable", "failed", "timed out", "not checked"):
        names = [_nagios_name(verdict) for verdict in verdicts if verdict.state == state]
        found += [f"{state}: {', '.join(names)}"] if names else []
    passed, failed = (sum(verdict.count(outcome) for verdict in verdicts) for outcome in ("passed", "failed"))
    counts = f"{len(verdicts)} hosts, {passed} passed, {failed} failed in {seconds:.0f} seconds"
    return f"OJAI {word} - {'; '.join([counts, *found])}", status


def _nagios_name(verdict: Verdict) -> str:
    wrong = dict.fromkeys(check.area for check in verdict.checks if check.outcome == "failed")
    return f"{verdict.host} ({', '.join(wrong)})" if wrong else verdict.host
