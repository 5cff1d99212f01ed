"""What the commands that take an INVENTORY share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from ojai.schema.errors import nearest
from ojai.settings.inventory import Entry, InventoryUnreadableError, read


class InventoryFile(click.ParamType[str]):
    """An inventory as pyinfra takes it: a file, host names with commas, or connectors (`@local`)."""

    name = "inventory"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The inventory, or a usage error for a file that is not there or not an inventory."""
        path = Path(str(value))
        if path.is_dir():
            self.fail(f"{value} is a folder; name a file in it, such as {value}/fleet.py", param, ctx)
        if path.suffix in (".yaml", ".yml"):
            self.fail(f"{value} is read by an inventory: name that, {path.with_suffix('.py')}", param, ctx)
        if path.suffix == ".py" and not path.is_file():
            near = nearest(path.name, [found.name for found in path.parent.glob("*.py")])
            hint = f"; did you mean {path.with_name(near)}?" if near else ""
            self.fail(f"there is no file {value}{hint}", param, ctx)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Files."""
        return [CompletionItem(incomplete, type="file")]


class HostPattern(click.ParamType[str]):
    """What pyinfra's --limit takes: a host, a group, or a pattern for names."""

    name = "pattern"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Hosts and groups of the inventory, where that stands before the option."""
        # An option without its value ends click's parsing, and leaves the arguments before it here.
        inventory = next(iter(ctx.args), ctx.params.get("inventory"))
        try:
            entries = read(inventory) if inventory else []
        except InventoryUnreadableError:
            return []
        names = {entry.name for entry in entries}.union(*(entry.groups for entry in entries))
        return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


def resolved(inventory: str, limit: tuple[str, ...]) -> tuple[str, list[Entry]]:
    """The inventory as it can be read from any folder, and the hosts that ``limit`` leaves of it.

    Raises ``click.UsageError`` when pyinfra cannot read it.
    """
    if Path(inventory).is_file():
        inventory = str(Path(inventory).resolve())
    try:
        return inventory, read(inventory, limit)
    except InventoryUnreadableError as error:
        raise click.UsageError(str(error)) from None
