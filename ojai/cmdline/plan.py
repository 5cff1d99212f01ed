"""`ojai plan`: what each host of an inventory would serve, before anything on it is touched."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.table import Table

from ojai.engines import ResolvedService
from ojai.parameters import Amount, InventoryFile, limit_option, resolved
from ojai.plan import HostPlan, plan
from ojai.pyinfra_runs.collect import CollectError, collect_facts
from ojai.settings.inventory import Entry
from ojai.sizes import GB, GIB, format_gib

#: Columns that a line of a command may take, unless one word alone is longer.
_LINE = 96

#: More hosts than this are shown as one line each, unless --details is given.
FEW = 5

_EPILOG = """\b
Examples:
  ojai plan inventory/ojai.py
  ojai plan inventory/fleet.py --limit edge --gpu-memory 64GiB
  ojai plan inventory/fleet.py --facts
  ojai plan inventory/fleet.py --details
  ojai plan inventory/ojai.py --json | jq -r '.hosts[].services[].command.docker_argv | @sh'

Exit status: 0 every host can serve what is asked of it, 1 one cannot or did not answer, 2 usage error or an error in
the inventory.
"""


@click.command(epilog=_EPILOG)
@click.argument("inventory", type=InventoryFile())
@limit_option
@click.option(
    "--gpu-memory",
    type=Amount(),
    help="GPU memory to assume for hosts with a BIOS carve-out. Default: the smallest that is enough.",
)
@click.option("--facts", is_flag=True, help="Connect, use what the hosts report, and run preflight's checks.")
@click.option("--details", is_flag=True, help=f"Show every command and budget, also for more than {FEW} hosts.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, amounts in bytes.")
def command(
    inventory: str, limit: tuple[str, ...], gpu_memory: int | None, facts: bool, details: bool, as_json: bool
) -> NoReturn:
    """Show what each host of INVENTORY would serve: the command of every service and its memory budget.

    Nothing is changed, and without --facts no host is connected to: how much memory the GPU has is then an assumption,
    and shown as one. More than 5 hosts are listed with one line each.
    """
    inventory, entries = resolved(inventory, limit)
    try:
        plans = list(_asked(inventory, limit, entries, gpu_memory) if facts else _assumed(entries, gpu_memory))
    except CollectError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        document = {"inventory": inventory, "facts": facts, "hosts": [_document(found) for found in plans]}
        print(json.dumps(document, indent=2))
    else:
        console = Console(highlight=False)
        if len(plans) > FEW:
            _summary(console, plans)
        if details or len(plans) <= FEW:
            for number, found in enumerate(plans):
                if number or len(plans) > FEW:
                    console.print()
                _show(console, found)
    sys.exit(1 if any(found.obstacles for found in plans) else 0)


def _assumed(entries: list[Entry], gpu_memory: int | None) -> Iterator[HostPlan]:
    for entry in entries:
        yield plan(entry, gpu_bytes=gpu_memory)


def _asked(inventory: str, limit: tuple[str, ...], entries: list[Entry], gpu_memory: int | None) -> Iterator[HostPlan]:
    answers = collect_facts(inventory, [entry.name for entry in entries], limit, upstream=True)
    for entry in entries:
        answer = answers[entry.name]
        yield plan(entry, gpu_bytes=gpu_memory, report=answer.report, failure=answer.failure or None)


def _document(found: HostPlan) -> dict[str, Any]:
    document = found.model_dump(mode="json")
    document["ready"] = not found.obstacles
    for entry, planned in zip(document["services"], found.services, strict=True):
        entry["command"] = _command(planned.service)
    return document


def _command(service: ResolvedService) -> dict[str, Any]:
    command = service.command
    return {
        "name": service.name,
        "profile": service.profile.name,
        "docker_argv": command.docker_argv,
        "engine_argv": command.engine_argv,
        "environment": command.environment,
        "env_file": service.env_file,
        "image": service.image,
        "follows": service.follows,
        "model": service.model,
        "served_model_name": command.served_model_name,
        "host": service.host,
        "port": service.port,
        "mounts": command.mounts,
        "features": service.features.model_dump(mode="json", exclude_none=True),
        "allowed": [asdict(refusal) for refusal in service.allowed],
    }


def _summary(console: Console, plans: list[HostPlan]) -> None:
    """A line a host, then what blocks which host."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("Host", "Serves"):
        table.add_column(title, overflow="fold")
    for title in ("GPU memory", "Least"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("Ready", no_wrap=True)
    for found in plans:
        serves = ", ".join(f"{one.service.profile.name}:{one.service.port}" for one in found.services)
        memory = found.gpu_memory
        table.add_row(
            found.name,
            serves or ("nothing (removed)" if found.removed else "nothing"),
            f"{format_gib(memory.bytes)}{' *' if memory.assumed else ''}" if memory else "",
            format_gib(found.needed_gpu_bytes) if found.needed_gpu_bytes else "",
            "[red]no[/red]" if found.obstacles else "[green]yes[/green]",
        )
    console.print(table)
    if any(found.gpu_memory and found.gpu_memory.assumed for found in plans):
        console.print("\n* assumed; --facts asks the hosts")
    blocked = [found for found in plans if found.obstacles]
    console.print(f"\n{len(plans)} hosts, {len(blocked)} blocked. --details shows commands and budgets.")
    for kind, lines in (
        ("Blocked by", _by_text(plans, lambda found: found.obstacles)),
        ("Warning", _by_text(plans, lambda found: [text for one in found.services for text in one.warnings])),
    ):
        for text, names in lines.items():
            console.print(f"[bold]{kind}:[/bold] ", end="", soft_wrap=True)
            console.print(f"{text} ({_named(names)})", soft_wrap=True, markup=False)


def _by_text(plans: list[HostPlan], texts: Callable[[HostPlan], Iterable[str]]) -> dict[str, list[str]]:
    """Each text once, with the hosts that it is about."""
    found: dict[str, list[str]] = {}
    for one in plans:
        for text in dict.fromkeys(texts(one)):
            found.setdefault(text, []).append(one.name)
    return found


def _named(names: list[str]) -> str:
    few = ", ".join(names[:FEW])
    return f"{few} and {len(names) - FEW} more" if len(names) > FEW else few


def _show(console: Console, found: HostPlan) -> None:
    groups = f"  [dim]{', '.join(found.groups)}[/dim]" if found.groups else ""
    console.print(f"[bold]{found.name}[/bold]{groups}", soft_wrap=True)
    if found.removed:
        console.print("Serves nothing: what the roles added is to be removed.")
    elif not found.services:
        console.print("Serves nothing: its list of services is empty.")
    if found.gpu_memory is not None:
        console.print(f"GPU memory: {found.gpu_memory}", soft_wrap=True, markup=False)
        console.print(f"Least for all services: {_least(found)}", soft_wrap=True, markup=False)
        console.print(_table(found))
    for line in found.to_fetch:
        console.print(f"{line}.", soft_wrap=True, markup=False)
    for service in found.services:
        console.print(f"\n[bold]{service.unit}[/bold], {service.title}", soft_wrap=True)
        if service.budget.fits:
            console.print(f"{service.budget.sentence(service.service.profile.name)}.", soft_wrap=True, markup=False)
        console.print(f"The cache {service.service.follows}.", soft_wrap=True, markup=False)
        for kind, texts in (("Allowed", map(str, service.service.allowed)), ("Warning", service.warnings)):
            for text in texts:
                console.print(f"[yellow]{kind}:[/yellow] ", end="", soft_wrap=True)
                console.print(text, soft_wrap=True, markup=False)
        for line in _lines(service.service):
            console.print(line, soft_wrap=True, markup=False)
    for obstacle in found.obstacles:
        console.print("[bold red]Blocked by:[/bold red] ", end="", soft_wrap=True)
        console.print(obstacle, soft_wrap=True, markup=False)
    if found.services and not found.obstacles:
        assumed = found.gpu_memory is not None and found.gpu_memory.assumed
        sure = ", on that assumption; --facts asks the host" if assumed else ""
        console.print(f"[bold green]Ready[/bold green]{sure}.")


def _least(found: HostPlan) -> str:
    least = format_gib(found.needed_gpu_bytes) if found.needed_gpu_bytes else "not known"
    if found.enough_carve_out_bytes is not None:
        return f"{least}; a BIOS carve-out of {found.enough_carve_out_bytes / GIB:g} GB is enough"
    return least


def _table(found: HostPlan) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("Service", "Profile"):
        table.add_column(title, overflow="fold")
    for title in ("Port", "Context", "Weights", "Cache", "Seqs", "Fits"):
        table.add_column(title, justify="right", no_wrap=True)
    for service in found.services:
        named = (service.service.name, service.service.profile.name, str(service.service.port))
        budget = service.budget
        table.add_row(
            *named,
            f"{budget.max_model_len:,}",
            f"{budget.weights_bytes / GB:.1f} GB",
            f"{budget.kv_available_bytes / GB:.1f} GB",
            f"{budget.max_concurrency:.1f}",
            "[green]yes[/green]" if budget.fits else "[red]no[/red]",
        )
    return table


def _lines(service: ResolvedService) -> Iterator[str]:
    """The command as a shell takes it, broken between options only; the groups by name.

    The unit has the host's numbers for the groups, which docker would look up in the image otherwise.
    """
    argv = service.command.docker_argv
    image = argv.index(service.image)
    parts: list[list[str]] = [list(argv[:2])]
    for position, word in enumerate(argv[2:], start=2):
        if position == image or word.startswith("-"):
            parts.append([word])
        else:
            parts[-1].append(word)
    line = ""
    for number, part in enumerate(parts):
        text = shlex.join(part)
        if line and (len(line) + len(text) > _LINE or part[0] == service.image):
            yield f"{line} \\"
            line = f"    {text}"
        else:
            line = f"{line} {text}" if number else text
    yield line
