"""Docker Engine. Owns its packages, apt source and key, and our settings in daemon.json (logs, registry mirrors)."""

from typing import Any

from pyinfra import host
from pyinfra.api.deploy import deploy

from ojai.facts.report import HostReport
from ojai.facts.report.apt import Source
from ojai.operations import apt, docker, files, service
from ojai.preflight.host import fact_arguments
from ojai.preflight.packages import DOCKER_KEYRING as KEYRING
from ojai.preflight.packages import DOCKER_SOURCE as SOURCE
from ojai.preflight.packages import ENGINE, TOOLS, engine_packages, usable_docker_source
from ojai.settings import HostSettings

DAEMON = "/etc/docker/daemon.json"
LOG_DRIVER = "json-file"
#: What the packages leave behind: data of a program that nothing else reads, folders, groups.
STATE = ["containerd:/var/lib/containerd", "containerd:/etc/cni"]
FOLDERS = ["/var/lib/docker"]
GROUPS = ["docker"]
#: Units that docker.service starts, unless they are masked.
NEEDED = ["containerd.service", "docker.socket"]


def daemon_values(settings: HostSettings) -> dict[str, Any]:
    """Our part of daemon.json: log rotation, and registry mirrors if there are any."""
    values: dict[str, Any] = {
        "log-driver": LOG_DRIVER,
        "log-opts": {
            "max-size": settings.docker_log_max_size,
            "max-file": str(settings.docker_log_max_file),
        },
    }
    if settings.docker_registry_mirrors:
        values["registry-mirrors"] = list(settings.docker_registry_mirrors)
    return values


def own_source(settings: HostSettings) -> Source | None:
    """The owner's source of Docker's archive, if it is used. A second one can make apt refuse every call."""
    report = host.get_fact(HostReport, **fact_arguments(settings)) if settings.docker_source == "docker" else None
    return usable_docker_source(settings, report) if report else None


@deploy("Docker")
def remove_unused_source(*, settings: HostSettings) -> None:
    """Remove a source that is not needed (any more) before apt reads it: its archive may not answer."""
    if settings.docker_source != "docker" or own_source(settings):
        files.absent(name="Remove Docker's own apt source", paths=[SOURCE, KEYRING])


@deploy("Docker")
def apply(*, settings: HostSettings) -> None:
    """Configure, install and start Docker, and check that it runs with our settings."""
    if settings.docker_source == "docker":
        theirs = own_source(settings)
        if not theirs:
            apt.packages(name="Install curl, gpg and CA certificates", names=list(TOOLS))
            apt.keyring(
                name="Install Docker's signing key",
                path=KEYRING,
                url=f"{settings.docker_mirror}/gpg",
                fingerprint=settings.docker_key_fingerprint,
            )
            files.text_file(
                name="Add Docker's apt source",
                path=SOURCE,
                text=(
                    f"# Made by ojai.\nTypes: deb\nURIs: {settings.docker_mirror}\nSuites: {settings.channel.suite}\n"
                    f"Components: stable\nArchitectures: amd64\nSigned-By: {KEYRING}\n"
                ),
            )
        inputs = [theirs.file] if theirs else [SOURCE, KEYRING]
        apt.lists_updated(name="Update Docker's package lists", inputs=inputs)
    # Before the packages, so that the first start of the daemon reads it. Settings of others in it stay.
    files.json_merged(name="Configure the Docker daemon", path=DAEMON, values=daemon_values(settings))
    apt.packages(
        name="Install Docker Engine", names=list(engine_packages(settings)), state=STATE, folders=FOLDERS, groups=GROUPS
    )
    service.unmasked(name="Unmask units that Docker needs", units=NEEDED)
    service.running(name="Start Docker", unit="docker.service", inputs=[DAEMON])
    docker.daemon_ready(
        name="Check that the Docker daemon answers as configured",
        driver=LOG_DRIVER,
        mirrors=list(settings.docker_registry_mirrors),
    )


@deploy("Docker: removal")
def remove(*, settings: HostSettings) -> None:
    """Remove our settings in daemon.json, the packages that were installed, source and key."""
    files.json_unmerged(name="Remove our settings from daemon.json", path=DAEMON)
    apt.packages_removed(
        name="Remove Docker Engine", names=[*engine_packages(settings), *ENGINE["ubuntu"], *ENGINE["docker"]]
    )
    files.absent(name="Remove Docker's source and key", paths=[SOURCE, KEYRING])
    apt.lists_removed(name="Remove Docker's package lists", uris=[settings.docker_mirror])
