"""What cannot work is refused here, before a host is touched, with the reason and where it is known from.

Each check looks at the command as it would be run, so a flag that came in by ``engine_args`` or a variable
that came in by ``environment`` is seen like any other. Hardware and images move: each code can be
overridden by ``allow: [code]`` in the service; the unit records what was overridden.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ojai import accelerators
from ojai.containers import is_secret
from ojai.engines import Refusal, ResolvedService
from ojai.engines.vllm import cli as vllm_cli
from ojai.engines.vllm import releases
from ojai.engines.vllm.argv import human_int
from ojai.engines.vllm.flags import FLAGS
from ojai.memory import KV_CACHE_DTYPES
from ojai.profiles import ProfileError


@dataclass(frozen=True)
class _Forbidden:
    """Variables that must not reach the engine: those that ``pattern`` matches, with a value that ``harms``."""

    pattern: re.Pattern[str]
    code: str
    reason: str
    source: str
    harms: Callable[[str], bool] = lambda value: True
    unless: str = ""
    """The accelerators' fact that makes it harmless."""


FORBIDDEN = (
    _Forbidden(
        re.compile(r"VLLM_ROCM_USE_AITER\w*"),
        "aiter",
        "AITER has no kernels for this GPU: the engine stops with 'ROCm AITER does not support current device rocm', "
        "even where the variable is 0",
        "guide-26b §6.1, §9.4",
        unless="supports_aiter",
    ),
    _Forbidden(
        re.compile(r"PYTORCH_(HIP_|CUDA_)?ALLOC_CONF"),
        "expandable-segments",
        "expandable segments are not supported by HIP's allocator",
        "guide-e4b, Troubleshooting; guide-26b §9.4",
        harms=lambda value: "expandable_segments:true" in value.replace(" ", "").lower(),
    ),
    _Forbidden(
        re.compile(r"VLLM_SERVER_DEV_MODE"),
        "dev-mode",
        "it opens endpoints that change the running engine, without a key",
        "vllm docs/usage/security.md",
        harms=lambda value: value != "0",
    ),
)


def find(service: ResolvedService) -> Iterator[Refusal]:
    """Every refusal that applies to the service's command, allowed or not."""
    profile = service.profile
    if not profile.model_given and not service.model_named:
        yield Refusal(
            "model-not-given",
            f"{profile.name} has no checkpoint with a known publisher; name the one you trust in the service's model "
            f"(a model id, or a path like {profile.model} for files in the models directory)",
            profile.source_of("model"),
        )
    yield from _environment(service)
    yield from _secrets(service)
    yield from _quantization(service)
    yield from _known(service, "refuse")
    yield from _model(service)
    yield from _flags(service)


def remarks(service: ResolvedService) -> Iterator[str]:
    """What should be known of the service's release, and what is not sure of it."""
    release = releases.of(service.image)
    errors = [] if release.exact else vllm_cli.check(service.command.engine_argv, release.contract)
    errors += [] if release.exact else [refusal.reason for refusal in _not_on_rocm(service, release)]
    said = f"; by its flags: {'; '.join(errors)}" if errors else ""
    if release.version is None:
        yield (
            f"image {service.image}: its tag names no release of vLLM, so its flags, number formats and known faults "
            f"are not judged; the newest release known here is {release.contract.vllm}{said}"
        )
    elif not release.exact:
        yield (
            f"image {service.image}: the flags of vLLM {release.version} are not known here, and are not refused; the "
            f"nearest release that is known is {release.contract.vllm}{said}"
        )
    for found in _known(service, "say"):
        yield f"{found.code}: {found.reason} [{found.source}]"


def forbidden(variable: str, accelerator: str) -> Refusal | None:
    """Why a variable may not be set in an environment file, whose values are never read."""
    return next((Refusal(one.code, one.reason, one.source) for one in _forbidden(variable, accelerator)), None)


def _forbidden(variable: str, accelerator: str) -> Iterator[_Forbidden]:
    gpu = accelerators.load(accelerator)
    for one in FORBIDDEN:
        if one.pattern.fullmatch(variable) and not (one.unless and getattr(gpu, one.unless)):
            yield one


