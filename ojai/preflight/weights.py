"""Whether the host can fetch its models, and how much that is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple
from datetime import UTC, datetime

from ojai.facts.report import Report
from ojai.preflight import FailedCheck
from ojai.settings import HostSettings
from ojai.sizes import GB
from ojai.weights import PYTHON
from ojai.weights.program import amount, duration, record_name


def failed(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """Why the hub's client would not run."""
    if report.python is None or not any(service.wanted for service in settings.resolved):
        return
    words = report.python.split(".")
    if not all(word.isdigit() for word in words) or tuple(map(int, words)) < PYTHON:
        oldest = ".".join(map(str, PYTHON))
        yield FailedCheck(
            "Python",
            "none that is whole" if report.python == "none" else f"python3 is {report.python}",
            f"{oldest} or newer with its standard library, which Ubuntu 24.04 has: the hub's client runs on it",
            "`sudo apt install python3`, or put the system's own python3 first in root's PATH",
        )


def _time(size: float, report: Report) -> str:
    """How long that takes on the host's line, by what was fetched last."""
    if not report.line:
        return ""
    rate, moment = report.line
    when = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")
    return f"; {duration(size / rate)} at {amount(rate)}/s, which the line gave last ({when})"


def remarks(settings: HostSettings, report: Report) -> Iterator[str]:
    """What is to be fetched, as far as the profiles know: the hub has the exact sizes. And whose unit will change."""
    for image in sorted({service.image for service in settings.resolved} - set(report.images)):
        yield f"{image}: to be pulled; how large it is, the registry says then"
    sizes = {service.model_directory: service for service in settings.resolved if service.wanted}
    for folder, service in sizes.items():
        there = report.space.weights.get(folder, 0)
        if folder not in report.models:
            left = max(service.profile.weights_bytes - there, 0)
            begun = f", {there / GB:.1f} GB are there" if there else ""
            yield f"{service.name}: about {left / GB:.1f} GB of {service.model} to fetch{begun}{_time(left, report)}"
        elif record_name(*astuple(service.wanted[0])) not in report.fetched:
            yield (
                f"{service.name}: {service.model} is there and not recorded yet: it is verified, and a service that "
                "runs is restarted once, to start from that commit without the hub"
            )
