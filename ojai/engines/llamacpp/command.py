"""One service's command: the server's arguments, and the `docker run` list."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ojai.engines import SECRETS_INSIDE, Command, ResolvedService, docker_run
from ojai.engines.llamacpp.planning import TYPES
from ojai.memory import CHECKPOINTS, PROMPTS_MIB

MOUNTS: dict[str, str] = {
    "huggingface": "/root/.cache/huggingface",
    "models": "/app/models",
    "mesa": "/root/.cache/mesa",
}
"""Cache directories by name, and where the container has them. `mesa` has compiled shaders."""

#: The variable with a key. From a file it is in no `docker inspect`.
KEY = "LLAMA_API_KEY"
KEY_FILE = f"{SECRETS_INSIDE}/{KEY}"

#: Secrets that are files. The hub's token is for the deploy alone, which fetches: the server is not given it.
SECRET_FILES = {KEY: "", "HF_TOKEN": ""}

#: The device that has to be there: without its name the server would compute on the CPU, and say nothing.
DEVICE = "Vulkan0"

#: Tokens of a prompt that are taken at a time, unless a batch is larger.
BATCH = 2048


def model_directory(model: str) -> str:
    """Where the weights are: the name of a cache, and the path in it; or a folder of the owner's."""
    if model.startswith(f"{MOUNTS['models']}/"):
        return f"models{model.removeprefix(MOUNTS['models'])}"
    # As huggingface_hub names it.
    return model if model.startswith("/") else f"huggingface/hub/models--{model.replace('/', '--')}"


def files(service: ResolvedService) -> tuple[str, ...]:
    """The files of the model that are served: its weights, then its projector unless only text is wanted."""
    return service.profile.files[:1] if service.features.text_only else service.profile.files


def build(service: ResolvedService) -> Command:
    """The command as asked for, whether or not it can work.

    On a host it has the commit that was fetched; before that, the revision that is asked for stands in its place.
    Raises :class:`ProfileError` where a group is missing.
    """
    features = service.features
    mounts = {service.folders[name]: MOUNTS[name] for name in MOUNTS if name in service.profile.mounts}
    given = {service.model: service.model} if service.brought else {}
    environment = {**service.proxies, **service.profile.environment, **(features.environment or {})}
    engine = tuple(_arguments(service))
    secrets = {service.key_file: KEY_FILE} if service.key_file else {}
    argv = docker_run.argv(service, environment, {**mounts, **given}, given, engine, secrets)
    return Command(
        docker_argv=argv,
        engine_argv=engine,
        environment=environment,
        mounts={**mounts, **given},
        served_model_name=service.model,
    )


def _folder(service: ResolvedService) -> str:
    if service.model.startswith("/"):
        return service.model
    commit = (service.revisions or {}).get(service.model) or service.revision or "main"
    return f"{MOUNTS['huggingface']}/{model_directory(service.model).partition('/')[2]}/snapshots/{commit}"


def _arguments(service: ResolvedService) -> Iterator[str]:
    features, folder = service.features, _folder(service)
    for flag, file in zip(("--model", "--mmproj"), files(service), strict=False):
        yield from (flag, f"{folder}/{file}")
    slots, batch = features.max_num_seqs or 1, features.max_num_batched_tokens or 512
    context = features.max_model_len or service.profile.geometry.max_context
    yield from ("--alias", service.model)
    yield from ("--device", DEVICE, "--gpu-layers", "99", "--fit", "off")
    yield from ("--ctx-size", str(context * slots), "--parallel", str(slots))  # the slots share it evenly
    yield from ("--batch-size", str(max(batch, BATCH)), "--ubatch-size", str(batch), "--flash-attn", "on")
    yield from ("--cache-ram", str(PROMPTS_MIB), "--ctx-checkpoints", str(CHECKPOINTS))
    if (kind := TYPES.get(features.kv_cache_dtype, features.kv_cache_dtype)) != "f16":
        yield from ("--cache-type-k", str(kind), "--cache-type-v", str(kind))
    if features.prefix_caching is False:
        yield "--no-cache-prompt"
    if features.chat_template:
        yield from ("--chat-template-file", features.chat_template)
    if features.thinking is not None:
        yield from ("--chat-template-kwargs", json.dumps({"enable_thinking": features.thinking}))
    if features.vision_tokens:
        yield from ("--image-max-tokens", str(features.vision_tokens))
    yield from ("--jinja", "--metrics", "--no-slots", "--no-webui", "--log-verbosity", "4")
    if service.key_file:
        yield from ("--api-key-file", KEY_FILE)
    yield from features.engine_args or ()
    yield from ("--host", service.host, "--port", str(service.port))
