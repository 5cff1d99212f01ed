"""What stands in the way of packages: apt sources, ROCm trees."""

from __future__ import annotations

from collections.abc import Iterator

from ojai.facts.report import Report
from ojai.preflight import FailedCheck
from ojai.settings import HostSettings

#: The only apt source of AMD's on a host that this project manages.
ROCM_SOURCE = "/etc/apt/sources.list.d/ojai-rocm.sources"


def failed(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """Why apt's sources, or the ROCm that is there, will not do."""
    if len(report.rocm_trees) > 1:
        yield FailedCheck(
            "ROCm trees",
            ", ".join(report.rocm_trees),
            "one tree under /opt",
            "remove the older one; two HIP runtimes side by side end in false out-of-memory errors",
        )
    foreign = [entry for entry in report.apt_sources if not entry.startswith(f"{ROCM_SOURCE}:")]
    if foreign and not settings.adopt:  # adoption judges each of them
        yield FailedCheck(
            "ROCm apt sources",
            "; ".join(foreign),
            f"only this project's {ROCM_SOURCE}",
            "set `adopt: true` to have them set aside until removal, or remove or disable those files "
            "(`amdgpu-install --uninstall` removes its own); two sources mix releases",
        )