def _environment(service: ResolvedService) -> Iterator[Refusal]:
    environment, accelerator = service.command.environment, service.accelerator
    for name, value in environment.items():
        for one in _forbidden(name, accelerator):
            if one.harms(value):
                yield Refusal(one.code, f"{name}={value}: {one.reason}; leave the variable out", one.source)
    override = environment.get("HSA_OVERRIDE_GFX_VERSION")
    right = accelerators.load(accelerator).hsa_override_gfx_version
    if override and right and override != right:
        yield Refusal(
            "hsa-override",
            f"HSA_OVERRIDE_GFX_VERSION={override} makes {accelerator} pass for another GPU, whose code it runs "
            f"wrongly; expected {right} (11.0.0 'silently mismatches')",
            "guide-e4b, Why each flag is the way it is",
        )


def _secrets(service: ResolvedService) -> Iterator[Refusal]:
    own = service.features.environment or {}
    found = [name for name, value in own.items() if is_secret(name, value) and not value.startswith("/")]
    found += ["--api-key"] if _values(service.command.engine_argv, "--api-key") else []
    if found:
        yield Refusal(
            "secret-in-argv",
            f"{', '.join(found)} would be in the unit and in the process list, for every user of the host to "
            f"read; put it in {service.env_file} on the host (--api-key as VLLM_API_KEY)",
            "decision: no secret in argv, unit or log",
        )


def _quantization(service: ResolvedService) -> Iterator[Refusal]:
    # No code of `CODES`: what nobody can count cannot be allowed either.
    dtypes = _values(service.command.engine_argv, "--kv-cache-dtype")
    wrong = [
        f"kv_cache_dtype {dtype}: the memory budget cannot count it; expected one of {', '.join(KV_CACHE_DTYPES)}"
        for dtype in dtypes
        if dtype not in KV_CACHE_DTYPES
    ]
    if not wrong:
        try:
            service.demand  # noqa: B018
        except ProfileError as error:
            wrong = [str(error)]
    yield from (Refusal("kv-cache-uncounted", text, "decision: unknown is never 'fits'") for text in wrong)
    release = releases.of(service.image)
    if release.exact:
        yield from _not_on_rocm(service, release)


def _not_on_rocm(service: ResolvedService, release: releases.Release) -> Iterator[Refusal]:
    contract = release.contract
    for kind in _values(service.command.engine_argv, "--quantization", "-q"):
        if kind in contract.quantization_methods and kind not in contract.rocm_quantization_methods:
            yield Refusal(
                "quantization-not-on-rocm",
                f"quantization {kind}: vLLM stops with '{kind} quantization is currently not supported in rocm'",
                f"vllm-{contract.vllm} platforms/rocm.py, supported_quantization",
            )


def _known(service: ResolvedService, effect: str) -> Iterator[Refusal]:
    """What is known of the image's release in general, from the data file, and concerns this command."""
    version = releases.of(service.image).version
    if version is None:
        return
    argv = service.command.engine_argv
    drafts = [config for config in _values(argv, "--speculative-config", "-sc") if "model" in _json_object(config)]
    says: dict[str, list[str]] = {
        "speculative": drafts,
        "tools": [flag for flag in argv if flag == "--enable-auto-tool-choice"],
        "moe": ["moe"] if service.profile.moe else [],
        "kv_cache_dtype": _values(argv, "--kv-cache-dtype"),
        "quantization": _values(argv, "--quantization", "-q"),
        "model": [service.model],
        "accelerator": [service.accelerator],
    }
    for window in releases.windows_of(version):
        if window.effect != effect or any(
            service.command.environment.get(name) == value for name, value in window.unless.items()
        ):
            continue
        matched = {name: found for name in says if (found := window.when.matched(name, says[name])) is not None}
        if len(matched) == len(window.when.model_fields_set):
            value = next((text for name, text in matched.items() if name != "accelerator"), "")
            reason = window.reason.format(value=value, accelerator=service.accelerator)
            yield Refusal(window.code, f"{reason} (image {service.image}); {window.instead}", window.source)


_FOUR_BIT = re.compile(r"w4a16|int4|4[-_]?bit|awq|gptq|nf4|nvfp4|mxfp4", re.IGNORECASE)


