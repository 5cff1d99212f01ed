"""``ojai prune``: images and models that ojai fetched and nothing uses any more."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.table import Table

from ojai import pyinfra_runs
from ojai.parameters import InventoryFile, limit_option, resolved
from ojai.pyinfra_runs.collect import read_marked
from ojai.weights.program import amount

_DEPLOY = Path(pyinfra_runs.__file__).with_name("prune_deploy.py")

_EPILOG = """\b
Examples:
  ojai prune inventory/ojai.py
  ojai prune inventory/fleet.py --limit mini-03 --yes

Exit status: 0 every host answered, and with --yes is rid of it; 1 one did not; 2 usage error or faulty inventory.
"""


@click.command(epilog=_EPILOG)
@click.argument("inventory", type=InventoryFile())
@limit_option
@click.option("--yes", "-y", is_flag=True, help="Remove what is listed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, sizes in bytes.")
def command(inventory: str, limit: tuple[str, ...], yes: bool, as_json: bool) -> NoReturn:
    """List images and model commits on the hosts of INVENTORY that nothing uses any more; with --yes, remove them.

    Only what ojai itself pulled or fetched is ever listed, and of that only what no service, saved release, lock,
    container (running or not), unit or process uses. What somebody else gave a name, put a file into, or mounts, stays.
    """
    inventory, entries = resolved(inventory, limit)
    argv = [sys.executable, "-P", "-m", "pyinfra", "--yes", *([] if yes else ["--dry"]), inventory, str(_DEPLOY)]
    for pattern in limit:
        argv += ["--limit", pattern]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
    answers = read_marked(done.stdout)
    hosts: list[dict[str, Any]] = [
        {
            "host": entry.name,
            "ok": entry.name in answers,
            "unused": [
                {key: one[key] for key in ("kind", "what", "size")} for one in json.loads(answers.get(entry.name, "[]"))
            ],
        }
        for entry in entries
    ]
    if as_json:
        print(json.dumps({"inventory": inventory, "removed": yes and done.returncode == 0, "hosts": hosts}, indent=2))
    else:
        _show(hosts, yes)
    sys.exit(0 if done.returncode == 0 and all(host["ok"] for host in hosts) else 1)


def _show(hosts: list[dict[str, Any]], removed: bool) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("Host", "Kind", "Unused"):
        table.add_column(title, overflow="fold")
    table.add_column("Size", justify="right", no_wrap=True)
    for host in hosts:
        for one in host["unused"]:
            table.add_row(host["host"], one["kind"], one["what"], amount(one["size"]))
        if not host["unused"]:
            table.add_row(host["host"], "-", "nothing" if host["ok"] else "[red]no answer[/red]", "")
    console = Console(highlight=False)
    console.print(table)
    if not removed and any(host["unused"] for host in hosts):
        console.print("Nothing was removed; --yes removes what is listed.")
