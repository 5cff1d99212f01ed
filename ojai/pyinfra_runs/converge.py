"""A deploy run for another program (Molecule, CI): what changed and what failed, by pyinfra's own operation names.

    python -m ojai.pyinfra_runs.converge inventory/lab.py deploy.py

pyinfra's progress goes to stderr as it comes. At the end one JSON document is written to stdout; exit status is 0 when
every host was reached and every operation worked. ``pyinfra --json`` alone does not do: when its last host fails it
prints no document, and with an inventory that has no host it ends well.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import click

#: How many of pyinfra's last lines are shown for a failure that no operation and no host is known for.
TAIL_LINES = 20

#: In pyinfra's progress: an operation begins; a host says something.
STARTING = re.compile(r"--> Starting(?: [\w ,]+?)? operation: (.*)")
OF_HOST = re.compile(r"    \[(.+?)\]\s+(.*)")
_FAILED = re.compile(r"Error(: |$)")  # "Error (ignored" is what the operation allowed
_CHANGED = re.compile(r"Success( on retry \d+)?$")
_FINE = re.compile(r"Connected$|Ready: ")


@dataclass(frozen=True)
class Changed:
    """An operation that changed something, and on which hosts."""

    operation: str
    hosts: list[str]


@dataclass(frozen=True)
class Failed:
    """A host's failure. ``operation`` is empty when it came before any; ``output`` is what pyinfra printed of it."""

    operation: str
    host: str
    output: list[str]

    def __str__(self) -> str:
        where = f"{self.operation} (on {self.host})" if self.operation else f"{self.host}, before any operation"
        return "\n".join([where, *(f"  {line}" for line in self.output)])


@dataclass(frozen=True)
class Outcome:
    """One run. ``message`` is for a person, and empty when all went well."""

    status: int
    changed: list[Changed]
    failed: list[Failed]
    message: str


def failures(transcript: Iterable[str], failed_hosts: Iterable[str] = ()) -> list[Failed]:
    """The failures in pyinfra's progress: of operations, and of hosts that came to none.

    ``failed_hosts``: those that pyinfra named, where it did.
    """
    of_operations: list[Failed] = []
    before: dict[str, list[str]] = {}
    ready: set[str] = set()
    operation = ""
    output: dict[str, list[str]] = {}
    for line in transcript:
        if starting := STARTING.match(line):
            operation, output = starting[1].strip(), {}
        elif of_host := OF_HOST.match(line.rstrip()):
            host, text = of_host.groups()
            if not operation:
                lines = before.setdefault(host, [])
                if text.startswith("Ready: "):
                    ready.add(host)
                elif not _FINE.match(text):
                    lines.append(text)
                continue
            output.setdefault(host, []).append(text)
            if _FAILED.match(text):
                of_operations.append(Failed(operation, host, output[host]))
    known = {failure.host for failure in of_operations}
    lost = {host for host in before if host not in ready} | (set(failed_hosts) - known)
    return [Failed("", host, before.get(host, [])) for host in sorted(lost)] + of_operations


def changes(transcript: Iterable[str]) -> list[Changed]:
    """The operations of pyinfra's progress that changed something: a run that fails may have changed much before."""
    found: dict[str, list[str]] = {}
    operation = ""
    for line in transcript:
        if starting := STARTING.match(line):
            operation = starting[1].strip()
        elif operation and (of_host := OF_HOST.match(line.rstrip())) and _CHANGED.match(of_host[2]):
            found.setdefault(operation, []).append(of_host[1])
    return [Changed(name, hosts) for name, hosts in found.items()]


def outcome(status: int, document: str, transcript: list[str]) -> Outcome:
    """What a finished run came to."""
    try:
        results = json.loads(document)["results"]
    except (ValueError, KeyError):
        results = {"operations": [], "failed_hosts": []}
        changed = changes(transcript)
    else:
        changed = [Changed(one["name"].strip(), one["success"]) for one in results["operations"] if one["success"]]
    if status == 0 and results["operations"]:
        return Outcome(0, changed, [], "")
    failed = failures(transcript, results["failed_hosts"]) if status else []
    message = ["pyinfra failed in:", *map(str, failed)] if failed else []
    if status == 0:
        message = ["pyinfra ran no operation: the inventory has no host, or the deploy is empty."]
    if not all(failure.output for failure in failed) or not failed:
        lines = [line.rstrip() for line in transcript if line.strip()][-TAIL_LINES:]
        message += ["pyinfra's last lines:", *(f"  {line}" for line in lines)]
    return Outcome(status or 1, changed, failed, "\n".join(message))


def converge(words: list[str], log: Path | None = None) -> Outcome:
    """Run pyinfra with these words. Its progress is passed on to stderr, and to the log as it comes."""
    argv = [sys.executable, "-P", "-m", "pyinfra", "--yes", "--json", *words]
    with ExitStack() as stack:
        document = stack.enter_context(tempfile.TemporaryFile("w+"))
        sinks: list[IO[str]] = [sys.stderr]
        if log:
            sinks.append(stack.enter_context(log.open("w", buffering=1)))
        transcript = []
        with subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=document,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**os.environ, "NO_COLOR": "1"},
        ) as pyinfra:
            for line in pyinfra.stderr or ():
                transcript.append(line)
                for sink in sinks:
                    sink.write(line)
        document.seek(0)
        return outcome(pyinfra.returncode, document.read(), transcript)


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--log", type=click.Path(dir_okay=False, path_type=Path), help="Write pyinfra's progress to this file.")
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED)
def main(words: tuple[str, ...], log: Path | None) -> None:
    """Run pyinfra with WORDS (an inventory, a deploy, options) and print what came of it as JSON."""
    found = converge(list(words), log)
    click.echo(json.dumps(asdict(found), indent=2))
    sys.exit(found.status)


if __name__ == "__main__":
    main()
