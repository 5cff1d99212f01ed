"""What the Docker that is there cannot do."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal
from urllib.parse import urlsplit

from ojai import systems
from ojai.facts.files import read_object
from ojai.facts.report import Report
from ojai.facts.report.engine import CLIENT, DAEMON, Engine, Server
from ojai.preflight import FailedCheck
from ojai.settings import HostSettings

#: The engine's packages, by the archive that they are from.
PACKAGES = {
    "ubuntu": systems.reference().docker_packages,
    "docker": ("docker-ce", "docker-ce-cli", "containerd.io", "docker-buildx-plugin", "docker-compose-plugin"),
}
#: The packages of containerd that go with an engine's. All others conflict with them.
CONTAINERD = {"docker.io": ("containerd", "containerd-app"), "docker-ce": ("containerd.io",)}
_WITHOUT_REMAPPING = (
    f"remove userns-remap from {DAEMON} and restart Docker (images and containers of before are then out of sight)"
)
#: `docker run --pull` is new in this release.
OLDEST = (20, 10)
#: The first that reads proxies in daemon.json [docs.docker.com, Daemon proxy configuration].
PROXIES = (23, 0)
#: A release that was seen to take registry mirrors with a path, which 20.10 refuses.
MIRROR_PATH = (26, 1)
#: A release that was seen to ask a mirror by http where its address says so, with images in containerd's store. 26.1
#: was seen to ask it by https, and to fail.
PLAIN_MIRROR = (28, 5)


def engine_source(settings: HostSettings, engine: Engine) -> Literal["ubuntu", "docker"]:
    """Whose packages the engine is: as the settings say, else of the one that ojai installed; without one, Ubuntu's."""
    if settings.docker_source == "auto":
        return "docker" if engine.ours and "docker-ce" in engine.packages else "ubuntu"
    return settings.docker_source


def package_names(settings: HostSettings, engine: Engine) -> list[str]:
    """The engine's packages: those of the settings, else those of the archive that they are from."""
    return list(settings.docker_packages or PACKAGES[engine_source(settings, engine)])


