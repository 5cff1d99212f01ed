"""``ojai tune``: the tuning file of a service, made on purpose, in a window of the owner's choice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from ojai import pyinfra_runs
from ojai.parameters import InventoryFile, limit_option, resolved
from ojai.pyinfra_runs.collect import TUNED

_DEPLOY = Path(pyinfra_runs.__file__).with_name("tune_deploy.py")

#: What `ojai bench` measures before and after: one user, a short prompt.
_BENCH = ("--prompt-tokens", "128", "--users", "1", "--repeats", "3")

_EPILOG = """\b
Examples:
  ojai tune inventory/ojai.py
  ojai tune inventory/fleet.py --limit mini-03 --minutes 30 --yes
  ojai tune inventory/ojai.py --again --no-bench

Exit status: 0 every chosen service has its file and serves, 1 one has not, 2 usage error or faulty inventory.
"""


@click.command(epilog=_EPILOG)
@click.argument("inventory", type=InventoryFile())
@limit_option
@click.option(
    "--service", "names", multiple=True, metavar="NAME", help="Only this service. [default: all that use one]"
)
@click.option(
    "--minutes",
    type=click.IntRange(min=1, max=720),
    default=60,
    show_default=True,
    help="The most that a service may be away; then it is started again as it was.",
)
@click.option("--again", is_flag=True, help="Also where there is a file of this image and GPU.")
@click.option("--bench/--no-bench", default=True, help="Measure before and after, by `ojai bench`. [default: bench]")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def command(
    inventory: str, limit: tuple[str, ...], names: tuple[str, ...], minutes: int, again: bool, bench: bool, yes: bool
) -> None:
    """Tune the services of INVENTORY that use a tuning file (`tunableop: use`), and keep the file for their image.

    Each service is away while its image runs once with tuning on: ten minutes or more on the GPU. The file is kept by
    the image's digest and the GPU; the service then reads it, and tunes nothing. Interrupted at any time, the service
    is as it was.
    """
    inventory, entries = resolved(inventory, limit)
    known = {service.name for entry in entries for service in entry.settings.resolved}
    if unknown := sorted(set(names) - known):
        raise click.UsageError(f"--service {unknown[0]}: there is no such service; known: {', '.join(sorted(known))}")
    chosen = [
        (entry, service)
        for entry in entries
        if not entry.settings.removed
        for service in entry.settings.resolved
        if service.features.tunableop == "use" and (not names or service.name in names)
    ]
    if not chosen:
        raise click.ClickException(
            "found no service with `tunableop: use`; expected one: a file that is not used need not be made. What to "
            "do: set it for the service, deploy, then run this again"
        )
    for entry, service in chosen:
        click.echo(f"{entry.name}: {service.name} will be away for {minutes} minutes at most", err=True)
    if not yes:
        click.confirm("Tune now?", abort=True, err=True)
    with tempfile.TemporaryDirectory(prefix="ojai-tune-") as folder:
        before, after = Path(folder) / "before", Path(folder) / "after"
        if bench:
            _bench(inventory, limit, before)
        status = _tune(inventory, limit, sorted({service.name for _, service in chosen}), minutes, again)
        if bench and status == 0:
            _bench(inventory, limit, after)
            for entry, service in chosen:
                place = Path(entry.name.replace("/", "-")) / service.name
                if (before / place).exists() and (after / place).exists():
                    _ojai("bench", "--compare", str(before / place), str(after / place))
    sys.exit(1 if status else 0)


def _ojai(*words: str) -> int:
    return subprocess.run([sys.executable, "-P", "-m", "ojai", *words], check=False).returncode


def _bench(inventory: str, limit: tuple[str, ...], results: Path) -> None:
    results.mkdir()
    limits = [word for pattern in limit for word in ("--limit", pattern)]
    _ojai("bench", inventory, *limits, *_BENCH, "--results", str(results))


def _tune(inventory: str, limit: tuple[str, ...], services: list[str], minutes: int, again: bool) -> int:
    argv = [sys.executable, "-P", "-m", "pyinfra", "--yes", inventory, str(_DEPLOY)]
    for pattern in limit:
        argv += ["--limit", pattern]
    asked = json.dumps({"services": services, "minutes": minutes, "again": again})
    return subprocess.run(argv, env={**os.environ, TUNED: asked}, check=False).returncode
