"""``ojai init``: a repository of your own over the installed package."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import click

from ojai.resources import REPOSITORY


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def command(folder: Path) -> None:
    """Write a repository of your own into FOLDER: inventories, a deploy, an example role, a CI workflow.

    The deploy runs the roles of the installed package, then yours, so that nothing of the package is copied. FOLDER
    must be empty or not exist.
    """
    try:
        if folder.exists() and any(folder.iterdir()):
            raise click.UsageError(f"{folder} is not empty; name a new or an empty folder")
        shutil.copytree(REPOSITORY, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    except OSError as error:
        raise click.ClickException(f"{folder} cannot be written: {error}") from None
    typed = shlex.quote(f"./{folder}" if str(folder).startswith("-") else str(folder))
    click.echo(f"""\
Wrote {folder}. Next:
  cd {typed}
  pyinfra --dry inventory/fake.py deploy.py     # the whole deploy, without a machine
  $EDITOR inventory/fleet.yaml                  # your machines
  ojai plan inventory/fleet.py                  # what each would serve, and whether it fits
  pyinfra --dry inventory/fleet.py deploy.py    # what would change on them
README.md has the rest; requirements.txt says which ojai this is for: put the address of your copy there.""")
