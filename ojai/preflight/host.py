"""Every reason to refuse a host, in the order a person would look; and whether it is a machine that can be changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from ojai import accelerators, kernels, systems
from ojai import watch as watched
from ojai.facts.report import HostReport, Report
from ojai.facts.report.engine import Engine
from ojai.paths import SCHEMA
from ojai.preflight import (
    FailedCheck,
    docker,
    environment,
    firewall,
    folders,
    gateway,
    gpu,
    hardening,
    local,
    lock,
    memory,
    owner,
    packages,
    ports,
    space,
    surface,
    units,
    watch,
    weights,
)
from ojai.settings import HostSettings

#: How far the host's clock may be from this machine's (seconds): apt and TLS allow less than most people think.
CLOCK_TOLERANCE = 300


#: Asked in this order.
AREAS = (
    surface,
    gpu,
    packages,
    lock,
    docker,
    environment,
    folders,
    owner,
    units,
    ports,
    gateway,
    firewall,
    watch,
    space,
    weights,
    local,
    memory,
    hardening,
)


def fact_arguments(settings: HostSettings) -> dict[str, Any]:
    """What preflight needs to know of a host, as arguments of the fact ``HostReport``."""
    return {
        "places": ("/var/lib/docker", settings.data_directory, "/var/lib/dpkg", *settings.cache_folders.values()),
        "users": tuple(dict.fromkeys((*settings.gpu_users, settings.data_owner))),
        "groups": (settings.data_group,),
        "env_files": tuple(service.env_file for service in settings.resolved),
        "images": tuple(service.image for service in settings.resolved),
        "models": tuple(service.model_directory for service in settings.resolved),
        "data_folders": (settings.data_directory, *settings.own_caches),
        "caches": tuple(f"{name}={path}" for name, path in sorted(settings.cache_folders.items())),
        "units": tuple(service.unit for service in settings.resolved),
        "service_ports": (
            *(service.port for service in settings.resolved),
            *gateway.ports(settings),
            *watched.ports(settings).values(),
        ),
        "certificates": gateway.certificates(settings),
        "gpus": accelerators.load(settings.accelerator).pci_ids,
        "system_packages": (
            settings.kernel_package,
            *packages.TOOLS,
            *gateway.wanted_packages(settings),
            *firewall.wanted_packages(settings),
            *watch.wanted_packages(settings),
        ),
        "rocm_packages": packages.rocm_packages(settings),
        "engine_packages": tuple(docker.package_names(settings, Engine())),
        "rocm_archive": f"{settings.channel.mirror}/{settings.channel.rocm_path}",
        **lock.fact_arguments(settings),
    }


def in_force(settings: HostSettings, report: Report) -> HostSettings:
    """The settings with the caches that an earlier adoption recorded on the host, or that this one is to use."""
    settings = settings.using(report.owner.adopted)
    return settings.using(owner.judge(settings, report)[1].folders) if settings.adopt else settings


def ask(get_fact: Callable[..., Any], settings: HostSettings) -> tuple[HostSettings, Report | None]:
    """The settings in force on a host, and its report, by ``get_fact`` of pyinfra's; None if it gives no answer."""
    report: Report | None = get_fact(HostReport, **fact_arguments(settings))
    if report is None:
        return settings, None
    placed = in_force(settings, report)
    return placed, report if placed is settings else get_fact(HostReport, **fact_arguments(placed))


def failed_checks(settings: HostSettings, report: Report, now: float | None = None) -> list[FailedCheck]:
    """Every reason to leave this host alone, in the order a person would look.

    ``now``: this machine's clock (seconds since 1970) when the host answered; None: it has just done so.
    """
    settings = in_force(settings, report)
    return [
        *newer(report),
        *_system(report),
        *_clock(report, time.time() if now is None else now),
        *_accounts(settings, report),
        *(fault for area in AREAS for fault in area.failed(settings, report)),
    ]


def failed_after_boot(settings: HostSettings, report: Report) -> list[FailedCheck]:
    """Every reason not to go on after the kernel role: no reboot of the deploy's is to come any more."""
    found = [*failed_checks(settings, report), *gpu.driver_missing(settings, report)]
    return [*dict.fromkeys(found), *memory.limit_not_in_force(settings, report)]


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
    system = systems.find(report.os_id, report.os_version, report.os_like)
    if system.refused:
        base = f", made from Ubuntu {report.os_base}" if system.like and report.os_base else ""
        yield FailedCheck(
            "operating system",
            f"{report.os_name or 'none named'}{base}",
            " or ".join(known.title for known in systems.supported()),
            f"{system.refused.todo}; {system.refused.why}",
        )
    try:
        if report.kernel:
            kernels.parse(report.kernel)
    except ValueError:
        yield FailedCheck(
            "kernel",
            f"{report.kernel} running, which is no release",
            f"one of Ubuntu's own, such as {systems.reference().kernel_example}",
            "boot a kernel of Ubuntu's own, and remove this one: GRUB boots the newest",
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


def _accounts(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    if report.user != "root":
        yield FailedCheck(
            "privilege",
            f"commands run as {report.user!r}",
            "root, by sudo",
            "give that account sudo rights, or run pyinfra with --use-sudo-password",
        )
    for user in report.missing_users:
        named = " and ".join(
            name
            for name, users in (("gpu_users", settings.gpu_users), ("data_owner", (settings.data_owner,)))
            if user in users
        )
        yield FailedCheck("account", f"no user {user!r}", f"{named} to exist", f"create it, or correct {named}")
    for group in report.missing_groups:
        yield FailedCheck("account", f"no group {group!r}", "data_group to exist", "create it, or correct data_group")
    for user, name in report.other_users.items():
        yield FailedCheck(
            "account", f"{name} for {user!r}", "names as the host writes them", f"write {name} in gpu_users"
        )
