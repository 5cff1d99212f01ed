"""What cannot work is refused here, before a host is touched, with the reason and where it is known from."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ojai.containers import is_secret
from ojai.engines import Refusal, ResolvedService
from ojai.engines.llamacpp import cli
from ojai.memory import CACHE_TYPES
from ojai.profiles import ProfileError

#: Choices that it has no counterpart for, each with what to do.
_LACKS: dict[str, str] = {
    "dtype": "the file says it",
    "quantization": "the file says it",
    "gpu_memory_utilization": "it takes what the model and its cache need; see `ojai budget`",
    "block_size": "its cache has no blocks",
    "async_scheduling": "leave it out",
    "safetensors_load_strategy": "leave it out",
    "tunableop": "leave it out",
    "speculative": "its drafting for Gemma 4 (llama.cpp#23398) is not tried here",
    "images": "it counts none; text_only leaves pictures out",
    "audios": "it counts none; text_only leaves sound out",
    "videos": "it counts none; text_only leaves films out",
}

#: Flags that a setting stands for, or that would undo what is said of a service.
_NAMED: dict[str, tuple[str, ...]] = {
    "model": ("--model", "--mmproj", "--alias", "--hf-repo", "--hf-file", "--model-url", "--models-dir"),
    "port": ("--host", "--port", "--api-prefix", "--reuse-port"),
    "max_model_len": ("--ctx-size",),
    "max_num_seqs": ("--parallel", "--kv-unified"),
    "max_num_batched_tokens": ("--ubatch-size", "--batch-size"),
    "kv_cache_dtype": ("--cache-type-k", "--cache-type-v"),
    "prefix_caching": ("--cache-prompt", "--no-cache-prompt"),
    "thinking": ("--chat-template-kwargs", "--reasoning"),
    "chat_template": ("--chat-template", "--chat-template-file"),
    "vision_tokens": ("--image-max-tokens",),
    "secrets": ("--api-key-file",),
    "engine": ("--device", "--gpu-layers", "--metrics", "--rpc", "--fit", "--cache-ram", "--ctx-checkpoints"),
}

_ROCM = re.compile(r"rocm|hip\b|gfx1\d")
_OFFICIAL = re.compile(r"(?:^|/)ggml-org/llama\.cpp:")


def find(service: ResolvedService) -> Iterator[Refusal]:
    """Every refusal that applies to the service's command, allowed or not."""
    yield from _image(service)
    yield from _choices(service)
    yield from _flags(service)
    own = service.features.environment or {}
    for name, value in own.items():
        if refusal := forbidden(name):
            yield refusal
        elif is_secret(name, value) and not value.startswith("/"):
            yield _secret(service, name)
    if any(word.partition("=")[0] == "--api-key" for word in service.features.engine_args or ()):
        yield _secret(service, "--api-key")


def _secret(service: ResolvedService, name: str) -> Refusal:
    return Refusal(
        "secret-in-argv",
        f"{name} would be in the unit and in the process list, for every user of the host to read; name it in "
        "`secrets` (--api-key as LLAMA_API_KEY)",
        "decision: no secret in argv, unit or log",
    )


def _image(service: ResolvedService) -> Iterator[Refusal]:
    tag = service.image.partition("@")[0].rpartition("/")[2]
    if _ROCM.search(tag):
        yield Refusal(
            "rocm-wrong-text",
            f"image {service.image}: llama.cpp by ROCm gives wrong text for Gemma 4 on GPUs of this kind, from some "
            f"thousand tokens of prompt on; by Vulkan it is right. Take {service.profile.image}",
            "llama.cpp#25992, #26239, #27506, #28211; ollama#17498, #17871, #17895",
        )
    elif _OFFICIAL.search(service.image) and "vulkan" not in tag:
        yield Refusal(
            "no-vulkan",
            f"image {service.image} has no Vulkan, and stops at the device that is asked for; take "
            f"{service.profile.image}",
            "llama.cpp docs/docker.md",
        )


