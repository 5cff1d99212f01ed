"""``ojai settings``: everything that an inventory may say of a host."""

from __future__ import annotations

import click

from ojai.resources import SETTINGS


@click.command(
    epilog="""\b
Examples:
  ojai settings              all of them, page by page on a terminal
  ojai settings kernel       those whose name or meaning has this word
"""
)
@click.argument("word", required=False)
def command(word: str | None) -> None:
    """List the settings of a host and of a service: name, default, meaning and example of each, as Markdown.

    With WORD only the rows that have it. Exit status: 0 found, 1 no setting has the word.
    """
    lines = SETTINGS.read_text(encoding="utf-8").splitlines()
    if word is None:
        click.echo_via_pager("\n".join(lines) + "\n")
        return
    rows = [line for line in lines if line.startswith("| `") and word.casefold() in line.casefold()]
    if not rows:
        raise click.ClickException(f"no setting has {word!r} in its name or meaning; `ojai settings` lists them all")
    click.echo("\n".join(rows))
