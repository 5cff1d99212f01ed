"""A container from what ``docker inspect`` says of it, and of its image where that is given too."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ojai.containers import Container, UnreadableError, is_secret

#: Settings of a container that are docker's own, or are read by name below.
_KNOWN = """
AutoRemove Binds CapAdd CapDrop CgroupnsMode ConsoleSize ContainerIDFile Devices GroupAdd IpcMode Isolation LogConfig
MaskedPaths NetworkMode PortBindings Privileged PublishAllPorts ReadonlyPaths ReadonlyRootfs RestartPolicy Runtime
SecurityOpt ShmSize Ulimits VolumeDriver Mounts
"""
_READ = frozenset(_KNOWN.split())
#: Docker's own /dev/shm.
_SHM = 64 << 20

#: Variables that an image has rather than a command line, where the image is not given.
_USUAL = "PATH HOME LANG LC_ALL TERM HOSTNAME DEBIAN_FRONTEND LD_LIBRARY_PATH PYTHONPATH VIRTUAL_ENV PWD"
_OF_IMAGES = frozenset(_USUAL.split())


def read(text: str) -> Container:
    """The one container of an inspection. Raises :class:`UnreadableError`."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise UnreadableError(
            f"found broken JSON (line {error.lineno}: {error.msg}); expected what `docker inspect CONTAINER` prints. "
            "What to do: give all of it"
        ) from None
    return one(found if isinstance(found, list) else [found])


def one(inspected: list[Any]) -> Container:
    """The one container among what was inspected; an image there is its own. Raises :class:`UnreadableError`."""
    entries = [entry for entry in inspected if isinstance(entry, Mapping)]
    containers = [entry for entry in entries if isinstance(entry.get("HostConfig"), Mapping) and "Config" in entry]
    if len(containers) != 1:
        raise UnreadableError(
            f"found {len(containers)} containers; expected one, as `docker inspect CONTAINER` prints it. What to do: "
            "inspect one container (and its image, if you like)"
        )
    (container,) = containers
    images = {entry.get("Id"): entry for entry in entries if entry not in containers}
    return _container(container, images.get(container.get("Image")))


def _container(found: Mapping[str, Any], image: Mapping[str, Any] | None) -> Container:
    config = found["Config"]
    of_image = (image or {}).get("Config") or {}
    secrets, kept, passed_over = [], [], []
    for pair in config.get("Env") or ():
        name, _, value = pair.partition("=")
        if is_secret(name, value):
            secrets.append(name)
            kept.append(name)
        elif image is None and name in _OF_IMAGES:
            passed_over.append(name)
        else:
            kept.append(pair)
    named, _, digest = str(config.get("Image", "")).partition("@")
    repository = named.partition(":")[0] if "/" not in named.rpartition(":")[2] else named
    digests = [one.partition("@") for one in (image or {}).get("RepoDigests") or ()]
    digest = digest or next((digest for name, _, digest in digests if name == repository), "")
    entrypoint = config.get("Entrypoint")
    notes = []
    if passed_over:
        notes.append(f"{', '.join(passed_over)}: taken for the image's own and left out")
    if image is None:
        notes.append(
            "the image was not inspected, so a variable of its own may be among those shown; "
            "`docker inspect CONTAINER IMAGE` tells them apart"
        )
    options = [("--name", str(found.get("Name", "")).strip("/")), *(("--env", pair) for pair in kept)]
    return Container(
        named,
        tuple(config.get("Cmd") or ()),
        (*options, *_options(found["HostConfig"]), *_of_config(config, of_image if image else None)),
        None if image and entrypoint == of_image.get("Entrypoint") else tuple(entrypoint or ()),
        digest or None,
        tuple(secrets),
        frozenset(pair.partition("=")[0] for pair in kept if pair in (of_image.get("Env") or ())),
        tuple(notes),
    )


def _options(host: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    for key, option, usual in (
        ("NetworkMode", "--network", ("default", "bridge", "")),
        ("IpcMode", "--ipc", ("private", "shareable", "")),
        ("ShmSize", "--shm-size", (_SHM, 0)),
        ("Runtime", "--runtime", ("runc", "")),
    ):
        if host.get(key) not in (*usual, None):
            yield option, str(host[key])
    for key, option in (
        ("AutoRemove", "--rm"),
        ("Privileged", "--privileged"),
        ("ReadonlyRootfs", "--read-only"),
        ("PublishAllPorts", "--publish-all"),
    ):
        if host.get(key):
            yield option, None
    for limit in host.get("Ulimits") or ():
        soft, hard = limit["Soft"], limit["Hard"]
        yield "--ulimit", f"{limit['Name']}={soft if soft == hard else f'{soft}:{hard}'}"
    for device in host.get("Devices") or ():
        inside = device["PathInContainer"]
        same = device["PathOnHost"] == inside
        yield "--device", inside if same else f"{device['PathOnHost']}:{inside}"
    for key, option in (("GroupAdd", "--group-add"), ("CapAdd", "--cap-add"), ("CapDrop", "--cap-drop")):
        yield from ((option, str(value)) for value in host.get(key) or ())
    for value in host.get("SecurityOpt") or ():
        if not (value == "label=disable" and host.get("IpcMode") == "host"):  # docker's own, with --ipc=host
            yield "--security-opt", value
    for bind in host.get("Binds") or ():
        yield "--volume", bind
    for mount in host.get("Mounts") or ():
        only = ",readonly" if mount.get("ReadOnly") else ""
        yield "--mount", f"type={mount['Type']},source={mount.get('Source', '')},target={mount['Target']}{only}"
    for inside, places in (host.get("PortBindings") or {}).items():
        for place in places or ():
            address = f"{place['HostIp']}:" if place.get("HostIp") not in (None, "", "0.0.0.0") else ""
            yield "--publish", f"{address}{place['HostPort']}:{inside.removesuffix('/tcp')}"
    policy = host.get("RestartPolicy") or {}
    if policy.get("Name") not in (None, "", "no"):
        yield "--restart", policy["Name"]
    log = host.get("LogConfig") or {}
    if log.get("Type") not in (None, "", "json-file"):
        yield "--log-driver", log["Type"]
    yield from (("--log-opt", f"{name}={value}") for name, value in (log.get("Config") or {}).items())
    for key, value in host.items():
        if key not in _READ and value:
            yield f"HostConfig.{key}", value if isinstance(value, str) else json.dumps(value)


def _of_config(config: Mapping[str, Any], image: Mapping[str, Any] | None) -> Iterator[tuple[str, str | None]]:
    for key, option in (("OpenStdin", "--interactive"), ("Tty", "--tty")):
        if config.get(key):
            yield option, None
    for key, option in (("User", "--user"), ("WorkingDir", "--workdir")):
        if image is not None and config.get(key) != image.get(key) and config.get(key):
            yield option, config[key]
    labels = (image or {}).get("Labels") or {}
    for name, value in (config.get("Labels") or {}).items():
        if labels.get(name) != value and (image is not None or not name.startswith("org.opencontainers.")):
            yield "--label", f"{name}={value}"
