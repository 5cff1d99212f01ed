"""Lines of an environment file that Docker cannot read, or that would break a service."""

from __future__ import annotations

from collections.abc import Iterator

from ojai.facts.report import Report
from ojai.preflight import FailedCheck
from ojai.settings import HostSettings

#: What was found at a place, by the report's word for it, and what to do.
_FAULTS = {
    "link": ("a symbolic link", "put the file itself there"),
    "kind": ("something that is no file", "move it away"),
    "encoding": ("bytes that are not UTF-8", "save the file as UTF-8"),
    "nameless": ("no name before the =", "write NAME=value"),
    "export": ("`export`", "write NAME=value, without `export`"),
    "blank": ("a blank in the name, or no =", "write NAME=value, without blanks around the ="),
    "quotes": ("quotes around the value, which Docker makes part of it", "write the value without quotes"),
    "comment": ("a comment after the value, which Docker makes part of it", "put it on a line of its own"),
    "spaces": ("a blank in a secret", "write the value alone, without a blank at its end"),
    "token": ("a quote or = in a token", "write NAME=hf_… with the token alone"),
}


def failed(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """Why what a service is given will not do."""
    for file, faults in report.environment.faults.items():
        for number, word in faults:
            found, todo = _FAULTS[word]
            yield FailedCheck(
                "environment file",
                f"{found} ({file}{f', line {number}' if number else ''}; its text is not shown)",
                "lines of NAME=value, as Docker's --env-file reads them",
                todo,
            )
    yield from _variables(settings, report)


def _variables(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
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
