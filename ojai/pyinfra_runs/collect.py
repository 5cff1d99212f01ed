"""What the hosts of an inventory answer, asked through pyinfra in a process of its own; nothing on them is changed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ojai import accelerators
from ojai.facts.report import Report
from ojai.settings import HostSettings, Service

#: What each line of an answer begins with, among all else that pyinfra prints.
MARK = "ojai-survey"

_DEPLOY = Path(__file__).with_name("collect_deploy.py")
_REPORT = TypeAdapter(Report)

#: What pyinfra says of a host on the way, and the call of the fact, which is longer than its answer.
_PROGRESS = ("Connected", "Ready: ", "Error: could not load fact")


class CollectError(Exception):
    """The survey itself did not run; the message has what pyinfra said."""


@dataclass(frozen=True)
class Answer:
    """A host's ``report``, or ``failure`` with what pyinfra said of it."""

    report: Report | None
    failure: str = ""


def fact_arguments(settings: HostSettings) -> dict[str, Any]:
    """What preflight wants to know of a host, as arguments of the fact ``HostReport``."""
    return {
        "places": ("/var/lib/docker", settings.data_directory, "/var/lib/dpkg"),
        "users": settings.gpu_users,
        "env_files": tuple(service.env_file for service in settings.services),
        "images": tuple(settings.command(service).image for service in settings.services),
        "models": tuple(model_folder(settings, service) for service in settings.services),
        "gpus": accelerators.load(settings.accelerator).pci_ids,
    }


def model_folder(settings: HostSettings, service: Service) -> str:
    """Where the Hugging Face cache has the service's model, as huggingface_hub names it."""
    name = settings.command(service).model.replace("/", "--")
    return f"{settings.cache('huggingface')}/hub/models--{name}"


def line(name: str, report: Report) -> str:
    """A host's answer in one line."""
    return f"{MARK}\t{name}\t{_REPORT.dump_json(report).decode()}"


def collect_facts(inventory: str, names: list[str], limit: tuple[str, ...] = ()) -> dict[str, Answer]:
    """The answers of the hosts called ``names``, by name; a host that cannot be reached has a failure instead.

    Raises :class:`SurveyError` when pyinfra refuses the run as a whole.
    """
    argv = [sys.executable, "-m", "pyinfra", "--dry", "--yes", inventory, str(_DEPLOY)]
    for pattern in limit:
        argv += ["--limit", pattern]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    reports: dict[str, Report] = {}
    for said in done.stdout.splitlines():
        mark, _, rest = said.partition("\t")
        name, _, text = rest.partition("\t")
        if mark == MARK and name:
            try:
                reports[name] = _REPORT.validate_json(text)
            except ValidationError as error:
                raise CollectError(f"{name}: its answer cannot be read: {error}") from None
    failures = {name: _failure(name, done.stderr) for name in names if name not in reports}
    if not reports and not any(failures.values()):
        raise CollectError(done.stderr.strip() or f"pyinfra ended with status {done.returncode} and said nothing")
    return {
        name: Answer(
            reports.get(name), failures.get(name, "") or ("" if name in reports else "gave no answer that can be read")
        )
        for name in names
    }


def _failure(name: str, said: str) -> str:
    """What pyinfra said of one host: the lines that begin with its name in brackets."""
    mark = f"[{name}]"
    told = [text.strip().removeprefix(mark).strip() for text in said.splitlines() if text.strip().startswith(mark)]
    return "; ".join(text for text in told if text and not text.startswith(_PROGRESS))
