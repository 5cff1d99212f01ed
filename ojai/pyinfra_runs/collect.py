"""What the hosts of an inventory answer, asked through pyinfra in a process of its own; nothing on them is changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ojai.engines import Workload
from ojai.facts.condition import Answered
from ojai.facts.gateway import Access
from ojai.facts.report import Report
from ojai.facts.status import HostStatus

#: The environment variable by which workloads come to ``collect_benchmarks.py``.
WORKLOADS = "OJAI_WORKLOADS"

#: The environment variable by which ``collect_locks.py`` gets the names that are asked of registry and hub.
FRESH = "OJAI_FRESH"

#: In the environment of a run whose hosts are to ask registry and hub.
UPSTREAM = "OJAI_UPSTREAM"

#: The environment variable by which ``tune_deploy.py`` gets what is to be tuned.
TUNED = "OJAI_TUNED"

#: What each line of an answer begins with, among all else that pyinfra prints.
MARK = "ojai-survey"

_REPORT = TypeAdapter(Report)
_ACCESS = TypeAdapter(Access)
_ANSWERED = TypeAdapter(Answered)
_WORKLOADS = TypeAdapter(dict[str, Workload])
_STATUS = TypeAdapter(HostStatus)

#: In the environment of a run that is to read keys.
SHOW_KEY = "OJAI_SHOW_KEY"

#: pyinfra's progress messages of a host, and the call of the fact, which is longer than its answer.
_PROGRESS = ("Connected", "Ready: ", "Error: could not load fact")


class CollectError(Exception):
    """pyinfra itself failed; the message has its output."""


@dataclass(frozen=True)
class Answer:
    """A host's ``report``, or ``failure`` with pyinfra's message."""

    report: Report | None
    failure: str = ""


def line(name: str, report: Report) -> str:
    """A host's report in one line."""
    return marked(name, _REPORT.dump_json(report).decode())


def marked(name: str, document: str) -> str:
    """A host's answer, JSON without a line break, as a line."""
    return f"{MARK}\t{name}\t{document}"


def read_marked(output: str) -> dict[str, str]:
    """The documents in what a run printed, by host."""
    documents: dict[str, str] = {}
    for text in output.splitlines():
        mark, _, rest = text.partition("\t")
        name, _, document = rest.partition("\t")
        if mark == MARK and name:
            documents[name] = document
    return documents


def collect_facts(
    inventory: str,
    names: list[str],
    limit: tuple[str, ...] = (),
    data: tuple[str, ...] = (),
    upstream: bool = False,
) -> dict[str, Answer]:
    """The answers of the hosts called ``names``, by name; a host that cannot be reached has a failure instead.

    ``data``: settings over those of the inventory, as pyinfra's ``--data`` takes them. ``upstream``: the hosts ask
    registry and hub too. Raises :class:`CollectError`
    when pyinfra refuses the run as a whole.
    """
    documents, failures = _collect(
        "collect_deploy.py", inventory, names, limit, data, {UPSTREAM: "yes"} if upstream else None
    )
    reports: dict[str, Report] = {}
    for name, document in documents.items():
        try:
            reports[name] = _REPORT.validate_json(document)
        except ValidationError as error:
            raise CollectError(f"{name}: its answer cannot be read: {error}") from None
    return {name: Answer(reports.get(name), failures.get(name, "")) for name in names}


def collect_containers(
    inventory: str, names: list[str], limit: tuple[str, ...] = ()
) -> tuple[dict[str, list[Any]], dict[str, str]]:
    """What docker says of each host's running containers and their images, by host; and failures, as above."""
    documents, failures = _collect("collect_containers.py", inventory, names, limit)
    return {name: json.loads(document) for name, document in documents.items()}, failures


def collect_access(
    inventory: str, names: list[str], limit: tuple[str, ...], show: bool
) -> tuple[dict[str, Access], dict[str, str]]:
    """What a client of each host's gateway needs, by host, with the keys themselves if ``show``; and failures."""
    environment = {SHOW_KEY: "yes"} if show else None
    documents, failures = _collect("open_deploy.py", inventory, names, limit, environment=environment)
    return {name: _ACCESS.validate_json(document) for name, document in documents.items()}, failures


def collect_conditions(
    inventory: str, names: list[str], limit: tuple[str, ...] = ()
) -> tuple[dict[str, Answered], dict[str, str]]:
    """What the hosts answer to ``ojai doctor``, by host; and failures, as above."""
    documents, failures = _collect("collect_conditions.py", inventory, names, limit)
    return {name: _ANSWERED.validate_json(document) for name, document in documents.items()}, failures


def collect_benchmarks(
    inventory: str, names: list[str], service: str, workloads: Mapping[str, Workload], limit: tuple[str, ...] = ()
) -> tuple[dict[str, dict[str, tuple[str, str]]], dict[str, str]]:
    """What the engine's own program of measurement printed beside a service, by host and workload; and failures.

    Beside each text is the end of what the program complained of.
    """
    environment = {WORKLOADS: json.dumps([service, _WORKLOADS.dump_python(dict(workloads), mode="json")])}
    documents, failures = _collect("collect_benchmarks.py", inventory, names, limit, environment=environment)
    return {name: json.loads(document) for name, document in documents.items()}, failures


def condition_line(name: str, answered: Answered) -> str:
    """A host's answer to ``ojai doctor`` in one line."""
    return marked(name, _ANSWERED.dump_json(answered).decode())


def collect_statuses(
    inventory: str, names: list[str], limit: tuple[str, ...] = ()
) -> tuple[dict[str, HostStatus], dict[str, str]]:
    """How the hosts are at this moment, by host; and failures, as above."""
    documents, failures = _collect("collect_statuses.py", inventory, names, limit)
    return {name: _STATUS.validate_json(document) for name, document in documents.items()}, failures


def collect_locks(
    inventory: str, names: list[str], fresh: list[str], limit: tuple[str, ...] = ()
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """What a lock is made from, by host; and failures, as above. ``fresh``: what registry and hub are asked for."""
    documents, failures = _collect("collect_locks.py", inventory, names, limit, environment={FRESH: json.dumps(fresh)})
    return {name: json.loads(document) for name, document in documents.items()}, failures


def status_line(name: str, status: HostStatus) -> str:
    """A host's status in one line."""
    return marked(name, _STATUS.dump_json(status).decode())


def _collect(
    deploy: str,
    inventory: str,
    names: list[str],
    limit: tuple[str, ...],
    data: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
) -> tuple[dict[str, str], dict[str, str]]:
    """The documents that a deploy beside this file prints by :func:`marked`, and the failures of the other hosts."""
    argv = [sys.executable, "-P", "-m", "pyinfra", "--dry", "--yes", inventory, str(Path(__file__).with_name(deploy))]
    for pattern in limit:
        argv += ["--limit", pattern]
    for pair in data:
        argv += ["--data", pair]
    surroundings = {**os.environ, **(environment or {})}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=surroundings)
    documents = read_marked(done.stdout)
    failures = {name: failure_of(name, done.stderr) for name in names if name not in documents}
    if not documents and not any(failures.values()):
        raise CollectError(done.stderr.strip() or f"pyinfra ended with status {done.returncode} and no message")
    return documents, {name: failure or "gave no answer that can be read" for name, failure in failures.items()}


def failure_of(name: str, output: str) -> str:
    """pyinfra's messages about one host: the lines that begin with its name in brackets."""
    mark = f"[{name}]"
    lines = [line.strip().removeprefix(mark).strip() for line in output.splitlines() if line.strip().startswith(mark)]
    return "; ".join(line for line in lines if line and not line.startswith(_PROGRESS))
