"""`vllm serve`'s command line, from the flags extracted from vLLM 0.20.1's own parser.

The same arguments are refused as by the real one, with the same message where a machine may look for it,
and the same status: 2 where its parser stops, 1 where its configuration classes do.
"""

from __future__ import annotations

import argparse
import json
import operator
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from . import VERSION
from .logs import fail, warning

COMMANDS = ("chat", "complete", "serve", "launch", "bench", "collect-env", "run-batch")
USAGE = f"usage: vllm [-h] [-v]\n            {{{','.join(COMMANDS)}}} ..."
SERVE_USAGE = "vllm serve [model_tag] [options]"
FILE = f"vllm-{VERSION}.json"
REFUSED = {
    "config": "--config",
    "uds": "--uds",
    "ssl_keyfile": "--ssl-keyfile",
    "ssl_certfile": "--ssl-certfile",
    "grpc": "--grpc",
    "headless": "--headless",
}
"""Flags of the real server whose work the stand-in does not do."""


def contract_file() -> Path:
    """Return the file of flags: beside this module in the image, in `ojai/engines/vllm` in the repository."""
    here = Path(__file__).parent
    beside = here / FILE
    return beside if beside.exists() else here.parents[1] / "engines" / "vllm" / FILE


def load_contract(path: Path | None = None) -> dict[str, Any]:
    """Read the file of flags; its form is described in the file itself."""
    contract: dict[str, Any] = json.loads((path or contract_file()).read_text(encoding="utf-8"))
    return contract


def human_readable_int(text: str) -> int:
    """Read 8192, 1k (1000), 1K (1024), 25.6k; decimals are refused with the binary suffixes."""
    text = text.strip()
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgtKMGT])", text)
    if match is None:
        return int(text)
    number, suffix = match.groups()
    power = "kmgt".index(suffix.lower()) + 1
    if suffix.islower():
        return int(float(number) * 10 ** (3 * power))
    if "." in number:
        raise argparse.ArgumentTypeError(
            f"Decimals are not allowed with binary suffixes like {suffix}. "
            f"Did you mean to use {number}{suffix.lower()} instead?"
        )
    return int(number) << (10 * power)


def human_readable_int_or_auto(text: str) -> int:
    """Read as `human_readable_int`, and `auto` or `-1` as -1."""
    return -1 if text.strip().lower() in ("-1", "auto") else human_readable_int(text)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise argparse.ArgumentTypeError(f"Value {text} cannot be converted to {json.loads}.") from None


def _json_or_text(text: str) -> Any:
    # vLLM takes text that does not look like an object for a plain string.
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _config(argument: dict[str, Any]) -> Callable[[str], Any]:
    name, keys = argument["config"], set(argument["keys"])

    def parse(text: str) -> Any:
        try:
            value = json.loads(text)
        except json.JSONDecodeError as bad:
            raise argparse.ArgumentTypeError(
                f"1 validation error for {name}\n  Invalid JSON: {bad} [type=json_invalid, input_value={text!r}]"
            ) from None
        if not isinstance(value, dict):
            raise argparse.ArgumentTypeError(
                f"1 validation error for {name}\n  Input should be an object [input_value={text!r}]"
            )
        unknown = [key for key in value if key not in keys]
        if unknown:
            lines = "\n".join(
                f"{key}\n  Unexpected keyword argument [type=unexpected_keyword_argument, input_value={value[key]!r}]"
                for key in unknown
            )
            plural = "s" if len(unknown) > 1 else ""
            raise argparse.ArgumentTypeError(f"{len(unknown)} validation error{plural} for {name}\n{lines}")
        return value

    return parse


def _lower_underscore(text: str) -> str:
    return text.lower().replace("-", "_")


_TYPES: dict[str, Callable[[str], Any]] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": str,
    "json": _json,
    "json_object_or_str": _json_or_text,
    "human_int": human_readable_int,
    "human_int_or_auto": human_readable_int_or_auto,
    "lower_underscore": _lower_underscore,
}


def _converter(argument: dict[str, Any]) -> Callable[[str], Any]:
    """Return the function that turns an argument's text into its value, choices included."""
    kind = argument["type"] or "str"
    base = _config(argument) if kind == "json_config" else _TYPES[kind]
    choices, optional = argument.get("choices"), argument.get("optional", False)

    def convert(text: str) -> Any:
        if optional and text in ("", "None"):
            return None
        value = base(text)
        # Not left to argparse: the wording of its message changes with Python's version.
        if choices is not None and value not in choices:
            listed = ", ".join(map(repr, choices))
            raise argparse.ArgumentTypeError(f"invalid choice: {value!r} (choose from {listed})")
        return value

    convert.__name__ = getattr(base, "__name__", kind)
    return convert


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        fail(f"usage: {SERVE_USAGE}\nvllm serve: error: {message}", 2)


