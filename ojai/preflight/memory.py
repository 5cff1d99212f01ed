"""Whether what is to be served fits the GPU's memory."""

from __future__ import annotations

from collections.abc import Iterator

from ojai import accelerators
from ojai.facts.report import Report
from ojai.memory import OPTIONS_FILE, Budget, HostMemory, Limit, check_pages_limit, fit_together, others_in_force
from ojai.preflight import FailedCheck
from ojai.settings import HostSettings
from ojai.sizes import GIB, PAGE_BYTES, format_gib


def memory_of(settings: HostSettings, report: Report) -> HostMemory | None:
    """The memory that the host has for a model once the roles are through; None while the driver is not up.

    The sysctl role's value counts, not the one found: it is what the engine will meet.
    """
    overcommit = settings.sysctl.get("vm.overcommit_memory", report.overcommit_memory)
    if settings.memory_regime == "gtt":
        gpu = settings.gtt_limit or 0
        # Beyond MemTotal it is refused by name (see `failed`); the budget is then of what there could be.
        gpu = min(gpu, report.memory_total) if report.memory_total else gpu
    elif not report.vram_total:
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
    if settings.gtt_limit and report.memory_total:
        for reason in check_pages_limit(settings.gtt_limit // PAGE_BYTES, report.memory_total):
            most = f"set gtt_limit to {report.memory_total // GIB}GiB at most"
            yield FailedCheck("gtt_limit", reason, "no more than the system's own memory", most)
    yield from _limits(settings, report)
    if settings.memory_regime == "carveout" and report.vram_total == 0:
        yield FailedCheck(
            "GPU memory",
            "mem_info_vram_total 0: the BIOS gives the GPU no memory of its own (its UMA setting is Auto)",
            "a carve-out, since memory_regime is carveout",
            "set the UMA frame buffer in the BIOS to a size (`ojai budget PROFILE` names the least), or "
            "memory_regime to gtt",
        )
    memory = memory_of(settings, report)
    if memory is None:
        return
    found = budgets(settings, report)
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


def warnings(settings: HostSettings) -> Iterator[str]:
    """What is to be known of the memory that the GPU borrows."""
    known = accelerators.load(settings.accelerator).gtt
    if settings.memory_regime == "gtt" and settings.resolved and known:
        yield f"memory_regime gtt on {settings.accelerator}: {known}"


def limit_not_in_force(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """After the kernel role: with a limit that did not take effect the GPU has less than the budget counts on."""
    pages = settings.gtt_limit // PAGE_BYTES if settings.gtt_limit else None
    shown = "none that can be read" if report.ttm_pages is None else f"{report.ttm_pages} pages"
    if pages not in (None, report.ttm_pages):
        yield FailedCheck(
            "TTM limit",
            f"{shown} in /sys/module/ttm/parameters/pages_limit",
            f"{pages} (gtt_limit {format_gib(settings.gtt_limit or 0)})",
            f"reboot, which makes {OPTIONS_FILE} take effect, and deploy again",
        )


def _limits(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """What others have set, and what wins over ours: another reboot would not change it."""
    expected = settings.gtt_limit if settings.memory_regime == "gtt" else None
    wrong: dict[Limit, None] = {}
    for place, words in (("/proc/cmdline", report.gpu.boot_words), ("GRUB_CMDLINE_LINUX", report.gpu.grub_words)):
        for limit in others_in_force(report.gpu.module_options, words, place, ours=expected is not None):
            unit = PAGE_BYTES if limit.setting.startswith("ttm.") else 1 << 20
            if expected is None:
                bad = limit.setting.startswith("ttm.") and limit.bytes > report.memory_total > 0
            else:
                bad = limit.bytes // unit != expected // unit
            if bad:
                wrong[limit] = None
    found = ", ".join(f"{limit.setting} ({format_gib(limit.bytes)}) in {limit.place}" for limit in wrong)
    where = (
        "delete it there (with `sudo update-grub` for a kernel parameter, `sudo update-initramfs -u -k all` for a file)"
    )
    if wrong and expected is not None:
        yield FailedCheck(
            "TTM limit",
            f"{found}, which wins over {OPTIONS_FILE}",
            f"ttm.pages_limit={expected // PAGE_BYTES} (gtt_limit {format_gib(expected)}), set by the deploy alone",
            f"{where}, or set gtt_limit to the same; then reboot and deploy again",
        )
    elif wrong:
        yield FailedCheck(
            "TTM limit",
            found,
            f"no more than this host's memory ({format_gib(report.memory_total)}): the kernel would kill processes",
            f"{where}, reboot and deploy again",
        )
