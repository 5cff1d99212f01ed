"""``ojai fetch``: the models of a host, fetched before the deploy, and what there is of them."""

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

_DEPLOY = Path(pyinfra_runs.__file__).with_name("fetch_deploy.py")

_EPILOG = """\b
Examples:
  ojai fetch inventory/ojai.py
  ojai fetch inventory/fleet.py --limit mini-03
  ojai fetch inventory/ojai.py --json | jq '.hosts[].models[] | {model, revision, bytes_fetched}'

Exit status: 0 every host has its models, 1 one has not, 2 usage error or faulty inventory.
"""


@click.command(epilog=_EPILOG)
@click.argument("inventory", type=InventoryFile())
@limit_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, sizes in bytes.")
def command(inventory: str, limit: tuple[str, ...], as_json: bool) -> NoReturn:
    """Fetch the models of INVENTORY's services into each host's cache: the deploy's own step, alone.

    Nothing that serves is touched. What is complete is not asked for again, what was begun is continued, every file is
    verified by the hub's checksum. The deploy then finds all of it there. Progress goes to standard error.
    """
    inventory, entries = resolved(inventory, limit)
    argv = [sys.executable, "-P", "-m", "pyinfra", "--yes", inventory, str(_DEPLOY)]
    for pattern in limit:
        argv += ["--limit", pattern]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
    found: dict[str, list[dict[str, Any]]] = {
        name: json.loads(document) for name, document in read_marked(done.stdout).items()
    }
    wanted = {entry.name: any(service.wanted for service in entry.settings.resolved) for entry in entries}
    hosts = [
        {"host": name, "ok": name in found or (not needed and done.returncode == 0), "models": found.get(name, [])}
        for name, needed in wanted.items()
    ]
    if as_json:
        print(json.dumps({"inventory": inventory, "hosts": hosts}, indent=2))
    else:
        Console(highlight=False).print(_table(hosts))
    sys.exit(0 if done.returncode == 0 and all(host["ok"] for host in hosts) else 1)


def _table(hosts: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("Host", "Service", "Model", "Commit"):
        table.add_column(title, overflow="fold")
    for title in ("Files", "Size", "Before", "Fetched", "Seconds"):
        table.add_column(title, justify="right", no_wrap=True)
    for host in hosts:
        if not host["ok"]:
            table.add_row(host["host"], "[red]failed[/red]")
        for one in host["models"]:
            sizes = (amount(one[name]) for name in ("bytes", "bytes_before", "bytes_fetched"))
            named = (host["host"], one["service"], one["model"], one["revision"][:12])
            table.add_row(*named, str(one["files"]), *sizes, f"{one['seconds']:.0f}")
    return table