class _LoraModules(argparse.Action):
    """`name=path` or a JSON object with `name` and `path`, several after one flag."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        modules = []
        for item in values:
            if not item:
                continue
            if "=" in item and "," not in item:
                name, path = item.split("=", 1)
                modules.append({"name": name, "path": path})
                continue
            try:
                module = json.loads(item)
            except json.JSONDecodeError:
                parser.error(f"Invalid JSON format for --lora-modules: {item}")
            if not isinstance(module, dict) or not {"name", "path"} <= module.keys():
                parser.error(f"Invalid fields for --lora-modules: {item}")
            modules.append(module)
        setattr(namespace, self.dest, modules)


def build(contract: dict[str, Any]) -> argparse.ArgumentParser:
    """Return the parser for `serve`'s arguments."""
    parser = _Parser(prog="vllm serve", usage=SERVE_USAGE, add_help=False)
    parser.add_argument("-h", "--help", action="help")
    for argument in contract["arguments"] + contract["positionals"]:
        flags, action = argument["flags"], argument["action"]
        if "--help" in flags:
            continue
        keywords: dict[str, Any] = {"dest": argument["dest"], "default": argument["default"]}
        if action == "boolean_optional":
            # argparse makes the --no- form itself; vLLM's data lists both.
            flags = [flag for flag in flags if not flag.startswith("--no-")]
            keywords["action"] = argparse.BooleanOptionalAction
        elif action in ("store_true", "store_false"):
            keywords["action"] = action
        else:
            keywords["action"] = _LoraModules if action == "lora_modules" else action
            keywords["type"] = _converter(argument)
            keywords["nargs"] = argument["nargs"]
            if "const" in argument:
                keywords["const"] = argument["const"]
        if flags:
            parser.add_argument(*flags, **keywords)
        else:
            parser.add_argument(keywords.pop("dest"), **keywords)
    return parser


def _merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        elif isinstance(value, list) and isinstance(into.get(key), list):
            into[key] += value
        else:
            into[key] = value


def _dotted_value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        try:
            return human_readable_int(text)
        except (ValueError, argparse.ArgumentTypeError):
            return text


def normalise(arguments: Sequence[str]) -> list[str]:
    """Rewrite what vLLM rewrites before it parses.

    Underscores in flag names become dashes, -O3 becomes --optimization-level 3, --model becomes the
    positional, and `--flag.key value` becomes the JSON object of `--flag`.
    """
    words = list(arguments)
    for index, word in enumerate(words):
        if word == "--model" and index + 1 < len(words):
            words = [words[index + 1], *words[:index], *words[index + 2 :]]
        elif word.startswith("--model="):
            words = [word.removeprefix("--model="), *words[:index], *words[index + 1 :]]
        else:
            continue
        warning(
            "argparse_utils.py",
            "With `vllm serve`, you should provide the model as a positional argument or in a config file "
            "instead of via the `--model` option. The `--model` option will be removed in a future version.",
        )
        break
    if (
        words
        and words[0].startswith("-")
        and not any(re.match(r"--config(=|$)", word) for word in words)
        and any(re.match(r"--served[-_]model[-_]name(=|$)", word) for word in words)
    ):
        fail(
            "ValueError: `model` should be provided as the first positional argument when using "
            "`vllm serve`. i.e. `vllm serve <model> --<arg> <value>`."
        )
    plain: list[str] = []
    for index, word in enumerate(words):
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            head, dot, tail = name[2:].partition(".")
            plain.append(f"--{head.replace('_', '-')}{dot}{tail}{equals}{value}")
        elif word.startswith("-O") and word != "-O":
            plain += ["--optimization-level", word[2:].removeprefix("=")]
        elif word == "-O" and words[index + 1 : index + 2] and words[index + 1] in ("0", "1", "2", "3"):
            plain.append("--optimization-level")
        else:
            plain.append(word)

    objects: dict[str, dict[str, Any]] = {}
    result: list[str] = []
    rest = iter(plain)
    for word in rest:
        name, equals, value = word.partition("=")
        if not (word.startswith("-") and "." in name) or re.fullmatch(r"-\d*\.\d+", word):
            result.append(word)
            continue
        if not equals:
            following = next(rest, None)
            if following is None:
                fail(f"usage: {SERVE_USAGE}\nvllm serve: error: argument {name}: expected one argument", 2)
            value = following
        flag, *keys = name.removesuffix("+").split(".")
        item: Any = value.split(",") if name.endswith("+") else _dotted_value(value)
        for key in reversed(keys):
            item = {key: item}
        _merge(objects.setdefault(flag, {}), item)
    for flag, value_object in objects.items():
        result += [flag, json.dumps(value_object)]
    return result


