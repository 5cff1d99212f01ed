"""What the lock says of a host's packages, and what the host and its archives have."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from ojai.facts.report import Report
from ojai.facts.report.engine import Engine
from ojai.preflight import FailedCheck, upstream
from ojai.preflight.docker import package_names
from ojai.preflight.packages import rocm_packages
from ojai.settings import HostSettings
from ojai.versions import newer


def roots(settings: HostSettings, engine: Engine) -> dict[str, tuple[str, ...]]:
    """The packages that are installed for each family of a host; no engine's where it is the owner's."""
    kernel, docker, rocm = settings.families
    asked = {kernel: (settings.kernel_package,), rocm: rocm_packages(settings)}
    if engine.ours:
        asked[docker] = tuple(package_names(settings, engine))
    return {family: names for family, names in asked.items() if names}


def release_mark(settings: HostSettings) -> str:
    """What the versions of a ROCm release's packages have in them."""
    major, minor, patch = settings.channel.release.split(".")
    return f".{major}{int(minor):02}{int(patch):02}-"


def versions(settings: HostSettings, engine: Engine) -> dict[str, str]:
    """The versions that the lock gives this host, by package."""
    return settings.lock.versions(tuple(roots(settings, engine))) if settings.lock else {}


def arguments(settings: HostSettings, family: str) -> dict[str, Any]:
    """What the lock says of a family, as arguments of the operation ``apt.packages``."""
    found = settings.lock.packages.get(family) if settings.lock else None
    if not found:
        return {}
    return {"versions": found.versions, "snapshot": found.taken if _has_snapshots(settings, family) else None}


def _has_snapshots(settings: HostSettings, family: str) -> bool:
    """Only Ubuntu's archive has them, on the internet."""
    return not family.startswith("rocm") and not settings.local_only


def fact_arguments(settings: HostSettings) -> dict[str, tuple[str, ...]]:
    """What is asked of a host for the lock, as arguments of the fact ``HostReport``."""
    if not settings.lock:
        return {}
    families = {name: settings.lock.packages[name] for name in settings.families if name in settings.lock.packages}
    words = {name: [f"{one}={version}" for one, version in found.versions.items()] for name, found in families.items()}
    return {
        "locked": tuple(word for name in families for word in words[name]),
        "snapshots": tuple(
            " ".join([found.taken, *words[name]]) for name, found in families.items() if _has_snapshots(settings, name)
        ),
    }


def failed(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """What keeps the locked versions from being installed.

    Lists that are older than the lock are read anew by the deploy; so only an archive that has moved on is refused,
    even if a pocket of it that never moves has an older version. Before AMD's archive is known, nothing is known of
    its versions.
    """
    wanted = versions(settings, report.engine)
    rocm = _rocm(settings)
    unknown = rocm if not report.apt.offers else set()
    yield from _downgrades(settings, report, wanted)
    gone = {
        name: found
        for name, version in wanted.items()
        if name not in unknown
        and (found := _offered(settings, report, name))
        and report.apt.installed.get(name) != version
        and version not in found
        and version not in report.apt.snapshot.get(name, ())
        and any(newer(one, version) for one in found)
    }
    why = f" ({report.apt.snapshot_failed})" if report.apt.snapshot_failed else ""
    locked = settings.lock.packages.items() if settings.lock else ()
    taken = {name: of.taken for family, of in locked if _has_snapshots(settings, family) for name in of.versions}
    for name, found in gone.items():
        mirrors = " and ".join(report.apt.mirrors.get(name, ())) or "the archive"
        yield FailedCheck(
            "locked package",
            f"{name} {', '.join(found)} at {mirrors}"
            + (f", and no snapshot of {taken[name]} that has the locked one{why}" if name in taken else ""),
            f"{name} {wanted[name]}, as the lock has it",
            f"`ojai lock --upgrade INVENTORY {name}`, read what changes and deploy; or name a mirror that keeps old "
            "versions in the host's apt sources",
        )


def _offered(settings: HostSettings, report: Report, name: str) -> tuple[str, ...]:
    """The versions of a locked package in its archives. Ubuntu has packages of its own by names of ROCm's."""
    found, mark = report.apt.versions.get(name, ()), release_mark(settings)
    return tuple(one for one in found if mark in one) if name in _rocm(settings) else found


def _rocm(settings: HostSettings) -> set[str]:
    """The locked packages that come from AMD's archive."""
    return set(settings.lock.versions(settings.families[2:])) if settings.lock else set()


def _downgrades(settings: HostSettings, report: Report, wanted: dict[str, str]) -> Iterator[FailedCheck]:
    """Packages are not downgraded; those of ROCm are replaced, as ever."""
    rocm = _rocm(settings)
    found = {
        name: version
        for name, version in wanted.items()
        if name not in rocm and name in report.apt.installed and newer(report.apt.installed[name], version)
    }
    if found:
        words = shlex.join(f"{name}={version}" for name, version in found.items())
        yield FailedCheck(
            "newer package",
            ", ".join(f"{name} {report.apt.installed[name]}" for name in found),
            ", ".join(f"{name} {version}" for name, version in found.items()) + ", as the lock has them",
            f"`ojai lock --upgrade INVENTORY {' '.join(found)}` takes what there is now; or, on the host, `sudo "
            f"apt-get install --allow-downgrades {words}`",
        )


def remarks(settings: HostSettings, report: Report) -> Iterator[str]:
    """What is newer than the lock, and what the lock does not name."""
    if not settings.lock:
        return
    wanted = versions(settings, report.engine)
    newest = {
        name: best
        for name, version in wanted.items()
        if newer(best := _best(_offered(settings, report, name), version), version)
    }
    if newest:
        shown = ", ".join(f"{name} {best} (locked: {wanted[name]})" for name, best in newest.items())
        yield f"lock: newer in the archives: {shown}; `ojai lock --upgrade INVENTORY` moves to it"
    for what in upstream.newer(settings, report):
        yield f"lock: newer at {what}; `ojai lock --upgrade INVENTORY {what.split()[2]}` moves to it"
    for family, names in roots(settings, report.engine).items():
        missing = [name for name in names if name not in wanted]
        if missing:
            yield (
                f"lock: it has no {' and no '.join(missing)} ({family}), which is installed as the archive has it; "
                "`ojai lock INVENTORY` adds it after the deploy"
            )
    moved = [
        name
        for name in settings.lock.versions(settings.families[1:2])
        if name in wanted and report.apt.installed.get(name, wanted[name]) != wanted[name]
    ]
    if moved:
        yield f"lock: {', '.join(moved)} changes, and with it every container of this host is restarted"


def _best(found: tuple[str, ...], least: str) -> str:
    for one in found:
        if newer(one, least):
            least = one
    return least
