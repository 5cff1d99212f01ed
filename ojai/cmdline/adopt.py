"""``ojai adopt``: take over a machine that serves already, or say in an inventory what it serves."""

from __future__ import annotations

import json
import pprint
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, TextIO

import click
import yaml
from rich.console import Console
from rich.table import Table

from ojai import accelerators
from ojai.containers import UnreadableError
from ojai.parameters import AcceleratorName
from ojai.translation import Change, Translation, container_of, translate

#: Columns of the comments where there is no terminal to ask.
_WIDE = 160

_EPILOG = """\b
Examples:
  ojai adopt --from run-gemma.sh            the script with the docker run that serves
  docker inspect vllm-gemma4 vllm/vllm-openai-rocm:v0.20.1 | ojai adopt --from -
  ojai adopt --from run-gemma.sh --python   for an inventory in Python

Exit status: 0 done, 1 the command cannot be read or no profile is for its model, 2 usage error.
"""


@click.command(epilog=_EPILOG)
@click.option(
    "--from",
    "source",
    type=click.File(errors="replace"),
    help="Read the server from FILE: a script with its docker run, or what docker inspect prints. - is standard input.",
)
@click.option(
    "--accelerator",
    type=AcceleratorName(),
    default=accelerators.DEFAULT,
    show_default=True,
    metavar="GPU",
    help="With --from: the GPU of the host, by its LLVM name.",
)
@click.option("--python", "as_python", is_flag=True, help="Print Python instead of YAML.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(source: TextIO, accelerator: str, as_python: bool, as_json: bool) -> None:
    """Print a server that runs already as a service of an inventory, and what would change.

    What is printed has no secret in it; it names those that go into the environment file on the host. All but the data
    itself is in comments.
    """
    try:
        found = translate(container_of(source.read()), accelerator)
    except UnreadableError as error:
        raise click.ClickException(f"{source.name}: {error}.") from None
    _print(found, as_python, as_json)


def _print(found: Translation, as_python: bool, as_json: bool) -> None:
    data = {"services": [dict(found.service)]}
    if as_json:
        rest = {key: value for key, value in asdict(found).items() if key != "service"}
        changes = [{"kind": change.kind, **asdict(change)} for change in found.changes]
        click.echo(json.dumps({"data": data, **rest, "changes": changes}, indent=2))
        return
    if as_python:
        click.echo(pprint.pformat(data, sort_dicts=False, width=100))
    else:
        click.echo(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100).rstrip())
    for line in _comments(found):
        click.echo(f"# {line}".rstrip())


def _comments(found: Translation) -> Iterator[str]:
    if found.secrets:
        yield f"Secrets, not shown: {', '.join(found.secrets)}. They go into {found.env_file} on the host."
    for text in found.warnings:
        yield f"Warning: {text}"
    for text in found.notes:
        yield f"Note: {text}"
    changed = [change for change in found.changes if not change.lost]
    lost = [change for change in found.changes if change.lost]
    for title, changes in (("What would change:", changed), ("What cannot be expressed, and is lost:", lost)):
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
                table.add_row(kind, change.what, _values(change), change.why)
    console = Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False, markup=False, color_system=None)
    with console.capture() as text:
        console.print(table)
    yield from text.get().splitlines()


def _values(change: Change) -> str:
    values: list[Any] = [value for value in (change.theirs, change.ours) if value]
    return " → ".join(values) if change.kind == "different" else "".join(values)
