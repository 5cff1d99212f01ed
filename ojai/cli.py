"""The ``ojai`` command: a click group that finds its subcommands by name and imports only the one asked for."""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
from pathlib import Path

import click

import ojai
import ojai.cmdline


class LazyGroup(click.Group):
    """Looks for a subcommand in ``ojai.cmdline.<name>``, and for ``lab`` in ``ojai.lab.cli``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every subcommand's name, sorted."""
        return sorted({module.name for module in pkgutil.iter_modules(ojai.cmdline.__path__)} | {"lab"})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The subcommand, or None when there is none of that name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module("ojai.lab.cli" if cmd_name == "lab" else f"ojai.cmdline.{cmd_name}")
        command: click.Command = module.command
        command.name = cmd_name  # its function is called `command`, and so would it be in the documentation
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of subcommands in the help: their first sentences are read, and nothing is imported."""
        names = self.list_commands(ctx)
        limit = formatter.width - 6 - max(map(len, names))  # as click's own
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._short_help(name, limit)) for name in names])

    @staticmethod
    def _short_help(name: str, limit: int) -> str:
        file = Path(ojai.__file__).parent / ("lab/cli.py" if name == "lab" else f"cmdline/{name}.py")
        functions = [node for node in ast.parse(file.read_bytes()).body if isinstance(node, ast.FunctionDef)]
        text = next(ast.get_docstring(node) for node in functions if node.name == "command")
        return click.Command(name, help=text).get_short_help_str(limit)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The subcommand that ``args`` begin with, or a usage error with the nearest names."""
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            raise click.NoSuchCommand(error.command_name, possibilities=self.list_commands(ctx), ctx=ctx) from None


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(ojai.__version__)
def main() -> None:
    """Provision, check and run Gemma 4 inference hosts on AMD Ryzen AI mini-PCs."""


def run() -> None:
    """The ``ojai`` command as it is installed."""
    # The processes that commands start import nothing from the folder they run in: an inventory may be called ojai.py.
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    main(prog_name="ojai")
