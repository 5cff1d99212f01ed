"""``ojai rollback``: make hosts serve what they served before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from ojai.parameters import HostPattern, InventoryFile, resolved

_DEPLOY = Path(__file__).parents[1] / "pyinfra_runs" / "rollback_deploy.py"

_EPILOG = """\b
Examples:
  ojai rollback inventory/ojai.py
  ojai rollback inventory/fleet.py --limit mini-03 --yes

Exit status: 0 every host serves its earlier release, 1 one does not, 2 the question was not understood.
"""


@click.command(epilog=_EPILOG)
@click.argument("inventory", type=InventoryFile())
@click.option(
    "--limit", multiple=True, type=HostPattern(), metavar="PATTERN", help="Only these hosts or groups, as for pyinfra."
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask first.")
def command(inventory: str, limit: tuple[str, ...], yes: bool) -> None:
    """Put back the last release that was healthy on the hosts of INVENTORY, and see it serve.

    A release is unit, environment file and image of every service; the deploy keeps the last two that were healthy.
    Goes back to the latest of them that is not what the host has now, so that a second rollback undoes the first.
    The inventory stays as it is: set it back too, or the next deploy brings again what it asks for.
    """
    inventory, entries = resolved(inventory, limit)
    if not yes:
        names = ", ".join(entry.name for entry in entries)
        click.confirm(f"Put the earlier release back on {names}? Their services are restarted.", abort=True)
    argv = [sys.executable, "-m", "pyinfra", "--yes", inventory, str(_DEPLOY)]
    for pattern in limit:
        argv += ["--limit", pattern]
    sys.exit(subprocess.run(argv, check=False).returncode)
