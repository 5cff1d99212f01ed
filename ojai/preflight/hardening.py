"""Whether a hardened service can do its work with what it is left with."""

from __future__ import annotations

from collections.abc import Iterator

from ojai.facts.report import Report
from ojai.memory import container_limit
from ojai.preflight import FailedCheck
from ojai.settings import HostSettings
from ojai.sizes import format_gib


def failed(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """Why a hardened service cannot write to its caches, or would meet its limit of memory."""
    for service in (service for service in settings.resolved if service.hardened):
        for source in service.command.mounts:
            for path, owner in report.folders.cache_owners.items():
                if owner != "root" and (source == path or source.startswith(f"{path}/")):
                    yield FailedCheck(
                        f"{service.name}: hardened",
                        f"the cache {path} of {owner}",
                        "one of root's: the container has no capability to write to the files of others",
                        f"leave hardened out, or `sudo chown -R root {path}`",
                    )
        limit = container_limit(report.memory_total)
        if settings.memory_regime == "gtt" and report.memory_total and (settings.gtt_limit or 0) > limit:
            yield FailedCheck(
                f"{service.name}: hardened",
                f"gtt_limit {format_gib(settings.gtt_limit or 0)}",
                f"{format_gib(limit)} at most, which the container may take of this host's memory",
                "lower gtt_limit, or leave hardened out",
            )
