"""Parameters that several commands have."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from getpass import getpass
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from ojai import accelerators, engines, profiles, resources
from ojai.schema.nearest import nearest
from ojai.settings.inventory import Entry, InventoryUnreadableError, read
from ojai.sizes import parse_memory


class InventoryFile(click.ParamType[str]):
    """An inventory as pyinfra takes it: a file, host names with commas, or connectors (`@local`).

    `fleet.yaml` stands for the `fleet.py` beside it, which reads it.
    """

    name = "inventory"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The inventory, or a usage error for a file that is not there or not an inventory."""
        path = Path(str(value))
        if path.is_dir():
            self.fail(f"{value} is a folder; name a file in it, such as {value}/fleet.py", param, ctx)
        if path.suffix == ".py" and not path.is_file():
            near = nearest(path.name, [found.name for found in path.parent.glob("*.py")])
            hint = f"; did you mean {path.with_name(near)}?" if near else ""
            self.fail(f"there is no file {value}{hint}", param, ctx)
        reader = path.with_suffix(".py")
        if path.suffix in (".yaml", ".yml") and path.is_file() and reader.is_file():
            return str(reader)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Files."""
        return [CompletionItem(incomplete, type="file")]


class FileToWrite(click.Path):
    """A file that is written at the end: whether it can be is asked before the work is done."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, writable=True, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, or a usage error where there is no folder for it."""
        path = Path(str(super().convert(value, param, ctx)))
        if not os.access(path.parent, os.W_OK | os.X_OK):
            self.fail(f"{path} cannot be written: its folder is not there, or is not yours", param, ctx)
        return path


def _hosts(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Completion: names and groups of the inventory's hosts."""
    # click stops at the option that has no value yet, and then the inventory is still among the arguments.
    inventory = ctx.params.get("inventory") or next(iter(ctx.args), "")
    try:
        entries = read(inventory)
    except InventoryUnreadableError:
        return []
    names = dict.fromkeys(name for entry in entries for name in (entry.name, *entry.groups))
    return [name for name in names if name.startswith(incomplete)]


#: The option ``--limit`` of every command that has one.
limit_option = click.option(
    "--limit",
    multiple=True,
    metavar="PATTERN",
    help="Only these hosts or groups, as for pyinfra.",
    shell_complete=_hosts,
)


def resolved(inventory: str, limit: tuple[str, ...]) -> tuple[str, list[Entry]]:
    """The inventory as it can be read from any folder, and the hosts that ``limit`` leaves of it.

    Raises ``click.UsageError`` when pyinfra cannot read it.
    """
    try:
        entries = read(inventory, limit)
    except InventoryUnreadableError as error:
        raise click.UsageError(str(error)) from None
    return absolute(inventory), entries


def absolute(inventory: str) -> str:
    """An inventory as it can be read from any folder: not all are files."""
    return str(Path(inventory).resolve()) if Path(inventory).is_file() else inventory


def find_deploy(inventory: str) -> Path:
    """The deploy.py beside the inventory, in the folder above, or in the current folder; else ojai's own."""
    folder = Path(inventory).resolve().parent if Path(inventory).is_file() else Path.cwd()
    found = (place / "deploy.py" for place in (folder, folder.parent, Path.cwd()))
    return next((path for path in found if path.is_file()), resources.DEPLOY).resolve()


def sudo_password() -> str:
    """Ask for sudo's password; where there is no terminal, read it from standard input."""
    given = getpass("sudo password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    if not given:
        raise click.UsageError("--use-sudo-password: found neither a terminal to ask on nor a line on standard input")
    return given


class Amount(click.ParamType[int]):
    """An amount of memory on the command line: "64GiB", "16 GB"; with ``parse``, see `ojai.sizes`."""

    name = "amount"

    def __init__(self, parse: Callable[[str | int], int] = parse_memory) -> None:
        self.parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes, or a usage error."""
        try:
            return self.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class ProfileName(click.ParamType[profiles.Profile]):
    """The name of a profile."""

    name = "profile"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> profiles.Profile:
        """The profile, or a usage error with the nearest name."""
        try:
            return profiles.load(value)
        except profiles.ProfileError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The profiles that begin so."""
        return [CompletionItem(name) for name in profiles.names() if name.startswith(incomplete)]


#: The engine of a command that shows what a service would be.
engine_option = click.option(
    "--engine",
    type=click.Choice(engines.NAMES),
    default=engines.NAMES[0],
    show_default=True,
    help="The engine that serves it.",
)


class AcceleratorName(click.ParamType[str]):
    """The name of an accelerator."""

    name = "accelerator"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name, if there is one, or a usage error with the nearest."""
        try:
            return accelerators.load(value).name
        except accelerators.UnknownAcceleratorError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The accelerators that begin so."""
        return [CompletionItem(name) for name in accelerators.names() if name.startswith(incomplete)]
