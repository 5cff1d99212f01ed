"""``ojai logs``: what services say, as they say it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path

import click

from ojai import pyinfra_runs
from ojai.facts.logs import MARK
from ojai.parameters import InventoryFile, resolved
from ojai.pyinfra_runs.collect import MARK as OF_HOST
from ojai.pyinfra_runs.collect import failure_of
from ojai.settings.inventory import Entry

_EPILOG = """\b
Examples:
  ojai logs inventory/ojai.py
  ojai logs inventory/fleet.py mini-03 --since 2h --no-follow
  ojai logs inventory/fleet.py mini-03/vllm-gemma4 --lines 20

Exit status: 0 also when ended by Ctrl-C, 1 a host gave no answer, 2 usage error or faulty inventory.
"""

_DEPLOY = Path(pyinfra_runs.__file__).with_name("logs_deploy.py")

#: Lines of a service's past that are shown where nothing else is said.
LINES = 100

#: Lines that are remembered, to know their copies by.
_REMEMBERED = 5000

#: What journald puts before a line's text: time, host, program.
_JOURNAL = re.compile(r"^(\d+\.\d+) \S+ [^\s:]+: ?(.*)$", re.DOTALL)

_SHORT = re.compile(r"^(\d+)(s|min|m|h|d)$")
_UNITS = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days"}


@dataclass
class Stream:
    """The lines of one service. Those before the question come sorted, with one of two copies; then as they come."""

    show: Callable[[str], object]
    lines: int | None
    past: list[tuple[float, str, str]] | None = field(default_factory=list)
    #: Texts by the source that they have come from and that the other has not brought yet.
    waiting: dict[str, Counter[str]] = field(default_factory=lambda: {"journal": Counter(), "container": Counter()})
    order: deque[tuple[str, str]] = field(default_factory=deque)

    def take(self, source: str, line: str) -> None:
        """A line, or with ``end`` as source the end of the past."""
        if source == "end":
            past, self.past = sorted(self.past or (), key=lambda one: one[0]), None
            kept = [one for one in past if self._new(one[1], one[2])]
            for when, _, text in kept[-self.lines :] if self.lines else kept:
                self.show(_shown(when, text))
            return
        when, text = parsed(source, line)
        if self.past is not None:
            self.past.append((when, source, text))
        elif self._new(source, text):
            self.show(_shown(when, text))

    def _new(self, source: str, text: str) -> bool:
        """Whether the other source has not brought it already."""
        other = self.waiting["container" if source == "journal" else "journal"]
        if other[text]:
            other[text] -= 1
            return False
        self.waiting[source][text] += 1
        self.order.append((source, text))
        if len(self.order) > _REMEMBERED:
            old, forgotten = self.order.popleft()
            self.waiting[old][forgotten] -= 1
            if self.waiting[old][forgotten] <= 0:
                del self.waiting[old][forgotten]
        return True


def parsed(source: str, line: str) -> tuple[float, str]:
    """When a line was written (seconds since 1970), and its text."""
    if source == "journal":
        found = _JOURNAL.match(line)
        return (float(found[1]), found[2]) if found else (0.0, line)
    when, _, text = line.partition(" ")
    try:
        # Docker has nanoseconds, Python microseconds.
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*Z$", r"\1+00:00", when)).timestamp(), text
    except ValueError:
        return 0.0, line


def _shown(when: float, text: str) -> str:
    return f"{datetime.fromtimestamp(when, UTC).astimezone().isoformat(sep=' ', timespec='seconds')[:19]} {text}"


@click.command(epilog=_EPILOG)
@click.argument("inventory", type=InventoryFile())
@click.argument("which", metavar="[HOST[/SERVICE]]", required=False)
@click.option(
    "--since", metavar="TIME", help="From then on: `30min`, `2h`, `1d`, `yesterday`, `2026-11-27 10:00` (the host's)."
)
@click.option("--lines", type=click.IntRange(min=1), help=f"At most so many of the past. [default: {LINES}, or since]")
@click.option("--no-follow", is_flag=True, help="End with what there is.")
def command(inventory: str, which: str | None, since: str | None, lines: int | None, no_follow: bool) -> None:
    """Show the logs of the services of INVENTORY, and follow them until Ctrl-C.

    A service's log is that of its unit and that of its container, as one, in the order of time. HOST and SERVICE may
    have `*` in them.
    """
    inventory, entries = resolved(inventory, ())
    services = _chosen(entries, which)
    if since and (short := _SHORT.match(since)):
        since = f"{short[1]} {_UNITS[short[2]]} ago"
    if lines is None and since is None:
        lines = LINES
    asked: dict[str, object] = {"services": services, "lines": lines, "since": since, "follow": not no_follow}
    several = sum(map(len, services.values())) > 1
    streams = {
        (host, name): Stream(_printer(f"{host}/{name} | " if several else ""), lines)
        for host, names in services.items()
        for name in names
    }
    sys.exit(_follow(inventory, asked, list(services), streams))


def _chosen(entries: list[Entry], which: str | None) -> dict[str, dict[str, str]]:
    """The services that are asked for: by host their names and units."""
    host, _, service = (which or "*").partition("/")
    found = {
        entry.name: {one.name: one.unit for one in entry.settings.resolved if fnmatch(one.name, service or "*")}
        for entry in entries
        if fnmatch(entry.name, host)
    }
    found = {name: services for name, services in found.items() if services}
    if not found:
        known = [f"{entry.name}/{one.name}" for entry in entries for one in entry.settings.resolved]
        raise click.UsageError(
            f"found no service{f' {which}' if which else ''}; there are: {', '.join(known) or 'none'}"
        )
    return found


def _printer(prefix: str) -> Callable[[str], object]:
    return lambda line: click.echo(f"{prefix}{line}")


def _follow(inventory: str, asked: dict[str, object], hosts: list[str], streams: dict[tuple[str, str], Stream]) -> int:
    argv = [sys.executable, "-P", "-m", "pyinfra", "--dry", "--yes", inventory, str(_DEPLOY)]
    for host in hosts:
        argv += ["--limit", host]
    heard = set()
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            errors="replace",
            env={**os.environ, "OJAI_LOGS": json.dumps(asked)},
            start_new_session=True,  # Ctrl-C is for us, and ends it
        ) as run,
    ):
        try:
            for host, service, source, line in _lines(run.stdout or ()):
                heard.add(host)
                if source == "error":
                    raise click.UsageError(f"--since {asked['since']}: {line.strip()}")
                if (host, service) in streams:
                    streams[host, service].take(source, line)
        except KeyboardInterrupt:
            return 0
        finally:
            run.terminate()
        errors.seek(0)
        said = errors.read()
    for host in hosts:
        if host not in heard:
            click.echo(f"{host}: {failure_of(host, said) or 'gave no answer'}", err=True)
    return 0 if len(heard) == len(hosts) else 1


def _lines(output: Iterator[str] | tuple[()]) -> Iterator[tuple[str, str, str, str]]:
    """Host, service, source and line of what :mod:`ojai.pyinfra_runs.logs_deploy` prints."""
    for text in output:
        parts = text.rstrip("\n").split("\t", 5)
        if len(parts) >= 5 and parts[0] == OF_HOST and parts[2] == MARK:
            yield parts[1], parts[3], parts[4], parts[5] if len(parts) > 5 else ""
