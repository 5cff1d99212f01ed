"""``ojai rollout``: bring a fleet to what its inventory says, a few hosts at a time."""

from __future__ import annotations

import json
import math
import shlex
import signal
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from ojai.parameters import FileToWrite, InventoryFile, find_deploy, limit_option, resolved, sudo_password
from ojai.pyinfra_runs.verification import DRIFT, areas
from ojai.report_html import render
from ojai.rollout import STEPS, NothingBegunError, Order, Rollout, Row, rows
from ojai.rollout.report import STATES, TITLES, document, page, sentence, steps

_EPILOG = """\b
Examples:
  ojai rollout inventory/fleet.py
  ojai rollout inventory/fleet.py --canary 2 --batch 10% --max-failed 3 --html rollout.html
  ojai rollout inventory/fleet.py --dry
  ojai rollout inventory/fleet.py --finish

Exit status: 0 every host is as wanted, 1 one is not, 2 usage error or faulty inventory.
"""

_STYLES = {"ok": "green", "bad": "red", "note": "yellow", "plain": ""}

#: What a step is called while it runs.
_DOING = {"ask": "asking", "deploy": "deploying", "verify": "verifying", "smoke": "smoking"}


class _Batch(click.ParamType[str]):
    """A number of hosts, or a share of them."""

    name = "batch"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The same, or a usage error."""
        number = str(value).removesuffix("%")
        if not number.isdecimal() or not int(number) or (str(value).endswith("%") and int(number) > 100):
            self.fail(f"found {value}; expected a number of hosts (5) or a share of them (20%)", param, ctx)
        return str(value)


def batch_size(batch: str, hosts: int) -> int:
    """How many hosts of so many are a batch."""
    share = batch.removesuffix("%")
    return int(share) if share == batch else max(1, math.ceil(hosts * int(share) / 100))


@click.command(epilog=_EPILOG)
@click.argument("inventory", type=InventoryFile())
@limit_option
@click.option(
    "--canary",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    metavar="N",
    help="Hosts that come first. When one fails, the rollout stops. Hosts that are as wanted already count.",
)
@click.option(
    "--batch", type=_Batch(), default="25%", show_default=True, metavar="N|P%", help="Hosts at a time after them."
)
@click.option(
    "--max-failed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Go on as long as no more hosts than these have failed.",
)
@click.option(
    "--finish", is_flag=True, help="Only what a rollout has left, as hosts that were offline: no canary, no stop."
)
@click.option("--dry", is_flag=True, help="Only ask the hosts where it stands, and say who would come next.")
@click.option("--only", multiple=True, metavar="AREA", help="Of `ojai verify`, only the checks of this area.")
@click.option(
    "--smoke",
    type=click.Choice(["full", "form", "none"]),
    default="full",
    show_default=True,
    help="The checks of `ojai smoke`: all, only the form of answers (its --form-only), or none.",
)
@click.option(
    "--deploy",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What is deployed. [default: deploy.py beside or above the inventory, or here]",
)
@click.option("--use-sudo-password", is_flag=True, help="Ask for sudo's password, once for all hosts.")
@click.option("--html", type=FileToWrite(), help="Also write a page to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON at the end.")
def command(
    inventory: str,
    limit: tuple[str, ...],
    canary: int,
    batch: str,
    max_failed: int,
    finish: bool,
    dry: bool,
    only: tuple[str, ...],
    smoke: str,
    deploy: Path | None,
    use_sudo_password: bool,
    html: Path | None,
    as_json: bool,
) -> NoReturn:
    """Bring the hosts of INVENTORY to what it says, canaries first, then in batches.

    Each batch is deployed by pyinfra, verified and smoked. A host that is as wanted already, by what it keeps of its
    last rollout, is only asked. A rollout that stopped, or was interrupted, goes on where it stands when the same
    command is run again, from any computer. Hosts that are offline are left for --finish.
    """
    known = areas()
    if unknown := next((area for area in only if area not in known), None):
        raise click.UsageError(f"--only {unknown}: there is no such area; known: {', '.join(known)}")
    name = inventory
    inventory, entries = resolved(inventory, limit)
    if use_sudo_password:
        password = sudo_password()
        entries = [replace(entry, data={**entry.data, "_sudo_password": password}) for entry in entries]
    deploy = (deploy or find_deploy(inventory)).resolve()
    rules = None
    if smoke != "none":
        from ojai.smoke.asking import Rules  # OpenAI's client takes a second

        rules = Rules(form_only=smoke == "form", timeout=600, first_token=10)
    rollout = Rollout(
        inventory=inventory,
        deploy=deploy,
        rows=rows(entries, inventory, deploy),
        order=Order(canary, batch_size(batch, len(entries)), max_failed, finish),
        files=tuple(path for area in known if not only or area in only for path in known[area]),
        drift=not only or DRIFT in only,
        rules=rules,
    )
    interrupted = False
    # Ended by another program it is as by Ctrl-C.
    handlers = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    with _Shown(rollout):
        try:
            rollout.look() if dry else rollout.run()
        except NothingBegunError:
            raise click.ClickException(
                f"--finish: found no host that is as {name} says; expected a rollout that has begun. What to do: run "
                f"it without --finish. {sentence(rollout)}"
            ) from None
        except KeyboardInterrupt:
            interrupted = True
            for row in rollout.rows:
                if row.step:
                    row.why = f"interrupted while {_DOING[row.step]}"
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    if html:
        html.write_text(render(page(rollout)), encoding="utf-8")
    if as_json:
        click.echo(json.dumps({**document(rollout), "interrupted": interrupted}, indent=2))
    else:
        _show(rollout, dry, interrupted, shlex.quote(name))
    sys.exit(0 if rollout.ok else 1)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    click.echo("Interrupted: what runs is ended …", err=True)
    raise KeyboardInterrupt


class _Shown:
    """Progress on standard error: a line a host that does something, which moves; else a line for each step."""

    def __init__(self, rollout: Rollout) -> None:
        self.rollout = rollout
        self.console = Console(stderr=True, highlight=False)
        self.live = Live(console=self.console, get_renderable=self._now, transient=True)
        rollout.tell = self._moved if self.console.is_terminal else self._said

    def __enter__(self) -> _Shown:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(KeyboardInterrupt):
            self.live.stop()

    def _moved(self, row: Row) -> None:
        if not row.step and row.state in ("failed", "done"):
            self._line(row)

    def _said(self, row: Row) -> None:
        if row.step in STEPS:
            self._print(f"{row.name}: {_DOING[row.step]} …")
        elif not row.step and row.state != "waiting":
            self._line(row)

    def _line(self, row: Row) -> None:
        word, state = STATES[row.state]
        took = sum(row.seconds.get(step, 0.0) for step in STEPS)
        text = f"{row.name}: {word}{f' in {took:.0f} s' if row.state == 'done' else ''}"
        self._print(f"{text}: {row.why}" if row.why else text, _STYLES[state])

    def _print(self, text: str, style: str = "") -> None:
        self.console.print(text, style=style, markup=False, soft_wrap=True)

    def _now(self) -> Group:
        table = Table.grid(padding=(0, 2))
        now = time.monotonic()
        for row in self.rollout.rows:
            if row.step:
                said = row.said[: max(20, self.console.width - len(row.name) - 24)]  # a line is a line
                table.add_row(escape(row.name), _DOING[row.step], f"{now - row.since:.0f} s", escape(said))
        return Group(table, f"Batch {self.rollout.batch}: {sentence(self.rollout)}")


def _show(rollout: Rollout, dry: bool, interrupted: bool, name: str) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in TITLES:
        table.add_column(title, no_wrap=True)
    for row in rollout.rows:
        word, state = STATES[row.state]
        style = _STYLES[state]
        shown = f"[{style}]{word}[/]" if style else word
        table.add_row(escape(row.name), shown, str(row.batch or "-"), *steps(row))
    console = Console(highlight=False)
    console.print(table)
    for row in rollout.rows:
        if row.why and not row.well:
            console.print(f"{row.name}: {row.why}", style=_STYLES[STATES[row.state][1]], markup=False, soft_wrap=True)
    console.print(sentence(rollout), markup=False, soft_wrap=True)
    for text in _next(rollout, dry, interrupted, name):
        console.print(text, markup=False, soft_wrap=True)


def _next(rollout: Rollout, dry: bool, interrupted: bool, name: str) -> list[str]:
    """What to do now."""
    left = {row.state for row in rollout.rows} - {"there", "done"}
    if not left:
        return []
    again = f"`ojai rollout {name}`"
    if dry:
        names = ", ".join(row.name for row in rollout.next())
        return [f"Next: {names}, by {again}." if names else f"Nothing to begin: `ojai rollout {name} --finish` later."]
    if interrupted:
        return [f"Interrupted. {again} goes on from here; what was cut off is finished by it."]
    if rollout.stopped:
        return [
            f"Stopped {rollout.stopped}. What to do: mend it (`ojai doctor {name} --limit HOST`) and run {again}, "
            "which goes on from here; or give --max-failed."
        ]
    return [f"What to do: mend what failed, see that the others can be reached, then `ojai rollout {name} --finish`."]
