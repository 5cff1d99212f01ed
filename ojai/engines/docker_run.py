"""The ``docker run`` list of a service, whatever its engine is."""

from __future__ import annotations

from collections.abc import Container, Mapping
from types import MappingProxyType

from ojai.engines import ResolvedService, hardening
from ojai.profiles import ProfileError


def argv(
    service: ResolvedService,
    environment: Mapping[str, str],
    mounts: Mapping[str, str],
    read_only: Container[str],
    engine: tuple[str, ...],
    secrets: Mapping[str, str] = MappingProxyType({}),
) -> tuple[str, ...]:
    """The list, with the engine's own arguments at its end.

    ``mounts``: host to container directories, of which the container may not write those in ``read_only``. ``secrets``:
    files and folders of secrets, mounted last. Raises :class:`ProfileError` where a group is missing.
    """
    docker, numbers = hardening.docker(service), service.group_ids
    missing = [group for group in docker.groups if numbers is not None and group not in numbers]
    if missing:
        raise ProfileError(
            f"{service.profile.name}: group_ids: found {dict(numbers or {})}, expected a number for "
            f"{', '.join(missing)}"
        )
    found = ["docker", "run", "--pull=never", "--rm", "--name", service.name]
    # Said here, so that the daemon's own log driver and its options are the owner's.
    found += ["--log-driver=json-file", "--log-opt", f"max-size={service.log_max_size}"]
    found += ["--log-opt", f"max-file={service.log_max_file}"]
    found += [f"--network={docker.network}", f"--ipc={docker.ipc}", f"--shm-size={docker.shm_size}"]
    found += [] if docker.healthcheck else ["--no-healthcheck"]
    for limit, value in docker.ulimits.items():
        found += ["--ulimit", f"{limit}={value}"]
    found += [f"--device={device}" for device in docker.devices]
    found += [f"--group-add={numbers[group] if numbers else group}" for group in docker.groups]
    found += [f"--cap-add={capability}" for capability in docker.cap_add]
    for option in docker.security_opt:
        found += ["--security-opt", option]
    found += hardening.options(service)
    for variable, text in environment.items():
        found += ["-e", f"{variable}={text}"]
    found.append(f"--env-file={service.env_file}")
    for source, target in mounts.items():
        # Not -v: Docker would create a folder that is missing, and a data disk that is late would hide it.
        end = ",readonly" if source in read_only else ""
        found += ["--mount", f"type=bind,src={source},dst={target}{end}"]
    for source, target in secrets.items():
        found += ["--mount", f"type=bind,src={source},dst={target},readonly"]
    return (*found, service.image, *engine)
