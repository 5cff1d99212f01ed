"""A command of somebody else's, read back into the choices of a service: the inverse of `flags` and `command`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any, get_args

from ojai.containers import Container
from ojai.engines import Reading, ResolvedService
from ojai.engines.vllm import cli as vllm_cli
from ojai.engines.vllm import releases
from ojai.engines.vllm.argv import CONVERT, fold_dashes
from ojai.engines.vllm.cli import Given
from ojai.engines.vllm.flags import FLAGS
from ojai.memory import DEFAULT_UTILIZATION
from ojai.profiles import Features
from ojai.profiles.features import VisionTokens

#: The choices that are one flag with a value, and those that are two flags without one.
_VALUED = """
dtype quantization max_model_len gpu_memory_utilization chat_template max_num_seqs max_num_batched_tokens block_size
kv_cache_dtype safetensors_load_strategy
"""
_VALUES = {name: FLAGS[name][0] for name in _VALUED.split()}
_SWITCHES = {name: FLAGS[name][0] for name in ("prefix_caching", "async_scheduling")}
#: The choices that are JSON: flag, and the key of it that each choice is.
_OBJECTS = {
    "--limit-mm-per-prompt": {"image": "images", "audio": "audios", "video": "videos"},
    "--mm-processor-kwargs": {"max_soft_tokens": "vision_tokens"},
    "--default-chat-template-kwargs": {"enable_thinking": "thinking"},
    "--speculative-config": {"model": "model", "num_speculative_tokens": "tokens"},
}
#: Flags that are not features: they say which server, and where.
_SERVICE = ("--model", "--host", "--port")
#: Flags with a secret, and the variable that the environment file has instead.
_SECRET_FLAGS = {"--api-key": "VLLM_API_KEY", "--hf-token": "HF_TOKEN"}
_TRUE = ("1", "true", "yes", "on")


def model(container: Container) -> str | None:
    """The model; None for a container that is not vLLM's."""
    words = _arguments(container)
    if words is None:
        return None
    if words and not words[0].startswith("-"):
        return words[0]
    found, _ = vllm_cli.given(words, _contract(container))
    return next((one.values[0] for one in found if one.flag == "--model"), None)


def parts(container: Container) -> dict[str, str]:
    """The model and every flag, each with its value."""
    found, rest = _given(container)
    pairs = {one.argument.flags[0]: _shown(one) for one in found if one.flag != "--model"}
    pairs |= {word: " ".join(values) for word, *values in _together(rest)}
    return {"model": model(container) or "", **pairs}


def read(container: Container, base: ResolvedService) -> Reading:
    """The choices that differ from the profile of ``base``, with what has no setting."""
    contract = _contract(container)
    found, rest = _given(container)
    by_flag = {one.argument.flags[0]: one for one in found}
    reasons: dict[str, str] = {}
    settings: dict[str, Any] = {}
    for name, value in _choices(by_flag, base, reasons):
        if value is not None and value != getattr(base.features, name):
            settings[name] = value
    named = {*(flag for flags in FLAGS.values() for flag in flags), *_SERVICE, *_SECRET_FLAGS}
    profiles_own = [one.words for one in vllm_cli.given(base.features.engine_args or (), contract)[0]]
    extra = [one.words for one in found if one.argument.flags[0] not in named and one.words not in profiles_own]
    if extra:
        settings["engine_args"] = [word for words in extra for word in words]
    for word, *_ in _together(rest):
        why = f" ({vllm_cli.REMOVED[word]})" if word in vllm_cli.REMOVED else ""
        reasons[word] = f"vLLM {contract.vllm} does not know it{why}"
    if "--tool-call-parser" in by_flag and settings.get("tool_calling") is False:
        reasons["--tool-call-parser"] = "without --enable-auto-tool-choice it is not used"
    settings |= _environment(container, base) | _place(container, by_flag)
    secrets = {flag: variable for flag, variable in _SECRET_FLAGS.items() if flag in by_flag}
    flags = {"host": "--host", "port": "--port", **{name: flags[0] for name, flags in FLAGS.items()}}
    flags |= dict.fromkeys(("audios", "videos", "text_only"), flags["images"])
    return Reading(settings, flags, secrets, reasons)


def _arguments(container: Container) -> list[str] | None:
    """What follows ``vllm serve``; None for another program. An image's own entry point is taken for vLLM's."""
    words = [*(container.entrypoint or ()), *container.argv]
    if len(words) > 2 and words[0].rpartition("/")[2] in ("sh", "bash") and words[1] in ("-c", "-lc", "-ec"):
        try:
            words = shlex.split(words[2])
        except ValueError:
            return None
        words = words[words[:1] == ["exec"] :]
    program = words[0].rpartition("/")[2] if words else ""
    if program == "vllm" and words[1:2] == ["serve"]:
        return words[2:]
    if program.startswith("python") and words[1:3] == ["-m", "vllm.entrypoints.openai.api_server"]:
        return words[3:]
    if container.entrypoint is None and "vllm" in container.image and (program.startswith("-") or "/" in words[0]):
        return words
    return None


def _given(container: Container) -> tuple[list[Given], list[str]]:
    words = _arguments(container) or []
    return vllm_cli.given(words[1:] if words and not words[0].startswith("-") else words, _contract(container))


def _contract(container: Container) -> vllm_cli.Contract:
    """That of the image's release; the guides', where its tag names none."""
    release = releases.of(container.image)
    return release.contract if release.version else vllm_cli.load()