def failed(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """Why Docker will not do."""
    yield from _engine(settings, report.engine)
    yield from _server(report.engine)
    yield from _daemon_json(settings, report)


def remarks(settings: HostSettings, report: Report) -> Iterator[str]:
    """What is worth a line, and refuses nothing."""
    engine = report.engine
    if engine.unseen_images:
        yield (
            f"Docker: {engine.unseen_images} images from before it kept images in containerd's store are out of sight, "
            "and take room in its data root. Those of saved releases are pulled again for a rollback; what no registry "
            "has is lost to it"
        )
    if engine.ours:
        return
    given = {"docker_source": settings.docker_source != "auto", "docker_packages": settings.docker_packages}
    unused = [name for name in given if given[name]]
    yield (
        f"Docker: {engine.name} was installed by others: it is used as it is, and stays at removal. ojai sets its "
        f"registry mirrors in {DAEMON} and starts it, nothing else"
        + (f". No effect here: {', '.join(unused)}" if unused else "")
    )
    unit = engine.units.get("docker.service")
    if unit and unit.enabled not in ("enabled", "static", "alias", "indirect", ""):
        yield f"Docker: docker.service is {unit.enabled}; a service of ojai starts it at boot, nothing else does"
    if unit and unit.active == "active" and not engine.server:
        yield "Docker: the daemon does not answer; it is restarted, and with it every container that runs"


def _engine(settings: HostSettings, engine: Engine) -> Iterator[FailedCheck]:
    if engine.snap and engine.snap != "disabled":
        yield FailedCheck(
            "Docker",
            f"Docker's snap ({engine.snap})",
            "no snap: it has its own daemon on the same socket, which cannot see the data folders or GPU devices",
            "move what runs in it, then `sudo snap remove docker` (or `sudo snap disable docker`)",
        )
    elif "podman" in (engine.docker.package if engine.docker else "") or "podman" in engine.client_version.lower():
        yield FailedCheck(
            "Docker",
            f"a docker command that is podman's ({engine.client_version or 'podman-docker'})",
            "Docker's own client, or none",
            "`sudo apt remove podman-docker`; podman itself can stay",
        )
    elif engine.docker and engine.docker.real != (engine.client.real if engine.client else CLIENT):
        yield FailedCheck(
            "Docker client",
            f"{engine.docker.path} (of {engine.docker.package or 'no package'}), which comes first in root's PATH",
            f"{CLIENT}, which a service's unit calls",
            f"rename {engine.docker.path}, or link it to {CLIENT}",
        )
    if engine.ours:
        names = package_names(settings, engine)
        for found in engine.packages:
            if found not in names and any(name in PACKAGES["ubuntu"] + PACKAGES["docker"] for name in names):
                yield FailedCheck(
                    "Docker packages",
                    f"{found}, which ojai installed",
                    f"{names[0]} (docker_source is {settings.docker_source}); the two exclude each other",
                    "set docker_source back, or remove everything first (`removed: true`) and deploy again",
                )
        if not engine.there and engine.containerd and engine.containerd.package not in engine.noted:
            yield from _containerd(settings, engine)
        return
    unit = engine.units.get("docker.service")
    if not engine.docker:
        yield FailedCheck(
            "Docker client", f"no {CLIENT}", "the client beside the engine", "install it (docker-ce-cli, docker-cli)"
        )
    if unit and unit.load in ("not-found", "masked") and not (unit.load == "masked" and engine.server):
        yield FailedCheck(
            "Docker",
            f"{engine.name}, whose docker.service is {unit.load}",
            "an engine that systemd can start",
            "`sudo systemctl unmask docker.service`" if unit.load == "masked" else "give it its unit docker.service",
        )


def _containerd(settings: HostSettings, engine: Engine) -> Iterator[FailedCheck]:
    found = (engine.containerd.package or engine.containerd.path) if engine.containerd else ""
    for name in package_names(settings, engine):
        if name in CONTAINERD and found not in CONTAINERD[name]:
            other = {"containerd.io": "set docker_source to docker, whose engine uses it"}.get(
                found, "install the engine that goes with it: one that is there is used as it is"
            )
            yield FailedCheck(
                "containerd",
                f"{found} without an engine",
                f"{CONTAINERD[name][0]} or none: {name} excludes any other, and nothing is removed for it",
                f"{other}; or remove {found} yourself, with what runs under it",
            )


def _server(engine: Engine) -> Iterator[FailedCheck]:
    server = engine.server
    if not server:
        return
    if _version(server) < OLDEST:
        yield FailedCheck(
            "Docker",
            f"version {server.version}",
            f"{OLDEST[0]}.{OLDEST[1]} or newer (`docker run --pull=never`)",
            "upgrade it",
        )
    for option, why, todo in (
        (
            "rootless",
            "a rootless daemon cannot give a container the GPU's devices and groups",
            "give root a daemon of its own (`sudo systemctl enable --now docker`, `sudo docker context use default`)",
        ),
        ("userns", "Docker refuses --network=host and --ipc=host with remapped users", _WITHOUT_REMAPPING),
    ):
        if any(word.split(",")[0] == f"name={option}" for word in server.security):
            yield FailedCheck("Docker", f"a daemon with {option}", f"one without: {why}", todo)


def _version(server: Server) -> tuple[int, ...]:
    return _numbers(server.version)


def _numbers(version: str) -> tuple[int, ...]:
    """Major and minor of a version, a package's too; (0,) where it is not told."""
    found = re.match(r"(?:\d+:)?(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0,)


def _daemon_json(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """The file as it is, and with our mirrors in it."""
    engine = report.engine
    mirrors = settings.docker_registry_mirrors
    writes = bool(mirrors or settings.proxies or engine.daemon_json_noted)
    current, fault = read_object(engine.daemon_json or "")
    # Docker itself takes the last of two.
    if fault and (writes or "is there twice" not in fault):
        yield FailedCheck(
            "daemon.json",
            fault,
            f"a JSON object in {DAEMON}, without comments and with each key once",
            f"correct it (`sudo dockerd --validate --config-file {DAEMON}` checks it)",
        )
    elif engine.daemon_json_rejected:
        yield FailedCheck(
            "daemon.json",
            engine.daemon_json_rejected,
            "a file with which dockerd starts",
            f"correct {DAEMON} (`sudo dockerd --validate --config-file {DAEMON}` checks it)",
        )
    if current.get("userns-remap") and not (engine.server and "name=userns" in str(engine.server.security)):
        yield FailedCheck(
            "daemon.json",
            f"userns-remap: {current['userns-remap']}",
            "no remapped users: Docker then refuses --network=host and --ipc=host",
            _WITHOUT_REMAPPING,
        )
    foreign = _options_of_another_driver(current)
    if foreign and not any(word.partition("=")[0] == "--log-driver" for word in engine.words):
        yield FailedCheck(
            "daemon.json",
            f"log options {', '.join(foreign)} without the log driver that they are for",
            "options of json-file, dockerd's default: it does not start with others",
            f"correct log-driver or log-opts in {DAEMON}",
        )
    if writes and engine.daemon_json_unsafe:
        yield FailedCheck(
            "daemon.json",
            f"{DAEMON}, {engine.daemon_json_unsafe}",
            "a file, or a link to one that only root can change",
            "put a file in its place, or set the mirrors there yourself and leave docker_registry_mirrors out",
        )
    if settings.proxies and engine.server and _version(engine.server) < PROXIES:
        yield FailedCheck(
            "proxies",
            f"Docker {engine.server.version}",
            f"{PROXIES[0]}.{PROXIES[1]} or newer, which has them in {DAEMON}; an older one does not start with them",
            "upgrade Docker, or give its unit the proxies yourself and leave http_proxy and https_proxy out",
        )
    if not mirrors:
        return
    if any(word.partition("=")[0] == "--registry-mirror" for word in engine.words):
        yield FailedCheck(
            "daemon.json",
            "a dockerd that is started with --registry-mirror",
            f"mirrors in {DAEMON} only: with both it does not start",
            "remove the option from the unit's drop-in or /etc/default/docker, or leave docker_registry_mirrors out",
        )
    other = _other_file(engine.words)
    if other:
        yield FailedCheck(
            "daemon.json",
            f"a dockerd that reads {other} (--config-file)",
            f"{DAEMON}, where the mirrors are written",
            "remove that option from the unit's drop-in or /etc/default/docker, or set the mirrors there yourself and "
            "leave docker_registry_mirrors out",
        )
    for url in mirrors:
        if urlsplit(url).path and engine.server and _version(engine.server) < MIRROR_PATH:
            yield FailedCheck(
                "registry mirror",
                f"{url} for Docker {engine.server.version}",
                f"a mirror without a path: those before {MIRROR_PATH[0]}.{MIRROR_PATH[1]} do not start with one",
                "serve the mirror at the root of its address, or upgrade Docker",
            )
    offered = report.apt.engines.get(package_names(settings, engine)[0], "")
    version = engine.server.version if engine.server else offered
    # Of Docker's own archive the newest is installed, before apt knows it too.
    newest = not engine.there and not version and engine_source(settings, engine) == "docker"
    if _containerd_store(engine, current) and not newest and _numbers(version) < PLAIN_MIRROR:
        for url in mirrors:
            if _plain(url, current, engine.words):
                yield FailedCheck(
                    "registry mirror",
                    f"{url} for Docker {version or 'of a version not known yet'} with images in containerd's store",
                    "https://, the mirror among insecure-registries, or Docker "
                    f"{PLAIN_MIRROR[0]}.{PLAIN_MIRROR[1]}: one before it asks every mirror by https",
                    f"give the mirror a certificate, add {urlsplit(url).netloc} to insecure-registries in {DAEMON} and "
                    "restart Docker, or upgrade it",
                )


def _options_of_another_driver(current: dict[str, Any]) -> list[str]:
    """Names of log options that json-file does not know, if that is the driver."""
    options = current.get("log-opts")
    if current.get("log-driver", "json-file") != "json-file" or not isinstance(options, dict):
        return []
    known = {"max-size", "max-file", "compress", "labels", "labels-regex", "env", "env-regex", "tag"}
    return [
        name for name in options if name not in known | {"mode", "max-buffer-size"} and not name.startswith("cache-")
    ]


def _other_file(words: tuple[str, ...]) -> str:
    return next((file for file in _option(words, "--config-file") if file != DAEMON), "")


def _containerd_store(engine: Engine, current: dict[str, Any]) -> bool:
    features = current.get("features")
    asked = isinstance(features, dict) and features.get("containerd-snapshotter") is True
    return engine.server.containerd_store if engine.server else asked


def _option(words: tuple[str, ...], name: str) -> list[str]:
    """The values of an option of dockerd, as ``--name value`` and ``--name=value``."""
    found: list[str] = []
    for place, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag == name:
            found += [value] if equals else words[place + 1 : place + 2]
    return found


def _plain(url: str, current: dict[str, Any], words: tuple[str, ...]) -> bool:
    """Whether a mirror speaks http, and is not among those that may [moby registry/config.go, isSecureIndex].

    Those are named as the mirror is, with its port, or their address is in a network that is named. A name may have
    such an address; that is not looked up.
    """
    found = urlsplit(url)
    listed = current.get("insecure-registries")
    insecure = [*(listed if isinstance(listed, list) else ()), *_option(words, "--insecure-registry")]
    host = found.hostname or ""
    if found.scheme != "http" or host == "localhost" or found.netloc in insecure:
        return False
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return True
    return not address.is_loopback and not any(address in network for network in _networks(insecure))


def _networks(names: Iterable[object]) -> Iterator[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    for name in map(str, names):
        with contextlib.suppress(ValueError):
            if "/" in name:
                yield ipaddress.ip_network(name, strict=False)
