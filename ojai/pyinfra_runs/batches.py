"""pyinfra over some hosts of an inventory, which were read before and are handed over as data."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from ojai.connection.lock import COMMAND
from ojai.facts.rollout import HostStanding
from ojai.pyinfra_runs.collect import read_marked
from ojai.pyinfra_runs.converge import OF_HOST, STARTING, TAIL_LINES, failures
from ojai.pyinfra_runs.drift import GIVEN, given
from ojai.settings.inventory import Entry
from ojai.settings.lock import VARIABLE

#: The environment variable by which ``rollout_deploy.py`` gets what is to be kept on the hosts.
NOTES = "OJAI_ROLLOUT"

#: Seconds that pyinfra has to end when it is told to.
PATIENCE = 10

#: How its recap calls a host on which all went well, one that gave no answer, and one that may not be changed.
OK, UNREACHABLE, REFUSED, FAILED = "ok", "UNREACHABLE", "REFUSED", "FAILED"

#: Hears what a host does: its name, or none for all of a run; and what is said.
Tell = Callable[[str, str], None]

_RECAP = re.compile(r" {4}(\S+) +(ok|[A-Z]{4,})(?: {2}(.*))?$")
_STANDING = TypeAdapter(HostStanding)
_DEPLOY = Path(__file__).with_name("rollout_deploy.py")


@dataclass(frozen=True)
class Result:
    """What came of a run on a host: a word of pyinfra's recap, and the reason."""

    word: str
    reason: str = ""


def deploy(entries: Sequence[Entry], file: Path, tell: Tell, command: str) -> dict[str, Result]:
    """Deploy to hosts; what came of it, by host. ``command``: who asks on the host is told that this runs."""
    _, results = _run(entries, file, file, ("--yes",), {COMMAND: command}, tell)
    return results


def standings(
    entries: Sequence[Entry], deploy: Path, notes: Mapping[str, str] | None = None
) -> tuple[dict[str, HostStanding], dict[str, Result]]:
    """Where hosts stand, and how they were reached, by host; ``notes``: by host, shell that keeps something there."""
    # Asked for without --dry, a host's answer comes before what is done there.
    options = ("--yes",) if notes else ("--dry", "--yes")
    documents, results = _run(entries, _DEPLOY, deploy, options, {NOTES: json.dumps(notes or {})})
    return {name: _STANDING.validate_json(document) for name, document in documents.items()}, results


def _run(
    entries: Sequence[Entry],
    file: Path,
    deploy: Path,
    options: tuple[str, ...],
    environment: Mapping[str, str],
    tell: Tell = lambda host, text: None,
) -> tuple[dict[str, str], dict[str, Result]]:
    """Run a file on hosts, in the surroundings of a deploy: what it printed by ``marked``, and the results."""
    folder, hosts = given(entries, deploy.resolve())
    # A run of a controller that was killed would go on by itself.
    bound = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
    argv = [*bound, sys.executable, "-P", "-m", "pyinfra", *options, GIVEN, str(file.resolve())]
    lock = next((one.lock for one in entries if one.lock), None)
    transcript: list[str] = []
    with tempfile.TemporaryFile("w+") as printed:
        pyinfra = subprocess.Popen(
            argv,
            cwd=folder,
            env={**os.environ, **environment, VARIABLE: str(lock or ""), "NO_COLOR": "1"},
            stdin=subprocess.PIPE,
            stdout=printed,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        try:
            with suppress(BrokenPipeError):  # it says why
                pyinfra.stdin.write(hosts)  # type: ignore[union-attr]
                pyinfra.stdin.close()  # type: ignore[union-attr]
            for line in pyinfra.stderr or ():
                transcript.append(line)
                if starting := STARTING.match(line):
                    tell("", starting[1].strip())
                elif of_host := OF_HOST.match(line.rstrip()):
                    tell(*of_host.groups())
            pyinfra.wait()
        finally:
            _end(pyinfra)
        printed.seek(0)
        return read_marked(printed.read()), results([one.name for one in entries], pyinfra.returncode, transcript)


def _end(process: subprocess.Popen[str]) -> None:
    """End a process that still runs: this program was interrupted."""
    with suppress(subprocess.TimeoutExpired):
        if process.poll() is None:
            process.terminate()
            process.wait(PATIENCE)
    if process.poll() is None:
        process.kill()
        process.wait()


def results(names: Iterable[str], status: int, transcript: Sequence[str]) -> dict[str, Result]:
    """What came of a run on each host: by its recap, where there is one."""
    start = next((place for place, line in enumerate(transcript) if line.startswith("--> Recap:")), len(transcript))
    said = [line.rstrip() for line in transcript[:start]]
    found = {
        line[1]: Result(line[2], line[3] or "")
        for line in map(_RECAP.match, map(str.rstrip, transcript[start:]))
        if line
    }
    # Without a recap it is a deploy of somebody's own, or pyinfra itself failed.
    lost = {one.host: ": ".join(filter(None, [one.operation, " ".join(one.output[-3:])])) for one in failures(said)}
    tail = " ".join(line.strip() for line in said[-TAIL_LINES:])[-500:]

    def result(name: str) -> Result:
        if status == 0:
            return Result(OK)
        reason = lost.get(name) or f"pyinfra ended with status {status}: {tail or 'it said nothing'}"
        return Result(FAILED if f"    [{name}] Connected" in said else UNREACHABLE, reason)

    return {name: found.get(name) or result(name) for name in names}
