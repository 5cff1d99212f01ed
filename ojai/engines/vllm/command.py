"""One service's command: what it is made of, and how it is put together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from pydantic import BaseModel, ConfigDict, Field

from ojai.accelerators import load as load_accelerator
from ojai.profiles.features import Features, arguments, tunableop_environment
from ojai.profiles.model import Profile, ProfileError

BASE_DIRECTORY = "/srv/ojai"
"""Where a host keeps the caches unless its settings say otherwise."""

MOUNTS: dict[str, str] = {
    "huggingface": "/root/.cache/huggingface",
    "vllm": "/root/.cache/vllm",
    "tunableop": "/root/.cache/tunableop",
    "models": "/app/models",
    "workspace": "/app/workspace",
}
"""Cache directories by name, in the guides' order, and where the container sees them."""


class Refusal(BaseModel):
    """Something that cannot work, or is not known to, with the reason and where that is from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str = Field(description="Its name: what goes under `allow`.")
    reason: str = Field(description="What was found, why it cannot work, what to do.")
    source: str = Field(description="Where that is known from.")

    def __str__(self) -> str:
        return f"{self.code}: {self.reason} [{self.source}]"


class RefusedError(ProfileError):
    """Raised by :func:`render` when refusals stand; ``refusals`` has them."""

    def __init__(self, refusals: list[Refusal]) -> None:
        self.refusals = refusals
        super().__init__("\n".join(str(refusal) for refusal in refusals))


class Command(BaseModel):
    """One service's command, ready for a unit; nothing in it is a secret."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="Name of the container.")
    profile: str = Field(description="Name of the profile.")
    docker_argv: tuple[str, ...] = Field(description="The whole `docker run …`, one argument an entry.")
    engine_argv: tuple[str, ...] = Field(description="What follows `vllm serve`: the model, then the flags.")
    environment: dict[str, str] = Field(description="The container's environment, without the secret part.")
    env_file: str = Field(description="File on the host with the secret part (HF_TOKEN, VLLM_API_KEY).")
    image: str = Field(description="What is run: repository:tag, with @digest when one is given.")
    model: str = Field(description="The model as the engine is told it.")
    served_model_name: str = Field(description="The name clients use; /v1/models lists it.")
    host: str = Field(description="Address listened on.")
    port: int = Field(description="Port listened on.")
    mounts: dict[str, str] = Field(description="Directory on the host to directory in the container.")
    features: Features = Field(description="The choices in force.")
    allowed: tuple[Refusal, ...] = Field((), description="Refusals overridden by `allow`.")


def image_key(image: str, digest: str | None = None) -> str:
    """A directory name for what belongs to one image: twelve digits of its digest, else its tag.

    >>> image_key("vllm/vllm-openai-rocm:v0.20.1")
    'v0.20.1'
    """
    repository, _, pinned = image.partition("@")
    found = digest or pinned
    if found:
        return found.removeprefix("sha256:")[:12]
    tag = repository.rpartition("/")[2].partition(":")[2] or "latest"
    return re.sub(r"[^A-Za-z0-9._-]", "-", tag)


def image_reference(image: str, digest: str | None = None) -> str:
    """``image`` with ``@digest`` when one is given: docker then takes exactly that."""
    return f"{image.partition('@')[0]}@{digest}" if digest else image


def directories(
    base: str = BASE_DIRECTORY,
    *,
    image: str,
    digest: str | None = None,
    given: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Host directory of each cache. TunableOp's is one an image: a file tuned with another is invalid."""
    places = {name: str(PurePosixPath(base) / name) for name in MOUNTS}
    for name, place in (given or {}).items():
        if name not in MOUNTS:
            raise ProfileError(f"directories: found {name!r}, expected one of {', '.join(MOUNTS)}")
        places[name] = place
    places["tunableop"] = str(PurePosixPath(places["tunableop"]) / image_key(image, digest))
    return places


def build(
    profile: Profile,
    *,
    features: Features,
    image: str,
    model: str,
    accelerator: str,
    name: str = "vllm-gemma4",
    port: int = 8000,
    host: str = "0.0.0.0",
    digest: str | None = None,
    base_directory: str = BASE_DIRECTORY,
    given_directories: Mapping[str, str] | None = None,
    env_file: str | None = None,
    group_ids: Mapping[str, int] | None = None,
) -> Command:
    """The command as asked for, not yet looked at for what cannot work."""
    env_file = env_file or f"/etc/ojai/{name}.env"
    places = directories(base_directory, image=image, digest=digest, given=given_directories)
    tunes = features.tunableop in ("tune", "use")
    mounted = [mount for mount in MOUNTS if mount in profile.mounts or (mount == "tunableop" and tunes)]
    mounts = {places[mount]: MOUNTS[mount] for mount in mounted}
    environment = {
        **_environment(profile, features, accelerator),
        **(features.environment or {}),
    }
    reference = image_reference(image, digest)
    engine = (model, *arguments(features), "--host", host, "--port", str(port))
    docker = profile.docker
    missing = [group for group in docker.groups if group_ids is not None and group not in group_ids]
    if missing:
        raise ProfileError(
            f"{profile.name}: group_ids: found {dict(group_ids or {})}, expected a number for {', '.join(missing)}"
        )
    argv = ["docker", "run", "--pull=never", "--rm", "--name", name]
    argv += [f"--network={docker.network}", f"--ipc={docker.ipc}", f"--shm-size={docker.shm_size}"]
    for limit, value in docker.ulimits.items():
        argv += ["--ulimit", f"{limit}={value}"]
    argv += [f"--device={device}" for device in docker.devices]
    argv += [f"--group-add={group_ids[group] if group_ids else group}" for group in docker.groups]
    argv += [f"--cap-add={capability}" for capability in docker.cap_add]
    for option in docker.security_opt:
        argv += ["--security-opt", option]
    for variable, text in environment.items():
        argv += ["-e", f"{variable}={text}"]
    argv.append(f"--env-file={env_file}")
    for source, target in mounts.items():
        argv += ["-v", f"{source}:{target}"]
    argv += [reference, *engine]
    return Command(
        name=name,
        profile=profile.name,
        docker_argv=tuple(argv),
        engine_argv=engine,
        environment=environment,
        env_file=env_file,
        image=reference,
        model=model,
        served_model_name=served_name(engine),
        host=host,
        port=port,
        mounts=mounts,
        features=features,
    )


def _environment(profile: Profile, features: Features, accelerator: str) -> dict[str, str]:
    """The profile's environment for ``accelerator``, with TunableOp's; a variable without value is left out."""
    fill = {
        "{accelerator}": accelerator,
        "{hsa_override}": load_accelerator(accelerator).hsa_override_gfx_version,
    }
    filename = f"{MOUNTS['tunableop']}/gemma4_{accelerator}.csv"
    environment: dict[str, str] = {}
    for variable, text in profile.environment.items():
        for placeholder, value in fill.items():
            text = text.replace(placeholder, value)
        if text:
            environment[variable] = text
    return {**environment, **tunableop_environment(features.tunableop, filename)}


def served_name(engine_argv: tuple[str, ...]) -> str:
    """The model name the API answers to: ``--served-model-name``'s first, else the model."""
    for position, argument in enumerate(engine_argv):
        flag, _, value = argument.partition("=")
        if flag.replace("_", "-") == "--served-model-name":
            following = engine_argv[position + 1 : position + 2]
            return value or (following[0] if following else engine_argv[0])
    return engine_argv[0]
