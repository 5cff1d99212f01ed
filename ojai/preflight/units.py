"""Whether systemd will read what the deploy writes, as it is written."""

from __future__ import annotations

from collections.abc import Iterator

from ojai.facts.report import Report
from ojai.preflight import FailedCheck
from ojai.settings import HostSettings


def failed(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """Which drop-ins would change a unit of ours together with others, and whether a boot sets kernel parameters."""
    if report.owner.sysctl.masked and settings.sysctl:
        yield FailedCheck(
            "kernel parameters",
            "systemd-sysctl.service masked, so no boot sets any",
            "it not masked",
            "`sudo systemctl unmask systemd-sysctl.service`",
        )
    for unit, files in report.shared_dropins.items():
        yield FailedCheck(
            "systemd drop-ins",
            f"{', '.join(files)}, which changes {unit} and others too",
            "the unit as the deploy writes it",
            "remove the file, or move its settings to the units that they are meant for",
        )