def _check_limits(contract: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Stop with status 1 where vLLM's configuration classes refuse a value that its parser took."""
    words = {
        "gt": ("greater than", operator.gt),
        "ge": ("greater than or equal to", operator.ge),
        "lt": ("less than", operator.lt),
        "le": ("less than or equal to", operator.le),
    }
    for argument in contract["arguments"]:
        value = getattr(arguments, argument["dest"], None)
        for name, limit in argument.get("limits", {}).items():
            text, holds = words[name]
            if isinstance(value, int | float) and not holds(value, limit):
                fail(
                    f"pydantic_core._pydantic_core.ValidationError: 1 validation error for "
                    f"{argument['group']}\n{argument['dest']}\n"
                    f"  Input should be {text} {limit} [input_value={value!r}]"
                )


def _check_names(contract: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Stop with status 1 where a named parser or method does not exist."""
    if arguments.enable_auto_tool_choice:
        if not arguments.tool_call_parser:
            fail("TypeError: Error: --enable-auto-tool-choice requires --tool-call-parser")
        # As in vLLM: the parser's name is looked at only when automatic tool choice is on.
        if arguments.tool_call_parser not in contract["tool_call_parsers"] and not arguments.tool_parser_plugin:
            known = ",".join(contract["tool_call_parsers"])
            message = f"invalid tool call parser: {arguments.tool_call_parser} (chose from {{ {known} }})"
            fail(f"KeyError: {message!r}")
    if arguments.reasoning_parser and arguments.reasoning_parser not in contract["reasoning_parsers"]:
        known = ",".join(contract["reasoning_parsers"])
        message = f"invalid reasoning parser: {arguments.reasoning_parser} (chose from {{ {known} }})"
        fail(f"KeyError: {message!r}")
    method = arguments.quantization
    if not method:
        return
    if method not in contract["quantization_methods"]:
        fail(f"ValueError: Unknown quantization method: {method}. Must be one of {contract['quantization_methods']}.")
    # ROCm's own list is shorter: int8_per_channel_weight_only parses and is refused here.
    if method not in contract["rocm_quantization_methods"]:
        fail(f"ValueError: {method} quantization is currently not supported in rocm.")
    if method in contract["deprecated_quantization_methods"] and not arguments.allow_deprecated_quantization:
        fail(
            f"ValueError: The quantization method {method} is deprecated and will be removed in future "
            "versions of vLLM. To bypass, set `--allow-deprecated-quantization`."
        )


def parse(words: Sequence[str], contract: dict[str, Any]) -> argparse.Namespace:
    """Parse the words after `vllm serve`; ends the process as vLLM does when they are wrong."""
    if any(word.startswith("--help=") for word in words):
        words = ["--help"]
    arguments, unknown = build(contract).parse_known_args(normalise(words))
    if unknown:
        fail(f"{USAGE}\nvllm: error: unrecognized arguments: {' '.join(unknown)}", 2)
    for name, flag in REFUSED.items():
        if getattr(arguments, name, None):
            fail(
                f"vllm serve: {flag} is a flag of vLLM {VERSION}, but the ojai lab's stand-in does not do "
                "what it asks for. Give the settings as plain arguments, on a TCP port without TLS."
            )
    arguments.given = sorted(
        argument["dest"]
        for argument in contract["arguments"]
        if getattr(arguments, argument["dest"], None) != argument["default"]
    )
    _check_limits(contract, arguments)
    _check_names(contract, arguments)
    return arguments


def command(words: Sequence[str], contract: dict[str, Any]) -> argparse.Namespace:
    """Parse `vllm`'s whole command line (without the program's name) for `serve`."""
    first = words[0] if words else ""
    if first in ("-v", "--version"):
        print(VERSION)
        raise SystemExit(0)
    if first in ("", "-h", "--help"):
        print(f"{USAGE}\n\nvLLM CLI (the ojai lab's stand-in: only `serve` and `bench serve` are here)")
        raise SystemExit(0)
    if first not in COMMANDS:
        listed = ", ".join(map(repr, COMMANDS))
        fail(f"{USAGE}\nvllm: error: argument subparser: invalid choice: {first!r} (choose from {listed})", 2)
    if first != "serve":
        fail(
            f"vllm {first}: not in the ojai lab's stand-in for vLLM {VERSION}, which has only `serve` and `bench serve`"
        )
    return parse(words[1:], contract)


def api_keys(arguments: argparse.Namespace) -> list[str]:
    """Return the keys that open /v1: --api-key's, else VLLM_API_KEY's; empty when there is no lock."""
    keys = [key for key in (arguments.api_key or []) if key]
    return keys or [key for key in (os.environ.get("VLLM_API_KEY", ""),) if key]
