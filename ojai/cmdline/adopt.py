"""``ojai adopt``: take over machines that were set up by hand, or say in an inventory what they serve."""

from __future__ import annotations

import json
import pprint
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn, TextIO

import click
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ojai import accelerators
from ojai.containers import UnreadableError, inspection
from ojai.parameters import AcceleratorName, InventoryFile, find_deploy, limit_option, resolved
from ojai.preflight import owner
from ojai.preflight.host import failed_checks
from ojai.pyinfra_runs.collect import Answer, CollectError, collect_containers, collect_facts
from ojai.settings.inventory import Entry
from ojai.translation import Change, Translation, container_of, serves, translate

#: The setting, as pyinfra's ``--data`` takes it.
ADOPT = "adopt=true"

#: Columns of a table where there is no terminal to ask.
_WIDE = 160

_EPILOG = """\b
Examples:
  ojai adopt inventory/ojai.py                    show what would be taken over, ask, do it
  ojai adopt inventory/ojai.py --from-host        print what the host serves now
  ojai adopt --from run-gemma.sh                  the same for a script with a docker run
  docker inspect vllm-gemma4 vllm/vllm-openai-rocm:v0.20.1 | ojai adopt --from -

Exit status: 0 done, 1 a host could not be adopted or read, 2 usage error or faulty inventory.
"""


@click.command(epilog=_EPILOG)
@click.argument("inventory", type=InventoryFile(), required=False)
@limit_option
@click.option("--yes", "-y", is_flag=True, help="Do not ask first.")
@click.option("--from-host", is_flag=True, help="Print what the hosts serve now as services of an inventory.")
@click.option(
    "--from",
    "source",
    type=click.File(errors="replace"),
    help="Print what FILE starts: a script with its docker run, or what docker inspect prints. - is standard input.",
)
@click.option("--accelerator", type=AcceleratorName(), metavar="GPU", help="With --from: the GPU. Default: gfx1150.")
@click.option("--python", "as_python", is_flag=True, help="Print Python instead of YAML.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    inventory: str | None,
    limit: tuple[str, ...],
    yes: bool,
    from_host: bool,
    source: TextIO | None,
    accelerator: str | None,
    as_python: bool,
    as_json: bool,
) -> NoReturn:
    """Take over the hosts of INVENTORY that were set up by hand, as `adopt: true` does.

    What was found on each host is shown first, with what becomes of it. Weights and caches are used where they are, the
    server that runs gives way to the service of the inventory, and removal gives everything back.

    With --from-host or --from nothing is changed: what is served is printed as data for an inventory, and what would
    change in comments. Secrets are not printed; those that go into the environment file on the host are named.
    """
    if source is not None:
        if inventory or from_host:
            raise click.UsageError("--from reads a file: leave INVENTORY and --from-host out")
        try:
            found = translate(container_of(source.read()), accelerator or accelerators.DEFAULT)
        except UnreadableError as error:
            raise click.ClickException(f"{getattr(source, 'name', '<stdin>')}: {error}.") from None
        _print({"": [found]}, as_python, as_json)
        sys.exit(0)
    if not inventory:
        raise click.UsageError("name an INVENTORY, or a FILE with --from")
    inventory, entries = resolved(inventory, limit)
    try:
        if from_host:
            _read_hosts(inventory, entries, limit, as_python, as_json)
        names = [entry.name for entry in entries]
        _take_over(inventory, entries, collect_facts(inventory, names, limit, (ADOPT,)), yes)
    except CollectError as error:
        raise click.ClickException(str(error)) from None


def _read_hosts(
    inventory: str, entries: list[Entry], limit: tuple[str, ...], as_python: bool, as_json: bool
) -> NoReturn:
    answers, failures = collect_containers(inventory, [entry.name for entry in entries], limit)
    found: dict[str, list[Translation]] = {}
    for entry in entries:
        images = [one for one in answers.get(entry.name, []) if "HostConfig" not in one]
        containers = [one for one in answers.get(entry.name, []) if one not in images]
        serving = [container for one in containers if serves(container := inspection.one([one, *images]))]
        if not serving:
            failures.setdefault(entry.name, "no container that serves a model runs there")
            continue
        try:
            found[entry.name] = [translate(container, entry.settings.accelerator) for container in serving]
        except UnreadableError as error:
            failures[entry.name] = f"{error}."
    if found:
        _print(found, as_python, as_json)
    for name, failure in failures.items():
        click.echo(f"{name}: {failure}", err=True)
    sys.exit(1 if failures else 0)


