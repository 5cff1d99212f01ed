"""Whether what is to be served fits the GPU's memory."""

from __future__ import annotations

from collections.abc import Iterator

from ojai.facts.report import Report
from ojai.memory import Budget, HostMemory, check_pages_limit, fit_together
from ojai.preflight import FailedCheck
from ojai.profiles import ProfileError
from ojai.settings import HostSettings
from ojai.sizes import PAGE_BYTES, format_gib


def memory_of(settings: HostSettings, report: Report) -> HostMemory | None:
    """The memory that the host has for a model once the roles are through; None while the driver is not up.

    The sysctl role's value counts, not the one found: it is what the engine will meet.
    """
    overcommit = settings.sysctl.get("vm.overcommit_memory", report.overcommit_memory)
    if settings.memory_regime == "gtt":
        gpu = settings.gtt_limit or 0
        # Beyond MemTotal it is refused by name (see `failed`); the budget is then of what there could be.
        gpu = min(gpu, report.memory_total) if report.memory_total else gpu
    elif report.vram_total is None:
        return None
    else:
        gpu = report.vram_total
    return HostMemory.model_validate(
        {
            "gpu_bytes": gpu,
            "regime": settings.memory_regime,
            "os_bytes": report.memory_total or None,
            "swap_bytes": report.swap_total,
            "overcommit_memory": int(overcommit),
        }
    )


def budgets(settings: HostSettings, report: Report) -> dict[str, Budget]:
    """The memory budget of each service by name; empty while the GPU's memory is not known."""
    memory = memory_of(settings, report)
    if memory is None:
        return {}
    return {service.name: service.budget(memory) for service in settings.resolved}


def failed(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """Why what is to be served does not fit."""
    if settings.memory_regime == "gtt" and settings.gtt_limit and report.memory_total:
        for reason in check_pages_limit(settings.gtt_limit // PAGE_BYTES, report.memory_total):
            yield FailedCheck("gtt_limit", reason, "no more than the system's own memory", "lower gtt_limit")
    memory = memory_of(settings, report)
    if memory is None:
        return
    try:
        found = budgets(settings, report)
    except ProfileError as error:
        yield FailedCheck("memory budget", f"a choice of unknown size: {error}", "a known size", "change it")
        return
    for service in settings.resolved:
        result = found[service.name]
        if not result.fits:
            yield FailedCheck(
                f"memory for {service.name}",
                f"{format_gib(memory.gpu_bytes)} of GPU memory: {'; '.join(result.reasons)}",
                f"room for {service.profile.name} at {result.max_model_len} tokens",
                result.suggestion or "choose a smaller profile (`ojai profiles`)",
            )
    if len(found) > 1 and all(result.fits for result in found.values()):
        for reason in fit_together({service.name: service.demand for service in settings.resolved}, memory):
            yield FailedCheck("memory for all services", reason, "all of them at once", "lower gpu_memory_utilization")
