"""Writes down the flags of vLLM's own `vllm serve` parser as data.

Run by the contract environment's Python with one release on `PYTHONPATH` (`make contract-data`):
`python -m tools.contract.extract [FILE]` (without FILE: to stdout).
The output is the same on every machine: sorted, with no paths and nothing taken from the environment.
"""

import argparse
import ast
import dataclasses
import enum
import inspect
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

from tools.contract import real  # first: it sets the platform

import vllm.config  # isort: skip
from vllm.engine import arg_utils  # isort: skip
from vllm.config.cache import CacheDType  # isort: skip
from vllm.config.speculative import SpeculativeConfig  # isort: skip

if find_spec("vllm.entrypoints.common"):
    from vllm.entrypoints.common.cli_args import FrontendArgs  # isort: skip
else:  # before 0.33
    from vllm.entrypoints.openai.cli_args import FrontendArgs  # isort: skip
from vllm.model_executor.layers import quantization  # isort: skip
from vllm.reasoning import ReasoningParserManager  # isort: skip
from vllm.tool_parsers import ToolParserManager  # isort: skip
from vllm.utils import argparse_utils  # isort: skip

SOURCE = (
    f"Extracted by tools/contract/extract.py from the serve parser of the released vllm {real.VERSION} package "
    "(vllm.entrypoints.cli.serve.ServeSubcommand), with the CPU platform set."
)

SYNTAX = {
    "underscores": "In a flag's name '_' and '-' are the same, up to the first '.'.",
    "abbreviations": "A flag may be shortened to an unambiguous beginning (argparse's allow_abbrev).",
    "equals": "A value follows as the next argument or after '='.",
    "dotted": "--flag.key.sub VALUE builds the JSON object of --flag; --flag.key+ A,B appends to a list.",
    "optimization_level": "-O2, -O=2 and '-O 2' mean --optimization-level 2.",
    "config": "--config FILE.yaml puts the file's keys before the other arguments, as if they were given.",
    "model": "The model is the first positional argument; --model is rewritten to it, with a warning.",
}

ACTIONS = {
    "_StoreAction": "store",
    "_StoreTrueAction": "store_true",
    "_StoreFalseAction": "store_false",
    "_AppendAction": "append",
    "BooleanOptionalAction": "boolean_optional",
    "LoRAParserAction": "lora_modules",
    "EnableDisableAction": "boolean_optional",
    "DeprecatedLogConfigFileAction": "store",
}

# Flags whose field in the configuration class has another name (EngineArgs.create_engine_config).
FIELDS = {"kv_cache_dtype": "cache_dtype", "limit_mm_per_prompt": "limit_per_prompt"}


class Unknown(Exception):
    """vLLM has something here that this tool cannot describe: the tool must learn it first."""


def main() -> None:
    """Write the data file, or print it."""
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text())
    else:
        sys.stdout.write(text())


def text() -> str:
    """The data file's text."""
    return json.dumps(extract(), indent=1) + "\n"


def extract() -> dict[str, Any]:
    """The contract as JSON-able data; the keys are described in `ojai/engines/vllm/cli.py`."""
    _, serve = real.parsers()
    groups = {id(a): g.title or "" for g in serve._action_groups for a in g._group_actions}
    spelt: dict[int, list[str]] = {}
    for flag, action in serve._option_string_actions.items():  # those that the help does not show too
        spelt.setdefault(id(action), []).append(flag)
    deprecated = serve._deprecated
    described = [
        describe(action, groups[id(action)], spelt.get(id(action), []))
        | ({"deprecated": True} if action in deprecated else {})
        for action in serve._actions
        if not isinstance(action, argparse._HelpAction)
    ]
    return {
        "vllm": real.VERSION,
        "source": SOURCE,
        "syntax": SYNTAX,
        "positionals": [one for one in described if not one["flags"]],
        "arguments": sorted((one for one in described if one["flags"]), key=lambda one: one["flags"][0]),
        "tool_call_parsers": sorted(ToolParserManager.list_registered()),
        "reasoning_parsers": sorted(ReasoningParserManager.list_registered()),
        "quantization_methods": sorted(get_args(quantization.QuantizationMethods)),
        "deprecated_quantization_methods": sorted(quantization.DEPRECATED_QUANTIZATION_METHODS),
        "rocm_quantization_methods": rocm_quantization_methods(),
        "kv_cache_dtypes": sorted(get_args(CacheDType)),
    }


def rocm_quantization_methods() -> list[str]:
    """What `RocmPlatform.supported_quantization` lists: ModelConfig refuses every other name on an AMD GPU.

    Read from the source, because vllm.platforms.rocm asks for the GPU when it is imported.
    """
    spec = find_spec("vllm.platforms.rocm")
    if spec is None or spec.origin is None:
        raise Unknown("vllm.platforms.rocm is not there")
    for node in ast.walk(ast.parse(Path(spec.origin).read_text())):
        if isinstance(node, ast.AnnAssign) and node.value and ast.unparse(node.target) == "supported_quantization":
            return sorted(ast.literal_eval(node.value))
    raise Unknown("RocmPlatform.supported_quantization is not a list any more")


