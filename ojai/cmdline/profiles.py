"""``ojai profiles``: the model catalogue, and the command of each profile."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ojai import accelerators, profiles
from ojai.engines import ResolvedService
from ojai.parameters import AcceleratorName, ProfileName, engine_option
from ojai.settings import HostSettings, ServiceSettings
from ojai.sizes import format_gb

WIDE = 160
"""Columns of a table that goes to a file or a pipe, where there is no terminal to ask."""


@click.command(
    epilog="""\b
Examples:
  ojai profiles                     every profile in a table
  ojai profiles gemma-4-e4b         one profile: what it is, its command, what each argument is for
  ojai profiles --json | jq '.profiles[].name'
"""
)
@click.argument("names", nargs=-1, metavar="[NAME]...", type=ProfileName())
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the whole command of each profile.")
@click.option(
    "--accelerator",
    type=AcceleratorName(),
    default=accelerators.DEFAULT,
    show_default=True,
    metavar="GPU",
    help="The GPU to show the commands for, by its LLVM name (gfx1150, gfx1151).",
)
@engine_option
def command(names: tuple[profiles.Profile, ...], as_json: bool, accelerator: str, engine: str) -> None:
    """List the models that can be served, and how.

    A profile defines how one model is served: container image, engine arguments, environment, sizes and limits, each
    fact with its source. Name one in a host's services; change single choices there, by name. The command shown is
    the one a host's unit has, but for the numbers of the host's groups.
    """
    try:
        able = [name for name in profiles.names() if engine in profiles.served_by(name)]
        services = [_resolved(name, accelerator, engine) for name in [found.name for found in names] or able]
    except profiles.ProfileError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps({"profiles": [_as_json(service) for service in services]}, indent=2))
        return
    console = Console(width=None if sys.stdout.isatty() else WIDE, highlight=False)
    if names:
        for service in services:
            _print_one(console, service)
    else:
        _print_table(console, services)


def _resolved(name: str, accelerator: str, engine: str) -> ResolvedService:
    """A service with its profile's own choices only."""
    directory: str = HostSettings.model_fields["data_directory"].default
    chosen = ServiceSettings.model_validate({"profile": name, "engine": engine})
    return chosen.resolve(accelerator=accelerator, data_directory=directory)


def _as_json(service: ResolvedService) -> dict[str, Any]:
    profile, command = service.profile, service.command
    return {
        "name": profile.name,
        "title": profile.title,
        "engine": profile.engine,
        "image": service.image,
        "docker_argv": command.docker_argv,
        "engine_argv": command.engine_argv,
        "environment": command.environment,
        "model": service.model,
        "weights_bytes": profile.weights_bytes,
        "default_context": profile.default_context,
        "max_context": profile.geometry.max_context,
        "modalities": profile.modalities,
        "assistant": profile.assistant.model_dump() if profile.assistant else None,
        "refusals": [asdict(refusal) for refusal in service.standing],
        "notes": profile.notes,
        "sources": profile.sources,
    }


def _print_table(console: Console, services: list[ResolvedService]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("PROFILE", "MODEL"):
        table.add_column(heading, overflow="fold")
    for heading in ("WEIGHTS", "CONTEXT"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("IMAGE", overflow="fold")
    for service in services:
        mark = " *" if service.standing else ""
        table.add_row(
            f"{service.profile.name}{mark}",
            service.model,
            format_gb(service.profile.weights_bytes),
            f"{service.profile.default_context:,}",
            service.image,
        )
    console.print(table)
    if any(service.standing for service in services):
        console.print("\n* refused as it is:")
    for service in services:
        for refusal in service.standing:
            console.print(f"  {service.profile.name}: {escape(refusal.reason)}", soft_wrap=True)


def _print_one(console: Console, service: ResolvedService) -> None:
    profile = service.profile
    console.print(f"[bold]{profile.name}[/]  {escape(profile.title)}")
    facts = {
        "model": service.model,
        "weights": f"{format_gb(profile.weights_bytes)} ({profile.source_of('weights_bytes')})",
        "context": f"{profile.default_context:,} tokens, at most {profile.geometry.max_context:,}",
        "takes": ", ".join(profile.modalities),
        "assistant": f"{profile.assistant.model}, {profile.assistant.tokens} tokens" if profile.assistant else "none",
    }
    for fact, text in facts.items():
        console.print(f"  {fact:<10} {escape(text)}", soft_wrap=True)
    for note in profile.notes:
        console.print(f"  note       {escape(note)}", soft_wrap=True)
    for refusal in service.standing:
        console.print(f"  [red]refused[/]    {escape(str(refusal))}", soft_wrap=True)
    console.print()
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold", style="dim")
    for part, why in service.engine.explain(service):
        table.add_row(escape(" ".join(part)), escape(why))
    console.print(table)
    console.print()
