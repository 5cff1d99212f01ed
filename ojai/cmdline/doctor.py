"""``ojai doctor``: what is wrong, and what to do?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import click
from rich.console import Console

from ojai.diagnosis import Diagnosis, diagnose, read_log
from ojai.doctor import BundleError, Results, case, document, examine, pack, shown, unpack
from ojai.gauge.result import ResultError, Run, folder_beside, load, place_of
from ojai.parameters import FileToWrite, InventoryFile, find_deploy, limit_option, resolved
from ojai.pyinfra_runs import kept
from ojai.pyinfra_runs.collect import CollectError, collect_conditions
from ojai.settings.inventory import Entry

_EPILOG = """\b
Examples:
  ojai doctor inventory/ojai.py
  ojai doctor inventory/fleet.py --limit mini-03 --json
  ojai doctor inventory/ojai.py --fix
  ojai doctor inventory/ojai.py --bundle mini.json
  ojai doctor --from mini.json
  journalctl -u vllm-gemma4 -o json | ojai doctor --log -

Exit status: 0 nothing is wrong (with --fix: any more), 1 something is, or a host gave no answer, 2 usage error or
faulty inventory. What could merely be better (a note), and what was before a service last came up, is nothing wrong.
"""

#: What the ranks of findings are called.
MARKS = {
    "cause": "cause",
    "general": "cause",
    "unknown": "cause",
    "flaw": "flaw",
    "consequence": "seen too",
    "note": "note",
}


@click.command(epilog=_EPILOG)
@click.argument("inventory", type=InventoryFile(), required=False)
@limit_option
@click.option(
    "--log",
    type=click.File("r", encoding="utf-8", errors="replace"),
    help="Read this log instead: a journal (also as JSON), a container's, or the kernel's. `-`: standard input.",
)
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read this bundle instead; no host is connected to.",
)
@click.option(
    "--bundle",
    type=FileToWrite(),
    help="Also write what the hosts answered to this file, with the last results of verify, smoke and bench, without "
    "secrets, for whoever is to help.",
)
@click.option(
    "--fix", is_flag=True, help="Then mend by the deploy what it can mend: show what it will change, ask, and run it."
)
@click.option(
    "--deploy",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="With --fix: the deploy. [default: deploy.py beside or above the inventory, or here]",
)
@click.option("--yes", "-y", is_flag=True, help="With --fix: do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    inventory: str | None,
    limit: tuple[str, ...],
    log: IO[str] | None,
    source: Path | None,
    bundle: Path | None,
    fix: bool,
    deploy: Path | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Find out why a host of INVENTORY does not serve, or not well: causes, most likely first, each with what to do.

    Logs, units, containers, the server and the hardware are looked at in one command a host, which also works where
    Docker, the driver or the disk does not. Without --fix nothing is changed. A server that is well is asked one short
    question.
    """
    given = [
        name for name, value in (("INVENTORY", inventory), ("--log", log), ("--from", source)) if value is not None
    ]
    if len(given) != 1:
        raise click.UsageError(f"found {' and '.join(given) or 'nothing to look at'}; give INVENTORY, --log or --from")
    if bundle and not inventory:
        raise click.UsageError("--bundle: give INVENTORY; a bundle is made of what hosts answer")
    if (fix or yes or deploy) and (not fix or not inventory or as_json):
        raise click.UsageError("--fix: give INVENTORY, and no --json; --deploy and --yes are for --fix")
    if log is not None:
        found = {str(getattr(log, "name", "-")): [shown(one) for one in diagnose(read_log(log))]}
    elif source is not None:
        try:
            found = {one.name: [shown(each) for each in examine(one)] for one in unpack(source)}
        except BundleError as error:
            raise click.UsageError(str(error)) from None
    else:
        found = _asked(str(inventory), limit, bundle)
    if as_json:
        click.echo(json.dumps(_documents(found, "log" if log is not None else "host"), indent=2))
    else:
        console = Console(highlight=False, soft_wrap=True)
        for number, (name, diagnoses) in enumerate(found.items()):
            if number:
                console.print()
            _show(console, name, diagnoses)
    if fix and _fixed(str(inventory), found, deploy, yes):
        found = _asked(str(inventory), limit, bundle)
        for name, diagnoses in found.items():
            click.echo()
            _show(Console(highlight=False, soft_wrap=True), name, diagnoses)
    sys.exit(1 if any(_ill(diagnoses) for diagnoses in found.values()) else 0)