def _model(service: ResolvedService) -> Iterator[Refusal]:
    argv, features, profile = service.command.engine_argv, service.features, service.profile
    if re.fullmatch(r"vllm-openai(:[^/]*)?", service.image.rpartition("/")[2]):
        yield Refusal(
            "cuda-image",
            f"image {service.image} is built for NVIDIA's GPUs and finds no GPU here; the one for AMD's is "
            f"{service.image.replace('vllm-openai', 'vllm-openai-rocm')}",
            "vLLM, Docker images",
        )
    if profile.limits.blocked and service.model == profile.model:
        yield Refusal("no-kernel", f"{profile.model}: {profile.limits.blocked}", profile.source_of("limits"))
    four_bit = [kind for kind in (service.model, *_values(argv, "--quantization", "-q")) if _FOUR_BIT.search(kind)]
    if profile.moe and four_bit:
        yield Refusal(
            "w4a16-moe",
            f"{four_bit[0]}: the small experts (704 wide) of the mixture lose too much at 4 bits; serve "
            "it at BF16 (gemma-4-26b-a4b)",
            "recipe, Quantized Models (QAT W4A16)",
        )
    for config in _values(argv, "--speculative-config", "-sc"):
        draft = _json_object(config).get("model")
        expected = profile.assistant.model if profile.assistant else None
        if draft is not None and draft != expected:
            yield Refusal(
                "assistant-mismatch",
                f"speculative model {draft} was not made for {service.model}; "
                + (f"use {expected}" if expected else "no assistant is known for it: leave speculative out"),
                "recipe, Available Assistant Models",
            )
    for text in _values(argv, "--max-num-seqs"):
        most = profile.limits.max_num_seqs
        if most is not None and text.isdigit() and int(text) > most:
            yield Refusal(
                "diffusion-max-seqs",
                f"max_num_seqs {text}: {profile.model} allocates sequences x canvas x vocabulary up front and "
                f"runs out of memory above {most}",
                profile.source_of("limits"),
            )
    for text in _values(argv, "--max-model-len"):
        if _length(text) > profile.geometry.max_context:
            yield Refusal(
                "context-beyond-model",
                f"max_model_len {text}: {profile.model} was made for at most {profile.geometry.max_context} tokens",
                profile.source_of("geometry"),
            )
    for field, kind in (("images", "image"), ("audios", "audio"), ("videos", "video")):
        if getattr(features, field) and kind not in profile.modalities:
            yield Refusal(
                "modality",
                f"{field}: {getattr(features, field)}, but {profile.model} takes {', '.join(profile.modalities)} "
                f"only; leave {field} out",
                profile.source_of("modalities"),
            )
    least, found = profile.limits.vllm, releases.of(service.image).version
    if least and found and releases.within(found, None, least):
        yield Refusal(
            "engine-too-old",
            f"image {service.image}: {profile.model} is known to vLLM from {least} on; name a newer image",
            profile.source_of("limits"),
        )


def _flags(service: ResolvedService) -> Iterator[Refusal]:
    release = releases.of(service.image)
    spellings = {flag: set(argument.flags) for argument in release.contract.arguments for flag in argument.flags}
    extra = {_flag(argument) for argument in service.features.engine_args or () if argument.startswith("-")}
    places = {**FLAGS, "model": ("--model",), "host": ("--host",), "port": ("--port",)}
    for choice, flags in places.items():
        for flag in sorted(extra):
            if spellings.get(flag, {flag}) & set(flags):
                yield Refusal(
                    "named-choice",
                    f"engine_args: {flag} has a setting of its own, {choice}; use that, so that budget and checks "
                    "know of it",
                    "decision: one place for each choice",
                )
    for flag in sorted(extra - spellings.keys()):
        whole = sorted(known for known in spellings if flag.startswith("--") and known.startswith(flag))
        if whole:
            yield Refusal(
                "abbreviated-flag",
                f"engine_args: {flag} is short for {' or '.join(whole)}; write it out, so that budget and checks know "
                "of it",
                "decision: one place for each choice",
            )
    for error in vllm_cli.check(service.command.engine_argv, release.contract) if release.exact else ():
        yield Refusal("unknown-flag", error, f"vllm-{release.version}, the flags of its own parser")


def _flag(argument: str) -> str:
    """The flag of ``--flag``, ``--flag=value`` or ``--fl_ag`` as vLLM's parser reads it."""
    name = argument.partition("=")[0]
    return name.replace("_", "-") if name.startswith("--") else name


def _values(argv: tuple[str, ...], *flags: str) -> list[str]:
    """Every value given to one of ``flags``, as ``--flag value`` or ``--flag=value``, in order."""
    values = []
    for position, argument in enumerate(argv):
        if _flag(argument) in flags:
            _, equals, value = argument.partition("=")
            following = argv[position + 1 : position + 2]
            values += [value] if equals else list(following)
    return values


def _length(text: str) -> int:
    """A number of tokens; 0 for ``auto`` and what unknown-flag refuses."""
    try:
        return human_int(text)
    except ValueError:
        return 0


def _json_object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}  # unknown-flag reports it
    return found if isinstance(found, dict) else {}