def _take_over(inventory: str, entries: list[Entry], answers: dict[str, Answer], yes: bool) -> NoReturn:
    console = _console()
    ready: list[str] = []
    blocked = False
    for entry in entries:
        console.print(f"[bold]{entry.name}[/bold]", soft_wrap=True)
        findings, obstacles = _judge(entry, answers[entry.name])
        if findings:
            console.print(_findings(findings))
        elif not obstacles:
            console.print("Nothing was set up by hand: deploy to it as usual.")
        for obstacle in obstacles:
            console.print("[bold red]Blocked by:[/bold red] ", end="", soft_wrap=True)
            console.print(obstacle, soft_wrap=True, markup=False)
        blocked |= bool(obstacles)
        if findings and not obstacles:
            ready.append(entry.name)
    if not ready:
        sys.exit(blocked)
    if not yes:
        click.confirm(f"Adopt {', '.join(ready)}? Each server is away while ojai's starts.", abort=True)
    status = _deploy(inventory, ready)
    if status == 0:
        click.echo("Set `adopt: true` in the inventory of these hosts, so that it says what they are.")
    sys.exit(status or blocked)


def _judge(entry: Entry, answer: Answer) -> tuple[list[owner.Finding], list[str]]:
    """What was set up by hand on a host, and what forbids its adoption."""
    if answer.report is None:
        return [], [f"host: {answer.failure}"]
    if entry.settings.removed:
        return [], ["inventory: found removed: true; expected a host that is to serve"]
    settings = entry.settings.model_copy(update={"adopt": True})
    findings = owner.findings(settings.using(answer.report.owner.adopted), answer.report)
    return findings, [f"preflight: {failed}" for failed in failed_checks(settings, answer.report)]


def _deploy(inventory: str, names: Sequence[str]) -> int:
    deploy = find_deploy(inventory)
    folder = next((place for place in (deploy.parent, Path.cwd()) if (place / "config.py").is_file()), Path.cwd())
    argv = [sys.executable, "-m", "pyinfra", "--yes", "--data", ADOPT, inventory, str(deploy)]
    for name in names:
        argv += ["--limit", name]
    return subprocess.run(argv, cwd=folder, check=False).returncode


def _findings(findings: Sequence[owner.Finding]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("Set up by hand", "In the way", "What adoption does"):
        table.add_column(title, overflow="fold")
    for found in findings:
        plan = f"{found.plan} ({found.contradiction})" if found.contradiction else found.plan
        table.add_row(escape(found.what), "yes" if found.in_the_way else "no", escape(plan))
    return table


def _print(hosts: dict[str, list[Translation]], as_python: bool, as_json: bool) -> None:
    if as_json:
        documents = [
            {**({"host": host} if host else {}), "data": _data(found), "servers": [_document(one) for one in found]}
            for host, found in hosts.items()
        ]
        click.echo(json.dumps(documents if "" not in hosts else documents[0], indent=2))
        return
    for host, found in hosts.items():
        if host:
            click.echo(f"# {host}")
        if as_python:
            click.echo(pprint.pformat(_data(found), sort_dicts=False, width=100))
        else:
            click.echo(yaml.safe_dump(_data(found), sort_keys=False, allow_unicode=True, width=100).rstrip())
        for one in found:
            for line in _comments(one):
                click.echo(f"# {line}".rstrip())


def _data(found: Sequence[Translation]) -> dict[str, Any]:
    return {"services": [dict(one.service) for one in found]}


def _document(found: Translation) -> dict[str, Any]:
    changes = [{"kind": change.kind, **asdict(change)} for change in found.changes]
    return {**asdict(found), "service": dict(found.service), "changes": changes}


def _comments(found: Translation) -> Iterator[str]:
    if found.directories:
        caches = ", ".join(f"{name} {path}" for name, path in found.directories.items())
        yield f"Caches, which `adopt: true` uses where they are: {caches}."
    if found.secrets:
        yield f"Secrets, not shown: {', '.join(found.secrets)}. They go into {found.env_file} on the host."
    for text in found.warnings:
        yield f"Warning: {text}"
    for text in found.notes:
        yield f"Note: {text}"
    changed = [change for change in found.changes if not change.lost]
    lost = [change for change in found.changes if change.lost]
    for title, changes in (("What would change:", changed), ("What no setting can express, and is lost:", lost)):
        if changes:
            yield ""
            yield title
            yield from _table(changes)
    if not found.changes:
        yield "Nothing would change."


def _table(changes: list[Change]) -> Iterator[str]:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    for _ in range(3):
        table.add_column(overflow="fold")
    for kind in ("removed", "different", "added"):
        for change in changes:
            if change.kind == kind:
                table.add_row(kind, *map(escape, (change.what, _values(change), change.why)))
    console = _console()
    with console.capture() as text:
        console.print(table)
    yield from text.get().splitlines()


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False)


def _values(change: Change) -> str:
    values: list[Any] = [value for value in (change.theirs, change.ours) if value]
    return " → ".join(values) if change.kind == "different" else "".join(values)
