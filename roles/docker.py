"""Docker Engine. Owns its packages, apt source and key unless the engine is the owner's, and mirrors in daemon.json."""

from typing import Any

from pyinfra import host
from pyinfra.api.deploy import deploy

from ojai import systems
from ojai.facts.report import HostReport
from ojai.facts.report.apt import Source
from ojai.facts.report.engine import DAEMON, EngineOwner
from ojai.operations import apt, docker, files, service
from ojai.preflight.docker import PACKAGES, engine_source, package_names
from ojai.preflight.host import fact_arguments
from ojai.preflight.lock import arguments
from ojai.preflight.packages import DOCKER_KEYRING as KEYRING
from ojai.preflight.packages import DOCKER_SOURCE as SOURCE
from ojai.preflight.packages import TOOLS, usable_docker_source
from ojai.settings import HostSettings

#: What the packages leave behind: data of a program that nothing else reads (the last one of Docker before 23), groups.
STATE = [
    *("containerd:/var/lib/containerd", "containerd:/etc/cni", "dockerd:/var/lib/docker"),
    "dockerd:/etc/docker/key.json",
]
GROUPS = ["docker"]
#: Units that docker.service starts, unless they are masked.
NEEDED = ["containerd.service", "docker.socket"]


def daemon_values(settings: HostSettings) -> dict[str, Any]:
    """Our part of daemon.json: registry mirrors and proxies. The rotation of logs is our containers' own."""
    mirrors = list(settings.docker_registry_mirrors)
    proxies = {name.replace("_", "-"): value for name, value in settings.proxies.items()}
    return {**({"registry-mirrors": mirrors} if mirrors else {}), **({"proxies": proxies} if proxies else {})}


def own_source(settings: HostSettings) -> Source | None:
    """The owner's source of Docker's archive, if it is used. A second one can make apt refuse every call."""
    report = host.get_fact(HostReport, **fact_arguments(settings))
    return usable_docker_source(settings, report) if report else None


def needs_archive(settings: HostSettings) -> bool:
    """Whether packages of Docker's own archive are to be installed: not for an engine of the owner's."""
    engine = host.get_fact(EngineOwner)
    return engine.ours and engine_source(settings, engine) == "docker" and not settings.local_only


@deploy("Docker")
def remove_unused_source(*, settings: HostSettings) -> None:
    """Remove a source that is not needed (any more) before apt reads it: its archive may not answer."""
    if not needs_archive(settings) or own_source(settings):
        files.absent(name="Remove Docker's own apt source", paths=[SOURCE, KEYRING])


@deploy("Docker")
def apply(*, settings: HostSettings) -> None:
    """Configure, install and start Docker, and check that it runs with our settings.

    An engine that is there and that ojai did not install is the owner's: it is only started if it is down, and its
    packages, sources, keys, holds and units are left alone.
    """
    engine = host.get_fact(EngineOwner)
    ours = engine.ours
    if needs_archive(settings):
        theirs = own_source(settings)
        if not theirs:
            apt.packages(name="Install curl, gpg and CA certificates", names=list(TOOLS))
            apt.keyring(
                name="Install Docker's signing key",
                path=KEYRING,
                url=f"{settings.docker_mirror}/gpg",
                fingerprint=settings.docker_key_fingerprint,
                _env=settings.proxies,
            )
            files.text_file(
                name="Add Docker's apt source",
                path=SOURCE,
                text=(
                    f"# Made by ojai.\nTypes: deb\nURIs: {settings.docker_mirror}\n"
                    f"Suites: {systems.reference().docker_suite}\nComponents: stable\nArchitectures: amd64\n"
                    f"Signed-By: {KEYRING}\n"
                ),
            )
        inputs = [theirs.file] if theirs else [SOURCE, KEYRING]
        apt.lists_updated(name="Update Docker's package lists", inputs=inputs)
    # Before the packages, so that the first start of the daemon reads it. Settings of others in it stay.
    files.json_merged(
        name="Configure the Docker daemon",
        path=DAEMON,
        values=daemon_values(settings),
        check=docker.CHECK,
        then=docker.RELOAD,
    )
    if ours:
        apt.packages(
            name="Install Docker Engine",
            names=package_names(settings, engine),
            state=STATE,
            groups=GROUPS,
            **arguments(settings, settings.families[1]),
        )
        service.unmasked(name="Unmask units that Docker needs", units=NEEDED)
    # Never restarted while it works: every container of the host would end.
    service.running(name="Start Docker", unit="docker.service", restart=False, enable=ours)
    docker.daemon_ready(
        name="Check that the Docker daemon answers as configured",
        mirrors=list(settings.docker_registry_mirrors),
        proxies=settings.proxies,
    )


@deploy("Docker: removal")
def remove(*, settings: HostSettings) -> None:
    """Remove our settings in daemon.json, the packages that were installed, source and key."""
    files.json_merged(name="Remove our settings from daemon.json", path=DAEMON, values={}, then=docker.RELOAD)
    apt.packages_removed(
        name="Remove Docker Engine", names=[*(settings.docker_packages or ()), *PACKAGES["ubuntu"], *PACKAGES["docker"]]
    )
    files.absent(name="Remove Docker's source and key", paths=[SOURCE, KEYRING])
    apt.lists_removed(name="Remove Docker's package lists", uris=[settings.docker_mirror])
