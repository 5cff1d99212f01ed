"""What makes a host unfit, found before anything on it is changed: pure functions of its settings and its report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ojai import accelerators
from ojai.facts.report import Report
from ojai.memory import Budget, HostMemory, check_pages_limit, fit_together
from ojai.paths import SCHEMA
from ojai.profiles import ProfileError
from ojai.settings import HostSettings
from ojai.sizes import GIB, PAGE_BYTES, format_gib

#: Free space to leave beside image and weights, for logs and compile caches (bytes).
DISK_RESERVE = 5 * GIB

#: Free space that every deploy needs for packages, logs and the container (bytes), whatever is there already.
DISK_LEAST = GIB // 2

#: How far the host's clock may be from this machine's (seconds): apt and TLS allow less than most people think.
CLOCK_TOLERANCE = 300

#: The only apt source of AMD's on a host that this project manages.
ROCM_SOURCE = "/etc/apt/sources.list.d/ojai-rocm.sources"


@dataclass(frozen=True)
class FailedCheck:
    """Why a host is refused: the ``check``, what was ``found``, what was ``expected``, and what to do (``todo``)."""

    check: str
    found: str
    expected: str
    todo: str

    def __str__(self) -> str:
        return f"{self.check}: found {self.found}; expected {self.expected}. What to do: {self.todo}."


def fact_arguments(settings: HostSettings) -> dict[str, Any]:
    """What preflight needs to know of a host, as arguments of the fact ``HostReport``."""
    return {
        "places": ("/var/lib/docker", settings.data_directory, "/var/lib/dpkg"),
        "users": settings.gpu_users,
        "env_files": tuple(service.env_file for service in settings.resolved),
        "images": tuple(service.image for service in settings.resolved),
        "models": tuple(service.model_directory for service in settings.resolved),
        "gpus": accelerators.load(settings.accelerator).pci_ids,
    }


def memory_of(settings: HostSettings, report: Report) -> HostMemory | None:
    """The memory that the host has for a model once the roles are through; None while the driver is not up.

    The sysctl role's value counts, not the one found: it is what the engine will meet.
    """
    overcommit = settings.sysctl.get("vm.overcommit_memory", report.overcommit_memory)
    if settings.memory_regime == "gtt":
        gpu = settings.gtt_limit or 0
        # Beyond MemTotal it is refused by name (see _memory); the budget is then of what there could be.
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


def failed_checks(settings: HostSettings, report: Report, now: float | None = None) -> list[FailedCheck]:
    """Every reason to leave this host alone, in the order a person would look.

    ``now``: this machine's clock (seconds since 1970) when the host answered; None: it has just done so.
    """
    return [
        *newer(report),
        *_system(report),
        *_clock(report, time.time() if now is None else now),
        *_accounts(report),
        *_gpu(settings, report),
        *_driver(report),
        *_rocm(report),
        *_docker(settings, report),
        *_firmware(settings, report),
        *_environment(settings, report),
        *_disk(settings, report),
        *_memory(settings, report),
    ]


def newer(report: Report) -> Iterator[FailedCheck]:
    """What a newer ojai keeps on a host, this one could misread: it must neither change it nor take it away."""
    if report.schema > SCHEMA:
        yield FailedCheck(
            "notes of ojai on the host",
            f"format {report.schema} in /var/lib/ojai, written by a newer ojai",
            f"format {SCHEMA} or an older one",
            "use a newer ojai, such as the one that deployed to this host last",
        )


def _system(report: Report) -> Iterator[FailedCheck]:
    if (report.os_id, report.os_version) != ("ubuntu", "24.04"):
        yield FailedCheck(
            "operating system",
            report.os_name or "none named",
            "Ubuntu 24.04",
            "install Ubuntu 24.04; AMD publishes ROCm 7.2 packages and an OEM kernel for that release",
        )
    if report.machine != "x86_64":
        yield FailedCheck("architecture", report.machine, "x86_64", "use a machine with an AMD Ryzen processor")


def _clock(report: Report, now: float) -> Iterator[FailedCheck]:
    if report.clock is None or abs(report.clock - now) <= CLOCK_TOLERANCE:
        return
    ahead = report.clock > now
    shown = [datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S") for moment in (report.clock, now)]
    yield FailedCheck(
        "clock",
        f"{shown[0]} UTC, {timedelta(seconds=round(abs(report.clock - now)))} {'ahead of' if ahead else 'behind'} "
        "this machine's clock",
        f"{shown[1]} UTC, give or take {CLOCK_TOLERANCE // 60} minutes (apt and TLS refuse what seems to be signed "
        f"{'too long ago' if ahead else 'in the future'})",
        "`sudo timedatectl set-ntp true` on the host, or correct the clock of this machine, if that is the wrong one",
    )


def _accounts(report: Report) -> Iterator[FailedCheck]:
    if report.user != "root":
        yield FailedCheck(
            "privilege",
            f"commands run as {report.user!r}",
            "root, by sudo",
            "give that account sudo rights, or run pyinfra with --use-sudo-password",
        )
    for user in report.missing_users:
        yield FailedCheck(
            "account", f"no user {user!r}", "every name in gpu_users to exist", "create it, or correct gpu_users"
        )


def _gpu(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    gpu = accelerators.load(settings.accelerator)
    expected = [identity.replace(":", " ") for identity in gpu.pci_ids]
    found = {address: value.replace("0x", "").replace(":", " ") for address, value in report.gpus.items()}
    if not any(value in expected for value in found.values()):
        other = next(
            (
                accelerators.by_pci_id(v.replace(" ", ":"))
                for v in found.values()
                if accelerators.by_pci_id(v.replace(" ", ":"))
            ),
            None,
        )
        yield FailedCheck(
            "GPU",
            ", ".join(f"{v.replace(' ', ':')} at {a}" for a, v in found.items()) or "no display device on the PCI bus",
            f"{gpu.title} (PCI id {' or '.join(gpu.pci_ids)})",
            f"set accelerator to {other.name}" if other else f"use a machine with {gpu.name}, or correct `accelerator`",
        )
    elif report.gfx_versions and gpu.gfx_target_version not in report.gfx_versions:
        yield FailedCheck(
            "GPU instruction set",
            f"KFD names gfx_target_version {', '.join(map(str, report.gfx_versions))}",
            f"{gpu.gfx_target_version} ({gpu.name})",
            "unset HSA_OVERRIDE_GFX_VERSION on the host, or correct `accelerator`",
        )


def _driver(report: Report) -> Iterator[FailedCheck]:
    # /sys/module/amdgpu/version is no check: only the DKMS driver has it, its absence is normal (ollama#3425).
    if report.dkms or "/updates/dkms/" in report.amdgpu_module:
        yield FailedCheck(
            "GPU driver",
            f"amdgpu from DKMS ({report.amdgpu_module or ', '.join(report.dkms)})",
            "the kernel's own amdgpu, which AMD requires on Ryzen",
            "`sudo amdgpu-install --uninstall --rocmrelease=all` or `sudo apt purge amdgpu-dkms`, then reboot",
        )


def _rocm(report: Report) -> Iterator[FailedCheck]:
    if len(report.rocm_trees) > 1:
        yield FailedCheck(
            "ROCm trees",
            ", ".join(report.rocm_trees),
            "one tree under /opt",
            "remove the older one; two HIP runtimes side by side end in false out-of-memory errors",
        )
    foreign = [entry for entry in report.apt_sources if not entry.startswith(f"{ROCM_SOURCE}:")]
    if foreign:
        yield FailedCheck(
            "ROCm apt sources",
            "; ".join(foreign),
            f"only this project's {ROCM_SOURCE}",
            "remove or disable those files (`amdgpu-install --uninstall` removes its own); two sources mix releases",
        )


def _docker(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
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


def _firmware(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    for package, version in report.firmware.items():
        for bad in settings.firmware_known_bad:
            if bad in version:
                yield FailedCheck(
                    "firmware",
                    f"{package} {version}",
                    f"any other than {bad}",
                    f"`sudo apt install --only-upgrade {package}`; it breaks ROCm on RDNA 3.5 and was recalled",
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


def _disk(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    needs: dict[str, tuple[int, list[str]]] = {}

    def need(place: str, size: int, what: str) -> None:
        if place in report.disks:
            mount = report.disks[place][1]
            before, items = needs.get(mount, (0, []))
            needs[mount] = (before + size, [*items, what])

    for image in sorted({service.image for service in settings.resolved} - set(report.images)):
        need("/var/lib/docker", settings.image_bytes, f"image {image} {format_gib(settings.image_bytes)}")
    for service in settings.resolved:
        if service.model_directory not in report.models:
            size = service.profile.weights_bytes
            need(settings.data_directory, size, f"weights of {service.model} {format_gib(size)}")
    free = {mount: space for space, mount in report.disks.values()}
    for mount, space in free.items():
        if mount not in needs and space < DISK_LEAST:
            yield FailedCheck(
                "disk space",
                f"{format_gib(space)} free on {mount}: the disk is full",
                f"{format_gib(DISK_LEAST)} at least, for packages, logs and the container",
                "free space there (`sudo apt clean`, `docker image prune`, `journalctl --vacuum-size=200M`)",
            )
    for mount, (size, items) in needs.items():
        if free[mount] < size + DISK_RESERVE:
            yield FailedCheck(
                "disk space",
                f"{format_gib(free[mount])} free on {mount}",
                f"{format_gib(size + DISK_RESERVE)} ({', '.join(items)}, {format_gib(DISK_RESERVE)} to spare)",
                "free space there, or set data_directory to a larger file system",
            )


def _memory(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
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
