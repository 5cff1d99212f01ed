"""What the Docker that is there cannot do."""

from __future__ import annotations

from collections.abc import Iterator

from ojai.facts.report import Report
from ojai.preflight import FailedCheck
from ojai.settings import HostSettings


def failed(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """Why Docker will not do."""
    yield from _packages(settings, report)


def _packages(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    expected = "docker-ce" if settings.docker_source == "docker" else "docker.io"
    for found in report.docker:
        if found != expected:
            other = "docker" if found == "docker-ce" else "ubuntu"
            yield FailedCheck(
                "Docker packages",
                f"{found} installed",
                f"{expected} or none (docker_source is {settings.docker_source}); the two exclude each other",
                f"set docker_source to {other}, or remove {found} yourself, with what runs under it",
            )