def _together(rest: list[str]) -> Iterator[list[str]]:
    """Words that no flag takes, each flag with the values that follow it."""
    group: list[str] = []
    for word in rest:
        if word.startswith("-"):
            name, equals, value = word.partition("=")
            if group:
                yield group
            group = [fold_dashes(name), *[value] * bool(equals)]
        elif group:
            group.append(word)
        else:
            yield [word]
    if group:
        yield group


def _shown(one: Given) -> str:
    if one.flag in _SECRET_FLAGS:
        return "(secret)"
    if one.off:
        return "no"
    text = " ".join(one.values)
    if one.argument.type in ("json", "json_config"):
        value = _object(text)
        return json.dumps(value, sort_keys=True) if value is not None else text
    try:
        return str(CONVERT[one.argument.type](text)) if one.argument.type in ("human_int", "float") else text
    except ValueError:
        return text


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = CONVERT["json_config"](text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _choices(by_flag: dict[str, Given], base: ResolvedService, reasons: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """The named choices with their values; for a flag that is left out, what vLLM does then, where that is known."""
    of_profile = base.features
    for name, flag in _VALUES.items():
        if flag not in by_flag:
            continue
        given = by_flag[flag]
        text = given.values[0] if given.values else ""
        try:
            value = CONVERT[given.argument.type](text)
            Features.model_validate({name: value})
        except ValueError:
            reasons[flag] = f"{text!r} has no setting: {name} takes other values"
        else:
            yield name, value
    left_out = {
        "dtype": "auto",
        "quantization": "none",
        "max_model_len": base.profile.geometry.max_context,
        "gpu_memory_utilization": DEFAULT_UTILIZATION,
        "kv_cache_dtype": "auto",
    }
    for name, value in left_out.items():
        if _VALUES[name] not in by_flag and getattr(of_profile, name) is not None:
            yield name, value
    for name, flag in _SWITCHES.items():
        if flag in by_flag:
            yield name, not by_flag[flag].off
    tools = by_flag.get("--enable-auto-tool-choice")
    if tools or of_profile.tool_calling:
        yield "tool_calling", tools is not None and not tools.off
    if "--reasoning-parser" in by_flag or of_profile.reasoning:
        yield "reasoning", "--reasoning-parser" in by_flag
    yield from _objects(by_flag, base, reasons)


def _objects(by_flag: dict[str, Given], base: ResolvedService, reasons: dict[str, str]) -> Iterator[tuple[str, Any]]:
    of_profile = base.features
    for flag, names in _OBJECTS.items():
        if flag not in by_flag:
            if flag == "--speculative-config" and of_profile.speculative:
                yield "speculative", False
            continue
        text = by_flag[flag].values[0]
        value = _object(text)
        if value is None:
            reasons[flag] = f"{text!r} is not a JSON object, which vLLM expects"
            continue
        beyond = sorted(set(value) - set(names))
        if beyond:
            reasons[flag] = f"{', '.join(beyond)} in it has no setting"
        known = {names[key]: entry for key, entry in value.items() if key in names}
        if flag == "--limit-mm-per-prompt" and known == dict.fromkeys(names.values(), 0):
            yield "text_only", True
        elif flag == "--speculative-config":
            assistant = base.profile.assistant
            own = assistant and known == {"model": assistant.model, "tokens": assistant.tokens}
            if set(known) == set(names.values()):
                yield "speculative", True if own else known
            else:
                reasons[flag] = "without model and num_speculative_tokens it has no setting"
        else:
            for name, entry in known.items():
                kind = bool if name == "thinking" else int
                if type(entry) is kind and (name != "vision_tokens" or entry in get_args(VisionTokens)):
                    yield name, entry
                else:
                    reasons[flag] = f"{json.dumps(entry)} is no value of {name}"


def _environment(container: Container, base: ResolvedService) -> dict[str, Any]:
    """TunableOp's mode, and the variables that the profile does not set, or sets otherwise."""
    given = container.environment
    expected = base.command.environment
    settings: dict[str, Any] = {}
    tunes = given.get("PYTORCH_TUNABLEOP_ENABLED", "0").lower() in _TRUE
    mode = ("tune" if given.get("PYTORCH_TUNABLEOP_TUNING", "1").lower() in _TRUE else "use") if tunes else "off"
    if mode != (base.features.tunableop or "off"):
        settings["tunableop"] = mode
    own = {*container.of_image, *(name for name in given if name.startswith("PYTORCH_TUNABLEOP_"))}
    extra = {name: value for name, value in given.items() if name not in own and expected.get(name) != value}
    return {**settings, **({"environment": extra} if extra else {})}


def _place(container: Container, by_flag: dict[str, Given]) -> dict[str, Any]:
    """Address and port: the published ones, where the container has a network of its own."""
    texts = {flag: by_flag[flag].values[0] for flag in ("--host", "--port") if flag in by_flag and by_flag[flag].values}
    port = int(texts["--port"]) if texts.get("--port", "8000").isdigit() and "--port" in texts else 8000
    address = {"localhost": "127.0.0.1", "": "0.0.0.0"}.get(texts.get("--host", ""), texts.get("--host", ""))
    published = container.published(port)
    if published and container.value("--network") != "host":
        return {"host": published[0] or "0.0.0.0", "port": published[1]}
    return {"host": address, "port": port}
