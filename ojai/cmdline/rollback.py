"""``ojai rollback``: return hosts to the release they served before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from ojai import pyinfra_runs
from ojai.parameters import InventoryFile, limit_option, resolved

_DEPLOY = Path(pyinfra_runs.__file__).with_name("rollback_deploy.py")

_EPILOG = """\b
Examples:
  ojai rollback inventory/ojai.py
  ojai rollback inventory/fleet.py --limit mini-03 --yes

Exit status: 0 every host serves its earlier release, 1 one does not, 2 usage error or faulty inventory.
"""


@click.command(epilog=_EPILOG)
@click.argument("inventory", type=InventoryFile())
@limit_option
@click.option("--yes", "-y", is_flag=True, help="Do not ask first.")
def command(inventory: str, limit: tuple[str, ...], yes: bool) -> None:
    """Roll the hosts of INVENTORY back to their last healthy release, and wait until it serves.

    A release is the unit, environment file and image of every service; the deploy keeps the last two healthy ones.
    The target is the latest of them that differs from what the host has now, so a second rollback undoes the first.
    The inventory is not changed: revert it too, or the next deploy applies it again.
    """
    inventory, entries = resolved(inventory, limit)
    if not yes:
        names = ", ".join(entry.name for entry in entries)
        click.confirm(f"Roll back {names}? Their services are restarted.", abort=True)
    argv = [sys.executable, "-P", "-m", "pyinfra", "--yes", inventory, str(_DEPLOY)]
    for pattern in limit:
        argv += ["--limit", pattern]
    sys.exit(subprocess.run(argv, check=False).returncode)