def _asked(inventory: str, limit: tuple[str, ...], bundle: Path | None) -> dict[str, list[Diagnosis]]:
    inventory, entries = resolved(inventory, limit)
    try:
        answers, failures = collect_conditions(inventory, [entry.name for entry in entries], limit)
    except CollectError as error:
        raise click.ClickException(str(error)) from None
    now = time.time()
    cases = [
        case(
            entry.name,
            entry.data,
            now,
            answers.get(entry.name),
            failures.get(entry.name, ""),
            _results(inventory, entry),
        )
        for entry in entries
    ]
    if bundle:
        text = pack(cases, datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"))
        # It has what only root may read on the host.
        with open(bundle, "w", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(f"{text}\n")
        for one in cases:
            having = {*(check.by for check in one.results.checks), *("bench" for _ in one.results.bench)}
            if lacking := [f"`ojai {name}`" for name in ("verify", "smoke", "bench") if name not in having]:
                todo = (
                    "run them first if it is to have them" if len(lacking) > 1 else "run it first if it is to have it"
                )
                click.echo(f"{one.name}: no result of {', '.join(lacking)} is here; {todo}", err=True)
        click.echo(f"{bundle}: {len(cases)} host{'s' * (len(cases) > 1)}; read it before you send it", err=True)
    return {
        one.name: [shown(each) for each in examine(one, entry.data)] for one, entry in zip(cases, entries, strict=True)
    }


def _results(inventory: str, entry: Entry) -> Results:
    """What was last found of a host from this computer."""
    runs: list[Run] = []
    for service in entry.settings.resolved:
        place = place_of(folder_beside(inventory), entry.name, service.name)
        try:
            runs += [load(place)] if place.is_dir() else []
        except ResultError as error:
            click.echo(f"{entry.name}: passed over: {error}", err=True)
    return Results(kept.kept(inventory, entry.name), tuple(runs))


def _fixed(inventory: str, found: dict[str, list[Diagnosis]], deploy: Path | None, yes: bool) -> bool:
    """Run the deploy for the hosts that it mends something of; whether it was run."""
    hosts = []
    for name, diagnoses in found.items():
        wrong = [one for one in diagnoses if one.finding.rank not in ("note", "consequence") and not one.past]
        # What an edited unit asks for goes with it; what stays is seen when the host is looked at again.
        edited = any(one.finding.code == "unit-edited" for one in wrong)
        for one in wrong:
            if not one.finding.deploy_mends and not edited:
                click.echo(f"{name}: only its owner can mend {one.finding.code}: {one.finding.fix}")
        # The service is down, and nothing says why: the deploy starts it.
        if any(one.finding.deploy_mends for one in wrong) or (not wrong and _ill(diagnoses)):
            hosts.append(name)
    if not hosts:
        click.echo("The deploy would mend nothing.")
        return False
    file = Path(inventory)
    inventory = str(file.resolve()) if file.is_file() else inventory
    argv = [sys.executable, "-P", "-m", "pyinfra", inventory, str(deploy or find_deploy(inventory))]
    for name in hosts:
        argv += ["--limit", name]
    click.echo(f"\nWhat the deploy will change on {', '.join(hosts)}:")
    # With --yes pyinfra would not say what changes. Without, it asks whether to go on where a host fails: Enter is yes.
    if subprocess.run([*argv, "--dry", "--diff"], input="\n" * len(hosts), text=True, check=False).returncode:
        raise click.ClickException("the deploy cannot be run: its message is above")
    if not yes:
        click.confirm(f"Run the deploy on {', '.join(hosts)}?", abort=True)
    subprocess.run([*argv, "--yes"], check=False)
    return True


def _ill(diagnoses: list[Diagnosis]) -> bool:
    return any(one.finding.rank != "note" and not one.past for one in diagnoses)


def _documents(found: dict[str, list[Diagnosis]], kind: str) -> dict[str, Any]:
    documents = [
        {
            kind: name,
            "ok": not _ill(diagnoses),
            "findings": [document(one) for one in diagnoses if one.finding.rank != "note"],
            "notes": [document(one) for one in diagnoses if one.finding.rank == "note"],
        }
        for name, diagnoses in found.items()
    ]
    return documents[0] if kind == "log" else {"hosts": documents}


def _show(console: Console, name: str, diagnoses: list[Diagnosis]) -> None:
    state = "[red]something is wrong[/red]" if _ill(diagnoses) else "[green]nothing is wrong[/green]"
    console.print(f"[bold]{name}[/bold]: ", end="")
    console.print(state)
    for one in diagnoses:
        past = ", before it last came up" if one.past else ""
        console.print(f"\n[bold]{MARKS[one.finding.rank]}{past}[/bold] ", end="")
        console.print(f"{one.finding.code}: {one.finding.cause}", markup=False)
        console.print(f"  What to do: {one.finding.fix}", markup=False)
        for line in one.evidence:
            place = f"line {line.number}" if line.number else "found"
            console.print(f"  {place}: {line.text.strip()[:400]}", markup=False)
