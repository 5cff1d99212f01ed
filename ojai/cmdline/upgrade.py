"""``ojai upgrade``: a new lock, a canary, the rest."""

from __future__ import annotations

import sys
from typing import Any

import click
from rich.console import Console

from ojai.cmdline import lock
from ojai.cmdline.rollout import command as rollout

_EPILOG = """\b
Examples:
  ojai upgrade inventory/fleet.py
  ojai upgrade inventory/fleet.py --what rocm --batch 2 --html upgrade.html

Exit status: 0 every host is as the new lock says, 1 one is not, or the lock could not be made, 2 usage error or faulty
inventory.
"""

_WHAT = click.Option(
    ["--what"], multiple=True, metavar="WHAT", help="Move only this, as `ojai lock --upgrade` takes it. [default: all]"
)


@click.command(epilog=_EPILOG, params=[*(one for one in rollout.params if one.name not in ("dry", "finish")), _WHAT])
@click.pass_context
def command(ctx: click.Context, /, inventory: str, what: tuple[str, ...], **options: Any) -> None:
    """Move the lock of INVENTORY to what there is now, and roll it out: a canary, then the rest in batches.

    It is `ojai lock --upgrade INVENTORY`, then `ojai rollout INVENTORY`. Where that stops, `ojai rollout INVENTORY`
    goes on with this lock; the earlier lock from version control, and a rollout, go back.
    """
    made, _ = lock.make(inventory, what, True, Console(stderr=True, highlight=False))  # who is offline keeps nobody
    if not made:
        click.echo("Nothing was rolled out.", err=True)
        sys.exit(1)
    ctx.invoke(rollout, inventory=inventory, **options, dry=False, finish=False)
