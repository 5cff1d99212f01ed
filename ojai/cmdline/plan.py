"""`ojai plan`: what each host of an inventory would serve, before anything on it is touched."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.table import Table

from ojai.cmdline.budget import Amount
from ojai.engines.vllm import Command
from ojai.parameters import InventoryFile, limit_option
from ojai.plan import HostPlan, plan
from ojai.pyinfra_runs.collect import CollectError, collect_facts
from ojai.settings.inventory import Entry, InventoryUnreadableError, read
from ojai.sizes import GB, GIB, format_gib

#: Columns that a line of a command may take, unless one word alone is longer.
_LINE = 96

_EPILOG = """\b
Examples:
  ojai plan inventory/ojai.py
  ojai plan inventory/fleet.py --limit edge --gpu-memory 64GiB
  ojai plan inventory/fleet.py --facts
  ojai plan inventory/ojai.py --json | jq -r '.hosts[].services[].command.docker_argv | @sh'

Exit status: 0 every host could serve what is asked of it, 1 one could not, did not answer, or the inventory is faulty,
2 the question was not understood.
"""


@click.command(epilog=_EPILOG)
@click.argument("inventory", type=InventoryFile())
@limit_option
@click.option(
    "--gpu-memory",
    type=Amount(),
    help="GPU memory to assume for hosts with a BIOS carve-out. Without it, the smallest that is enough is told.",
)
@click.option("--facts", is_flag=True, help="Connect, and use what the hosts report; preflight's refusals too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, amounts in bytes.")
def command(inventory: str, limit: tuple[str, ...], gpu_memory: int | None, facts: bool, as_json: bool) -> NoReturn:
    """Show what each host of INVENTORY would serve: the command of every service and its memory budget.

    Nothing is changed, and without --facts nothing is connected to: how much memory the GPU has is then an
    assumption, and said to be one.
    """
    try:
        entries = read(inventory, limit)
        plans = list(_asked(inventory, limit, entries, gpu_memory) if facts else _assumed(entries, gpu_memory))
    except (InventoryUnreadableError, CollectError) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        document = {"inventory": inventory, "facts": facts, "hosts": [_document(found) for found in plans]}
        print(json.dumps(document, indent=2))
    else:
        console = Console(highlight=False)
        for number, found in enumerate(plans):
            if number:
                console.print()
            _show(console, found)
    sys.exit(1 if any(found.obstacles for found in plans) else 0)


def _assumed(entries: list[Entry], gpu_memory: int | None) -> Iterator[HostPlan]:
    for entry in entries:
        yield plan(entry, gpu_bytes=gpu_memory)


def _asked(inventory: str, limit: tuple[str, ...], entries: list[Entry], gpu_memory: int | None) -> Iterator[HostPlan]:
    answers = collect_facts(inventory, [entry.name for entry in entries], limit)
    for entry in entries:
        answer = answers[entry.name]
        yield plan(entry, gpu_bytes=gpu_memory, report=answer.report, failure=answer.failure or None)


def _document(found: HostPlan) -> dict[str, Any]:
    told = found.model_dump(mode="json")
    told["ready"] = not found.obstacles
    for service, planned in zip(told["services"], found.services, strict=True):
        service["command"]["features"] = planned.command.features.model_dump(mode="json", exclude_none=True)
    return told


def _show(console: Console, found: HostPlan) -> None:
    groups = f"  [dim]{', '.join(found.groups)}[/dim]" if found.groups else ""
    console.print(f"[bold]{found.name}[/bold]{groups}", soft_wrap=True)
    if found.removed:
        console.print("Serves nothing: what the roles added is to be taken away.")
    elif not found.services:
        console.print("Serves nothing: its list of services is empty.")
    if found.gpu_memory is not None:
        console.print(f"GPU memory: {found.gpu_memory}", soft_wrap=True, markup=False)
        console.print(f"Least for all services: {_least(found)}", soft_wrap=True, markup=False)
        console.print(_table(found))
    for service in found.services:
        console.print(f"\n[bold]{service.unit}[/bold], {service.title}", soft_wrap=True)
        if service.budget is not None and service.budget.fits:
            console.print(f"{service.budget.sentence(service.command.profile)}.", soft_wrap=True, markup=False)
        for refusal in service.command.allowed:
            console.print("[yellow]Allowed against the rule:[/yellow] ", end="", soft_wrap=True)
            console.print(str(refusal), soft_wrap=True, markup=False)
        for line in _lines(service.command):
            console.print(line, soft_wrap=True, markup=False)
    for obstacle in found.obstacles:
        console.print("[bold red]In the way:[/bold red] ", end="", soft_wrap=True)
        console.print(obstacle, soft_wrap=True, markup=False)
    if found.services and not found.obstacles:
        assumed = found.gpu_memory is not None and found.gpu_memory.assumed
        sure = ", on that assumption; --facts asks the host" if assumed else ""
        console.print(f"[bold green]Nothing in the way[/bold green]{sure}.")


def _least(found: HostPlan) -> str:
    said = format_gib(found.needed_gpu_bytes) if found.needed_gpu_bytes else "not known"
    if found.enough_carve_out_bytes is not None:
        return f"{said}; a BIOS carve-out of {found.enough_carve_out_bytes / GIB:g} GB is enough"
    return said


def _table(found: HostPlan) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("Service", "Profile"):
        table.add_column(title, overflow="fold")
    for title in ("Port", "Context", "Weights", "Cache", "Seqs", "Fits"):
        table.add_column(title, justify="right", no_wrap=True)
    for service in found.services:
        named = (service.command.name, service.command.profile, str(service.command.port))
        budget = service.budget
        if budget is None:
            table.add_row(*named, *["?"] * 5)
            continue
        table.add_row(
            *named,
            f"{budget.max_model_len:,}",
            f"{budget.weights_bytes / GB:.1f} GB",
            f"{budget.kv_available_bytes / GB:.1f} GB",
            f"{budget.max_concurrency:.1f}",
            "[green]yes[/green]" if budget.fits else "[red]no[/red]",
        )
    return table


def _lines(command: Command) -> Iterator[str]:
    """The command as a shell takes it, broken between options only; the groups by name.

    The unit has the host's numbers for the groups, which docker would look up in the image otherwise.
    """
    image = command.docker_argv.index(command.image)
    parts: list[list[str]] = [list(command.docker_argv[:2])]
    for position, word in enumerate(command.docker_argv[2:], start=2):
        if position == image or word.startswith("-"):
            parts.append([word])
        else:
            parts[-1].append(word)
    line = ""
    for number, part in enumerate(parts):
        text = shlex.join(part)
        if line and (len(line) + len(text) > _LINE or part[0] == command.image):
            yield f"{line} \\"
            line = f"    {text}"
        else:
            line = f"{line} {text}" if number else text
    yield line