def _choices(service: ResolvedService) -> Iterator[Refusal]:
    features, profile = service.features, service.profile
    for name, instead in _LACKS.items():
        value = getattr(features, name)
        if value not in (None, False, "off"):
            shown = value if isinstance(value, int | float | str) else "what is asked for"
            yield Refusal(
                "engine-lacks",
                f"{name}: {shown}, which llama.cpp's server does not have; {instead}",
                "llama-server --help",
            )
    if features.tool_calling is False:
        yield Refusal("engine-lacks", "tool_calling: false, but llama.cpp always takes tools; leave it out", _HELP)
    if service.media_domains:
        yield Refusal(
            "engine-lacks",
            "media_domains: llama.cpp fetches what a request names from any host, and cannot be held to some; leave it "
            "out, and have clients send pictures themselves",
            _HELP,
        )
    if features.max_model_len and features.max_model_len > profile.geometry.max_context:
        yield Refusal(
            "context-beyond-model",
            f"max_model_len {features.max_model_len}: {profile.model} was made for at most "
            f"{profile.geometry.max_context} tokens, and llama.cpp cuts a longer context without a word",
            profile.source_of("geometry"),
        )
    if service.model_named and not service.model.startswith("/"):
        yield Refusal(
            "file-not-known",
            f"model {service.model}: which of its files to serve is known of {profile.model} alone; put "
            f"{' and '.join(profile.files)} into a folder of the host, and name that",
            f"profiles/llamacpp/{profile.name}.yaml",
        )
    try:
        service.demand  # noqa: B018
    except ProfileError as error:
        # No code of `CODES`: what nobody can count cannot be allowed either.
        text = f"kv_cache_dtype {features.kv_cache_dtype}: expected auto, float16, bfloat16 or {', '.join(CACHE_TYPES)}"
        yield Refusal("kv-cache-uncounted", f"{text} ({error})", "decision: unknown is never 'fits'")


def _flags(service: ResolvedService) -> Iterator[Refusal]:
    spelt = [cli.whole(word) for word in service.features.engine_args or () if word.startswith("-")]
    for choice, flags in _NAMED.items():
        for flag in sorted({*flags} & {*spelt}):
            yield Refusal(
                "named-choice",
                f"engine_args: {flag} has a setting of its own, {choice}; use that, so that budget and checks know of "
                "it",
                "decision: one place for each choice",
            )
    if cli.exact(service.image):
        for error in cli.check(service.command.engine_argv):
            yield Refusal("unknown-flag", error, f"llama.cpp b{cli.BUILD}, the flags of its own parser")


def remarks(service: ResolvedService) -> Iterator[str]:
    """What should be known of the service's image, and what is not sure of it."""
    build = cli.build(service.image)
    if build is None:
        yield (
            f"image {service.image}: its tag names no build of llama.cpp, so its flags are not judged; name one such "
            f"as {service.profile.image.rpartition(':')[2]}, or its digest"
        )
    elif not cli.exact(service.image):
        errors = cli.check(service.command.engine_argv)
        said = f"; by its flags: {'; '.join(errors)}" if errors else ""
        yield (
            f"image {service.image}: the flags of b{build} are not known here, and are not refused; the build that is "
            f"known is b{cli.BUILD}{said}"
        )
    yield "llama.cpp fetches pictures that a request names by address from any host that it can reach"


def forbidden(variable: str) -> Refusal | None:
    """Why a variable may not be in the environment, whatever its value."""
    if variable == "HSA_OVERRIDE_GFX_VERSION":
        return Refusal(
            "hsa-override", f"{variable}: Vulkan has no use for it; leave it out", "llama.cpp docs/docker.md"
        )
    if variable == "LLAMA_API_KEY":
        return Refusal(
            "open-server",
            f"{variable}: empty, it starts a server without a key; name it in `secrets`, from where it is a file that "
            "is looked at before each start",
            "Debian's llama.cpp 0.7.0, run",
        )
    if variable.startswith("LLAMA_ARG_") and variable not in ("LLAMA_ARG_THREADS",):
        return Refusal(
            "named-choice",
            f"{variable}: say it in engine_args, where it is checked: a variable that is misspelt is passed over",
            "Debian's llama.cpp 0.7.0, run",
        )
    return None


_HELP = "llama-server --help"
