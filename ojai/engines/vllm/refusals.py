"""What cannot work is refused here, before a host is touched, with the reason and where it is known from.

Each check looks at the command as it would be run, so a flag that came in by ``engine_args`` or a variable
that came in by ``environment`` is seen like any other. Hardware and images move: each code can be
overridden by ``allow: [code]`` in the service, and what was overridden is kept in ``Command.allowed``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from ojai.accelerators import Accelerator
from ojai.accelerators import load as load_accelerator
from ojai.engines.vllm import cli as vllm_cli
from ojai.engines.vllm.command import Command, Refusal, build
from ojai.profiles.codes import CODES
from ojai.profiles.features import FLAGS, Features
from ojai.profiles.model import Profile, effective

SPECULATIVE_VLLM = (0, 21, 0)
"""First vLLM with Gemma 4's assistants (vllm#41745, merged 2026-05-06; seen to work in 0.21.0: vllm#42180)."""


def refusals(
    profile: Profile,
    features: Features | None = None,
    accelerator: str = "gfx1150",
    *,
    model: str | None = None,
    image: str | None = None,
) -> list[Refusal]:
    """What stands against serving ``profile`` so: empty when nothing does, or all of it is allowed.

    Raises :class:`ojai.profiles.ProfileError` for what cannot even be rendered.
    """
    command = build(
        profile,
        features=effective(profile, features),
        image=image or profile.image,
        model=model or profile.model,
        accelerator=accelerator,
    )
    allow = command.features.allow or ()
    found = findings(profile, command, accelerator, model_named=model is not None)
    return [refusal for refusal in found if refusal.code not in allow]


def findings(profile: Profile, command: Command, accelerator: str, *, model_named: bool = False) -> list[Refusal]:
    """Every refusal that applies to ``command``, allowed or not; ``model_named``: the service chose the model."""
    gpu = load_accelerator(accelerator)
    absent = [] if profile.model_given or model_named else [_absent_model(profile)]
    return [
        *absent,
        *_environment(command, gpu, accelerator),
        *_secrets(command),
        *_numbers(command, gpu, accelerator),
        *_model(profile, command),
        *_flags(command),
    ]


def _refuse(code: str, reason: str, source: str) -> Refusal:
    assert code in CODES
    return Refusal(code=code, reason=reason, source=source)


def _environment(command: Command, gpu: Accelerator, accelerator: str) -> Iterator[Refusal]:
    environment = command.environment
    aiter = sorted(name for name in environment if name.startswith("VLLM_ROCM_USE_AITER"))
    if aiter and not gpu.supports_aiter:
        yield _refuse(
            "aiter",
            f"{', '.join(aiter)} is set, but AITER has kernels for AMD Instinct only: on {accelerator} the engine "
            "stops with 'ROCm AITER does not support current device rocm'; leave the variable out altogether",
            "guide-26b §6.1, §9.4",
        )
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        if "expandable_segments:true" in environment.get(name, "").replace(" ", "").lower():
            yield _refuse(
                "expandable-segments",
                f"{name}={environment[name]}: expandable segments are not supported by HIP's allocator; "
                "leave the variable out",
                "guide-e4b, Troubleshooting; guide-26b §9.4",
            )
    override = environment.get("HSA_OVERRIDE_GFX_VERSION")
    if override and gpu.hsa_override_gfx_version and override != gpu.hsa_override_gfx_version:
        yield _refuse(
            "hsa-override",
            f"HSA_OVERRIDE_GFX_VERSION={override} makes {accelerator} pass for another GPU, whose code it runs "
            f"wrongly; expected {gpu.hsa_override_gfx_version} (11.0.0 'silently mismatches')",
            "guide-e4b, Why each flag is the way it is",
        )
    if environment.get("VLLM_SERVER_DEV_MODE", "0") != "0":
        yield _refuse(
            "dev-mode",
            "VLLM_SERVER_DEV_MODE opens endpoints that change the running engine, without a key; leave it out",
            "vllm docs/usage/security.md",
        )


def _secrets(command: Command) -> Iterator[Refusal]:
    known = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "VLLM_API_KEY")
    found = [name for name in known if name in command.environment]
    found += ["--api-key"] if _values(command.engine_argv, "--api-key") else []
    if found:
        yield _refuse(
            "secret-in-argv",
            f"{', '.join(found)} would stand in the unit and in the process list, for every user of the host to "
            f"read; put it in {command.env_file} on the host (--api-key as VLLM_API_KEY)",
            "decision: no secret in argv, unit or log",
        )


def _numbers(command: Command, gpu: Accelerator, accelerator: str) -> Iterator[Refusal]:
    for kind in _values(command.engine_argv, "--quantization", "-q"):
        if kind not in vllm_cli.load().rocm_quantization_methods and "fp8" not in kind:
            yield _refuse(
                "quantization-not-on-rocm",
                f"quantization {kind}: vLLM stops with '{kind} quantization is currently not supported in rocm'",
                "vllm-0.20.1 platforms/rocm.py, verify_quantization() run for gfx1150",
            )
    if gpu.supports_fp8:
        return
    source = "vllm-0.20.1 platforms/rocm.py supports_fp8(): gfx94, gfx95, gfx12 only"
    for dtype in _values(command.engine_argv, "--kv-cache-dtype"):
        if dtype.startswith("fp8"):
            yield _refuse(
                "fp8-kv",
                f"kv_cache_dtype {dtype}: {accelerator} has no fp8; use auto, and a shorter max_model_len "
                "to save cache",
                source,
            )
    for kind in _values(command.engine_argv, "--quantization", "-q"):
        if "fp8" in kind:
            yield _refuse(
                "fp8-weights",
                f"quantization {kind}: {accelerator} has no fp8; take a W4A16 or int8 profile",
                source,
            )


