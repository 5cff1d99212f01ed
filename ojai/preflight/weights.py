"""Whether the host can fetch its models, and how much that is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple

from ojai.facts.report import Report
from ojai.preflight import FailedCheck, upstream
from ojai.settings import HostSettings
from ojai.weights import PYTHON
from ojai.weights.program import record_name


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


def remarks(settings: HostSettings, report: Report) -> Iterator[str]:
    """What is to be fetched, and how long that takes. And whose unit will change."""
    yield from upstream.sentences(settings, report)
    fetched = {one.what for one in upstream.fetches(settings, report)}
    sizes = {service.model_directory: service for service in settings.resolved if service.wanted}
    for folder, service in sizes.items():
        unknown = record_name(*astuple(service.wanted[0])) not in report.fetched
        if folder in report.models and unknown and service.model not in fetched:
            yield (
                f"{service.name}: {service.model} is there and not recorded yet: it is verified, and a service that "
                "runs is restarted once, to start from that commit without the hub"
            )
