"""What makes a host unfit, found before anything on it is changed: pure functions of its settings and its report."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ojai import accelerators, profiles
from ojai.facts.report import Report
from ojai.memory import Budget, HostMemory, check_pages_limit, fit_together
from ojai.memory.services import demand, of
from ojai.paths import SCHEMA
from ojai.pyinfra_runs.collect import model_folder
from ojai.settings import HostSettings
from ojai.sizes import GIB, PAGE_BYTES, format_gib

#: Free space to leave beside image and weights, for logs and compile caches (bytes).
DISK_RESERVE = 5 * GIB

#: Free space that every deploy needs for packages, logs and the container (bytes), whatever is there already.
DISK_LEAST = GIB // 2

#: How far the host's clock may be from this machine's (seconds): apt and TLS allow less than most people think.
CLOCK_TOLERANCE = 300

#: The one file that names AMD's packages on a host that this project keeps.
ROCM_SOURCE = "/etc/apt/sources.list.d/ojai-rocm.sources"

#: Variables that must not reach the engine on this silicon: pattern, code under `allow`, reason, source.
FORBIDDEN = (
    (
        re.compile(r"^VLLM_ROCM_USE_AITER"),
        "aiter",
        "AITER's kernels are for Instinct GPUs; the engine dies while it loads",
        "26B guide, section 9.4",
    ),
    (
        re.compile(r"^PYTORCH_(HIP_|CUDA_)?ALLOC_CONF$"),
        "expandable-segments",
        "expandable_segments is not supported by HIP",
        "both guides",
    ),
    (
        re.compile(r"^VLLM_SERVER_DEV_MODE$"),
        "dev-mode",
        "it opens endpoints that reload weights and run code",
        "vLLM's security documentation",
    ),
)


@dataclass(frozen=True)
class Refusal:
    """Why a host is refused: the ``check``, what was ``found``, what was ``expected``, and what to do (``todo``)."""

    check: str
    found: str
    expected: str
    todo: str

    def __str__(self) -> str:
        return f"{self.check}: found {self.found}; expected {self.expected}. What to do: {self.todo}."


def memory_of(settings: HostSettings, report: Report) -> HostMemory | None:
    """The memory that the host has for a model once the roles are through; None while the driver is not up.

    The sysctl role's value counts, not the one found: it is what the engine will meet.
    """
    overcommit = settings.sysctl.get("vm.overcommit_memory", report.overcommit_memory)
    if settings.memory_regime == "gtt":
        gpu = settings.gtt_limit or 0
        # Beyond MemTotal it is refused by name (see _memory); the budget then speaks of what there could be.
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
    return {
        service.name: of(profiles.load(service.profile), memory, service.features, settings.accelerator)
        for service in settings.services
    }


def refusals(settings: HostSettings, report: Report, now: float | None = None) -> list[Refusal]:
    """Every reason to leave this host alone, in the order a person would look.

    ``now``: this machine's clock (seconds since 1970) when the host answered; None: it has just done so.
    """
    return [
        *unknown_format(report),
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


def unknown_format(report: Report) -> Iterator[Refusal]:
    """What a newer ojai keeps on a host, this one could misread: it must neither change it nor take it away."""
    if report.schema > SCHEMA:
        yield Refusal(
            "ojai's state on the host",
            f"format version {report.schema} in /var/lib/ojai, written by a newer ojai",
            f"version {SCHEMA} or older",
            "use a newer ojai: the version that last deployed to this host, or a later one",
        )


def _system(report: Report) -> Iterator[Refusal]:
    if (report.os_id, report.os_version) != ("ubuntu", "24.04"):
        yield Refusal(
            "operating system",
            report.os_name or "none named",
            "Ubuntu 24.04",
            "install Ubuntu 24.04; AMD publishes ROCm 7.2 packages and an OEM kernel for that release",
        )
    if report.machine != "x86_64":
        yield Refusal("architecture", report.machine, "x86_64", "take a machine with an AMD Ryzen processor")


def _clock(report: Report, now: float) -> Iterator[Refusal]:
    if report.clock is None or abs(report.clock - now) <= CLOCK_TOLERANCE:
        return
    ahead = report.clock > now
    shown = [datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S") for moment in (report.clock, now)]
    yield Refusal(
        "clock",
        f"{shown[0]} UTC, {timedelta(seconds=round(abs(report.clock - now)))} {'ahead of' if ahead else 'behind'} "
        "this machine's clock",
        f"{shown[1]} UTC, give or take {CLOCK_TOLERANCE // 60} minutes (apt and TLS refuse what seems to be signed "
        f"{'too long ago' if ahead else 'in the future'})",
        "`sudo timedatectl set-ntp true` on the host, or correct the clock of this machine, if that is the wrong one",
    )


def _accounts(report: Report) -> Iterator[Refusal]:
    if report.user != "root":
        yield Refusal(
            "privilege",
            f"commands run as {report.user!r}",
            "root, by sudo",
            "give that account sudo rights, or run pyinfra with --use-sudo-password",
        )
    for user in report.missing_users:
        yield Refusal(
            "account", f"no user {user!r}", "every name in gpu_users to exist", "create it, or correct gpu_users"
        )


def _gpu(settings: HostSettings, report: Report) -> Iterator[Refusal]:
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
        yield Refusal(
            "GPU",
            ", ".join(f"{v.replace(' ', ':')} at {a}" for a, v in found.items()) or "no display device on the PCI bus",
            f"{gpu.title} (PCI id {' or '.join(gpu.pci_ids)})",
            f"set accelerator to {other.name}"
            if other
            else f"take a machine with {gpu.name}, or correct `accelerator`",
        )
    elif report.gfx_versions and gpu.gfx_target_version not in report.gfx_versions:
        yield Refusal(
            "GPU instruction set",
            f"KFD names gfx_target_version {', '.join(map(str, report.gfx_versions))}",
            f"{gpu.gfx_target_version} ({gpu.name})",
            "unset HSA_OVERRIDE_GFX_VERSION on the host, or correct `accelerator`",
        )


def _driver(report: Report) -> Iterator[Refusal]:
    # /sys/module/amdgpu/version is no check: only the DKMS driver has it, its absence is normal (ollama#3425).
    if report.dkms or "/updates/dkms/" in report.amdgpu_module:
        yield Refusal(
            "GPU driver",
            f"amdgpu from DKMS ({report.amdgpu_module or ', '.join(report.dkms)})",
            "the kernel's own amdgpu, as AMD says for Ryzen",
            "`sudo amdgpu-install --uninstall --rocmrelease=all` or `sudo apt purge amdgpu-dkms`, then reboot",
        )


def _rocm(report: Report) -> Iterator[Refusal]:
    if len(report.rocm_trees) > 1:
        yield Refusal(
            "ROCm trees",
            ", ".join(report.rocm_trees),
            "one tree under /opt",
            "remove the older one; two HIP runtimes side by side end in false out-of-memory errors",
        )
    foreign = [entry for entry in report.apt_sources if not entry.startswith(f"{ROCM_SOURCE}:")]
    if foreign:
        yield Refusal(
            "ROCm apt sources",
            "; ".join(foreign),
            f"only this project's {ROCM_SOURCE}",
            "remove or disable those files (`amdgpu-install --uninstall` removes its own); two sources mix releases",
        )


def _docker(settings: HostSettings, report: Report) -> Iterator[Refusal]:
    expected = "docker-ce" if settings.docker_source == "docker" else "docker.io"
    for found in report.docker:
        if found != expected:
            other = "docker" if found == "docker-ce" else "ubuntu"
            yield Refusal(
                "Docker packages",
                f"{found} installed",
                f"{expected} or none (docker_source is {settings.docker_source}); the two exclude each other",
                f"set docker_source to {other}, or remove {found} yourself, with what runs under it",
            )


def _firmware(settings: HostSettings, report: Report) -> Iterator[Refusal]:
    for package, version in report.firmware.items():
        for bad in settings.firmware_known_bad:
            if bad in version:
                yield Refusal(
                    "firmware",
                    f"{package} {version}",
                    f"any other than {bad}",
                    f"`sudo apt install --only-upgrade {package}`; it breaks ROCm on RDNA 3.5 and was recalled",
                )


def _environment(settings: HostSettings, report: Report) -> Iterator[Refusal]:
    allowed = {service.env_file: settings.command(service).features.allow or () for service in settings.services}
    for file, names in report.env_names.items():
        for name in names:
            for pattern, code, why, source in FORBIDDEN:
                if pattern.match(name) and code not in allowed.get(file, ()):
                    yield Refusal(
                        "environment file",
                        f"{name} set in {file}",
                        "that variable to be absent",
                        f"delete its line; {why} ({source}). `allow: [{code}]` overrides this",
                    )


def _disk(settings: HostSettings, report: Report) -> Iterator[Refusal]:
    needs: dict[str, tuple[int, list[str]]] = {}

    def need(place: str, size: int, what: str) -> None:
        if place in report.disks:
            mount = report.disks[place][1]
            before, said = needs.get(mount, (0, []))
            needs[mount] = (before + size, [*said, what])

    commands = {service.name: settings.command(service) for service in settings.services}
    for image in sorted({command.image for command in commands.values()} - set(report.images)):
        need("/var/lib/docker", settings.image_bytes, f"image {image} {format_gib(settings.image_bytes)}")
    for service in settings.services:
        if model_folder(settings, service) not in report.models:
            size = profiles.load(service.profile).weights_bytes
            need(settings.data_directory, size, f"weights of {commands[service.name].model} {format_gib(size)}")
    free = {mount: space for space, mount in report.disks.values()}
    for mount, space in free.items():
        if mount not in needs and space < DISK_LEAST:
            yield Refusal(
                "disk space",
                f"{format_gib(space)} free on {mount}: the disk is full",
                f"{format_gib(DISK_LEAST)} at least, for packages, logs and the container",
                "free space there (`sudo apt clean`, `docker image prune`, `journalctl --vacuum-size=200M`)",
            )
    for mount, (size, said) in needs.items():
        if free[mount] < size + DISK_RESERVE:
            yield Refusal(
                "disk space",
                f"{format_gib(free[mount])} free on {mount}",
                f"{format_gib(size + DISK_RESERVE)} ({', '.join(said)}, {format_gib(DISK_RESERVE)} to spare)",
                "free space there, or set data_directory to a larger file system",
            )


def _memory(settings: HostSettings, report: Report) -> Iterator[Refusal]:
    if settings.memory_regime == "gtt" and settings.gtt_limit and report.memory_total:
        for fault in check_pages_limit(settings.gtt_limit // PAGE_BYTES, report.memory_total):
            yield Refusal("gtt_limit", fault, "no more than the system's own memory", "lower gtt_limit")
    memory = memory_of(settings, report)
    if memory is None:
        return
    found = budgets(settings, report)
    asked = {service.name: service.profile for service in settings.services}
    for name, result in found.items():
        if not result.fits:
            yield Refusal(
                f"memory for {name}",
                f"{format_gib(memory.gpu_bytes)} of GPU memory: {'; '.join(result.reasons)}",
                f"room for {asked[name]} at {result.max_model_len} tokens",
                result.suggestion or "take a smaller profile (`ojai profiles`)",
            )
    if len(settings.services) > 1 and all(result.fits for result in found.values()):
        demands = {s.name: demand(profiles.load(s.profile), s.features) for s in settings.services}
        for reason in fit_together(demands, memory):
            yield Refusal("memory for all services", reason, "all of them at once", "lower gpu_memory_utilization")