def _absent_model(profile: Profile) -> Refusal:
    return _refuse(
        "model-not-given",
        f"{profile.name} has no checkpoint that anyone vouches for; name the one you trust in the service's model "
        f"(a model id, or a path like {profile.model} for files you put in the models directory)",
        profile.source_of("model"),
    )


_FOUR_BIT = re.compile(r"w4a16|int4|4[-_]?bit|awq|gptq|nf4|nvfp4|mxfp4", re.IGNORECASE)


def _model(profile: Profile, command: Command) -> Iterator[Refusal]:
    argv, features = command.engine_argv, command.features
    if profile.limits.blocked and command.model == profile.model:
        yield _refuse("no-kernel", f"{profile.model}: {profile.limits.blocked}", profile.source_of("limits"))
    four_bit = [kind for kind in (command.model, *_values(argv, "--quantization", "-q")) if _FOUR_BIT.search(kind)]
    if profile.moe and four_bit:
        yield _refuse(
            "w4a16-moe",
            f"{four_bit[0]}: the small experts (704 wide) of the mixture lose too much at 4 bits; serve "
            "it at BF16 (gemma-4-26b-a4b)",
            "recipe, Quantized Models (QAT W4A16)",
        )
    for config in _values(argv, "--speculative-config", "-sc"):
        draft = _json_object(config).get("model")
        expected = profile.assistant.model if profile.assistant else None
        if draft is not None and draft != expected:
            yield _refuse(
                "assistant-mismatch",
                f"speculative model {draft} was not made for {command.model}; "
                + (f"use {expected}" if expected else "no assistant is known for it: leave speculative out"),
                "recipe, Available Assistant Models",
            )
        vllm = _version(command.image)
        if vllm and vllm < SPECULATIVE_VLLM:
            yield _refuse(
                "speculative-too-early",
                f"image {command.image}: speculative decoding with Gemma 4's assistants came with vLLM 0.21.0; "
                "0.20.1 stops with 'does not support multimodal models yet'; name a newer image, or leave "
                "speculative out",
                "vllm#41745, vllm#42005; vllm-0.20.1 v1/spec_decode/llm_base_proposer.py",
            )
    for text in _values(argv, "--max-num-seqs"):
        most = profile.limits.max_num_seqs
        if most is not None and text.isdigit() and int(text) > most:
            yield _refuse(
                "diffusion-max-seqs",
                f"max_num_seqs {text}: {profile.model} allocates sequences x canvas x vocabulary up front and "
                f"runs out of memory above {most}",
                profile.source_of("limits"),
            )
    for text in _values(argv, "--max-model-len"):
        length = _human_int(text)
        if length is not None and length > profile.geometry.max_context:
            yield _refuse(
                "context-beyond-model",
                f"max_model_len {text}: {profile.model} was made for at most {profile.geometry.max_context} tokens",
                profile.source_of("geometry"),
            )
    for field, kind in (("images", "image"), ("audios", "audio"), ("videos", "video")):
        if getattr(features, field) and kind not in profile.modalities:
            yield _refuse(
                "modality",
                f"{field}: {getattr(features, field)}, but {profile.model} takes {', '.join(profile.modalities)} "
                f"only; leave {field} out",
                profile.source_of("modalities"),
            )
    wanted_vllm, found_vllm = profile.limits.vllm, _version(command.image)
    if wanted_vllm and found_vllm and found_vllm < _numbers_of(wanted_vllm):
        yield _refuse(
            "engine-too-old",
            f"image {command.image}: {profile.model} is known to vLLM from {wanted_vllm} on; name a newer image",
            profile.source_of("limits"),
        )


def _flags(command: Command) -> Iterator[Refusal]:
    extra = {_flag(argument) for argument in command.features.engine_args or () if argument.startswith("-")}
    places = {**FLAGS, "model": ("--model",), "host": ("--host",), "port": ("--port",)}
    for choice, flags in places.items():
        for flag in sorted(extra & set(flags)):
            yield _refuse(
                "named-choice",
                f"engine_args: {flag} has a setting of its own, {choice}; say it there, so that budget and checks "
                "know of it",
                "decision: a thing is said once",
            )
    for fault in vllm_cli.check(command.engine_argv):
        yield _refuse("unknown-flag", fault, "vllm-0.20.1, the flags of its own parser")


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


def _human_int(text: str) -> int | None:
    """``131072``, ``128k`` (thousands) or ``128K`` (1024s), as vLLM reads them; None for ``auto`` and the like."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgKMG]?)", text)
    if not match:
        return None
    number, unit = match.groups()
    power = "kmg".find(unit.lower()) + 1 if unit else 0
    return int(float(number) * (1000 if unit.islower() else 1024) ** power)


def _json_object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}  # unknown-flag says so
    return found if isinstance(found, dict) else {}


def _numbers_of(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))


def _version(image: str) -> tuple[int, ...] | None:
    """The release an image's tag names, as in ``…:v0.20.1``; None for ``latest`` and the like."""
    match = re.search(r":v(\d+\.\d+\.\d+)", image)
    return _numbers_of(match[1]) if match else None