def describe(action: argparse.Action, group: str, flags: list[str]) -> dict[str, Any]:
    """One argument as data. Keys without anything to say are left out, but for those every argument has."""
    kind = type(action).__name__
    if kind not in ACTIONS:
        raise Unknown(f"{action.option_strings}: action {kind}")
    takes_value = not isinstance(action, argparse.BooleanOptionalAction) and action.nargs != 0
    type_name, optional, config_class = name_of_type(action.type) if takes_value else ("bool", False, None)
    one: dict[str, Any] = {
        "flags": flags,
        "dest": action.dest,
        "action": ACTIONS[kind],
        "nargs": action.nargs,
        "type": type_name,
        "choices": None if action.choices is None else sorted(action.choices, key=str),
        "default": plain(action.default),
        "group": group,
    }
    if optional:
        one["optional"] = True  # '' and 'None' mean no value
    if action.const is not None and takes_value:
        one["const"] = plain(action.const)
    negative = getattr(action, "negative_option_strings", ())
    if inverses := sorted(flag for flag in negative if not flag.startswith("--no-")):
        one["inverses"] = inverses
    if config_class is not None:
        one["config"] = config_class.__name__
        one["keys"] = sorted(f.name for f in dataclasses.fields(config_class) if f.init)
    if action.dest == "speculative_config":  # a plain dict for the parser; the engine makes this class of it
        one["config"] = SpeculativeConfig.__name__
        one["keys"] = sorted(f.name for f in dataclasses.fields(SpeculativeConfig) if f.init)
    if type_name == "json":
        one["shape"] = shape_of(action.dest, group)
    if limits := limits_of(action.dest, group):
        one["limits"] = limits  # checked after parsing, by vLLM's configuration classes
    if action.dest == "sse_keep_alive_interval":
        one["limits"] = {"ge": 0}  # validate_parsed_serve_args: in code, not in a declaration
    if action.dest == "tool_call_parser":
        one["names"] = "tool_call_parsers"
    if action.dest == "reasoning_parser":
        one["names"] = "reasoning_parsers"
    if action.dest == "quantization":
        one["names"] = "quantization_methods"
    if action.dest == "kv_cache_dtype" and action.choices is None:  # plugins may bring more: checked after parsing
        one["names"] = "kv_cache_dtypes"
    return one


def name_of_type(convert: Any) -> tuple[str, bool, type | None]:
    """A converter's name in the data file; whether '' and 'None' mean no value; its configuration class."""
    simple = {None: "str", str: "str", int: "int", float: "float", json.loads: "json"}
    simple[arg_utils.union_dict_and_str] = "json_object_or_str"
    simple[argparse_utils.human_readable_int] = "human_int"
    simple[argparse_utils.human_readable_int_or_auto] = "human_int_or_auto"
    if convert in simple:
        return simple[convert], False, None
    held = inspect.getclosurevars(convert).nonlocals
    name = convert.__qualname__
    if name.startswith("optional_type."):
        inner, _, config_class = name_of_type(held["return_type"])
        return inner, True, config_class
    if name.startswith("parse_type."):
        return name_of_type(held["return_type"])
    if name.endswith("parse_dataclass"):
        return "json_config", False, inspect.signature(convert).parameters["cls"].default
    if name == "parse_reasoning_parser":
        return "str_or_none", False, None
    if name.endswith("<lambda>") and convert("A-b") == "a_b":
        return "lower_underscore", False, None
    if name.endswith("<lambda>") and convert("1,x") == [1, "x"]:
        return "str", False, None  # takes any text, and makes a list of it
    raise Unknown(f"converter {name}")


def shape_of(dest: str, group: str) -> str:
    """Whether a JSON argument's field is an object or an array."""
    owner = FrontendArgs if group == "Frontend" else arg_utils.AsyncEngineArgs
    hints = arg_utils.get_type_hints({field.name: field.type for field in dataclasses.fields(owner)}[dest])
    for shape, of in (("object", dict), ("array", list)):
        if arg_utils.contains_type(hints, of):
            return shape
    raise Unknown(f"{dest}: JSON that is neither object nor array: {hints}")


def limits_of(dest: str, group: str) -> dict[str, float]:
    """The bounds vLLM's configuration class puts on an argument: gt, ge, lt, le."""
    config_class = getattr(vllm.config, group, None)
    field = getattr(config_class, "__pydantic_fields__", {}).get(FIELDS.get(dest, dest))
    found: dict[str, float] = {}
    for item in field.metadata if field is not None else []:
        for bound in ("gt", "ge", "lt", "le"):
            if (value := getattr(item, bound, None)) is not None:
                found[bound] = value
    return found


def plain(value: Any) -> Any:
    """A default as JSON: sets sorted, enumerations by value, configuration objects by class name only."""
    if isinstance(value, enum.Enum):
        return value.value
    if value is argparse.SUPPRESS:
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if dataclasses.is_dataclass(value):
        return {"object": type(value).__name__}
    if isinstance(value, dict):
        return {key: plain(value[key]) for key in sorted(value)}
    raise Unknown(f"default {value!r}")


if __name__ == "__main__":
    main()
