"""What the Docker that is there cannot do, and variables that would break a service."""

from __future__ import annotations

from collections.abc import Iterator

from ojai.facts.report import Report
from ojai.preflight import FailedCheck
from ojai.settings import HostSettings


def failed(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """Why Docker, or what a service is given there, will not do."""
    yield from _packages(settings, report)
    yield from _environment(settings, report)


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


def _environment(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    for service in settings.resolved:
        for name in report.env_names.get(service.env_file, ()):
            refusal = service.engine.forbidden(name, service.accelerator)
            if refusal and refusal.code not in (service.features.allow or ()):
                yield FailedCheck(
                    "environment file",
                    f"{name} set in {service.env_file}",
                    "that variable to be absent",
                    f"delete its line; {refusal.reason} ({refusal.source}). `allow: [{refusal.code}]` overrides this",
                )
