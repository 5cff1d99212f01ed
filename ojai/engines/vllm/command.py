"""One service's command: what it is made of, and how it is put together."""

from __future__ import annotations

import re

from ojai import accelerators
from ojai.engines import SECRETS_INSIDE, Command, ResolvedService, docker_run
from ojai.engines.vllm import weights
from ojai.engines.vllm.flags import arguments, tunableop_environment

MOUNTS: dict[str, str] = {
    "huggingface": "/root/.cache/huggingface",
    "vllm": "/root/.cache/vllm",
    "tunableop": "/root/.cache/tunableop",
    "models": "/app/models",
    "workspace": "/app/workspace",
}
"""Cache directories by name, in the guides' order, and where the container has them."""


def from_folder(model: str) -> bool:
    """Whether the model is a folder of the host outside of the caches, which the container sees under its own path."""
    return model.startswith("/") and not model.startswith(f"{MOUNTS['models']}/")


CLOSED: dict[str, str] = {
    "VLLM_HOST_IP": "127.0.0.1",
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",
    "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
    "VLLM_NO_USAGE_STATS": "1",
}
"""Variables of an engine that is not open to the network: its processes talk over loopback, and it tells nobody."""

#: Where the container has the owner's tuned kernels. vLLM looks there first, by the name that it makes of the number of
#: experts, their size and the GPU (vllm/model_executor/layers/fused_moe, get_config_file_name).
MOE_CONFIGS = "/root/moe-configs"

NOWHERE = "media.invalid"
"""A host that there is not (RFC 2606): vLLM takes an empty list of hosts for all of them."""


#: huggingface_hub looks for the token in the variable, then in the file that the other one names (its constants.py).
SECRET_FILES = {"HF_TOKEN": "HF_TOKEN_PATH"}


def image_key(image: str) -> str:
    """A directory name for what belongs to one image: twelve digits of its digest, else its tag.

    >>> image_key("vllm/vllm-openai-rocm:v0.20.1")
    'v0.20.1'
    """
    repository, _, digest = image.partition("@")
    if digest:
        return digest.removeprefix("sha256:")[:12]
    tag = repository.rpartition("/")[2].partition(":")[2] or "latest"
    return re.sub(r"[^A-Za-z0-9._-]", "-", tag)


def directories(service: ResolvedService) -> dict[str, str]:
    """Host directory of each cache. TunableOp has one for each image: a file tuned with another is invalid."""
    places = {name: service.folders[name] for name in MOUNTS}
    places["tunableop"] += f"/{service.image_key or image_key(service.image)}"
    return places


def build(service: ResolvedService) -> Command:
    """The command as asked for, whether or not it can work.

    A unit has ``group_ids``: docker resolves names in the *image*'s /etc/group. Without them the names stay. It has
    ``revisions``: it starts from what was fetched, without the hub. Raises :class:`ProfileError` where a group is
    missing.
    """
    profile, features = service.profile, service.features
    places = directories(service)
    tunes = features.tunableop in ("tune", "use")
    mounted = [mount for mount in MOUNTS if mount in profile.mounts or (mount == "tunableop" and tunes)]
    mounts = {places[mount]: MOUNTS[mount] for mount in mounted}
    given = {service.model: service.model} if from_folder(service.model) else {}
    if service.moe_configs:
        given[service.moe_configs] = MOE_CONFIGS
    mounts |= given
    offline = {"HF_HUB_OFFLINE": "1"} if weights.offline(service) else {}
    guarded = CLOSED if service.exposure != "open" else {}
    closed = {SECRET_FILES[name]: f"{SECRETS_INSIDE}/{name}" for name in service.secret_files}
    tuned = {"VLLM_TUNED_CONFIG_FOLDER": MOE_CONFIGS} if service.moe_configs else {}
    own = {**service.proxies, **_environment(service), **guarded, **offline, **tuned}
    environment = {**own, **closed, **(features.environment or {})}
    chosen = (*arguments(features, service.revisions or {}), *weights.arguments(service))
    where = ("--host", service.host, "--port", str(service.port))
    engine = (service.model, *chosen, *_media(service, chosen), *where)
    secrets = {service.secrets_folder: SECRETS_INSIDE} if closed else {}
    argv = docker_run.argv(service, environment, mounts, given, engine, secrets)
    return Command(
        docker_argv=argv,
        engine_argv=engine,
        environment=environment,
        mounts=mounts,
        served_model_name=served_name(engine),
        image_directories=(places["tunableop"],) if "tunableop" in mounted else (),
    )


def _media(service: ResolvedService, chosen: tuple[str, ...]) -> tuple[str, ...]:
    """Whence it may fetch media: the hosts of the settings, and no other unless it is open."""
    flag = "--allowed-media-domains"
    domains = service.media_domains or ((NOWHERE,) if service.exposure != "open" else ())
    return (flag, *domains) if domains and flag not in chosen else ()


def _environment(service: ResolvedService) -> dict[str, str]:
    """The profile's environment for the accelerator, with TunableOp's; a variable without value is left out."""
    fill = {
        "{accelerator}": service.accelerator,
        "{hsa_override}": accelerators.load(service.accelerator).hsa_override_gfx_version,
    }
    environment: dict[str, str] = {}
    for variable, text in service.profile.environment.items():
        for placeholder, value in fill.items():
            text = text.replace(placeholder, value)
        if text:
            environment[variable] = text
    return {**environment, **tunableop_environment(service.features.tunableop, tuning_file(service))}


def tuning_file(service: ResolvedService) -> str:
    """The name of TunableOp's file in the container, for this GPU; PyTorch puts the GPU's number before `.csv`."""
    return f"{MOUNTS['tunableop']}/gemma4_{service.accelerator}.csv"


def served_name(engine_argv: tuple[str, ...]) -> str:
    """The model name the API answers to: ``--served-model-name``'s first, else the model."""
    for position, argument in enumerate(engine_argv):
        flag, _, value = argument.partition("=")
        if flag.replace("_", "-") == "--served-model-name":
            following = engine_argv[position + 1 : position + 2]
            return value or (following[0] if following else engine_argv[0])
    return engine_argv[0]
