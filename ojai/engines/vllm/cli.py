"""Tells, without vLLM, whether a release of vLLM would accept a command line.

The flags come from ``vllm-RELEASE.json`` beside this file, a contract a release, which ``tools/contract/extract.py``
wrote from that release's own ``vllm serve`` parser. ``make contract`` holds this module's verdicts against the parsers.

    >>> check(["google/gemma-4-E4B-it", "--max-model-len", "32k"])
    []
    >>> check(["google/gemma-4-E4B-it", "--max-model-len", "long"])
    ["--max-model-len: 'long' is not a number such as 32768 or 32k, nor auto"]
    >>> check(["google/gemma-4-E4B-it", "--linear-backend", "auto"], load("0.33.0"))
    []
"""

from __future__ import annotations

import argparse
import hashlib
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, PrivateAttr

from ojai.engines.vllm.argv import CONVERT, fold_dashes, plain_tokens
from ojai.schema.nearest import nearest

VERSION = "0.20.1"
"""The guides' release: it is meant where none is named."""

RELEASES = tuple(
    sorted(
        (path.stem.removeprefix("vllm-") for path in Path(__file__).parent.glob("vllm-*.json")),
        key=lambda release: tuple(map(int, release.split("."))),
    )
)
"""The releases with a contract, the oldest first."""


class Argument(BaseModel):
    """One argument of ``vllm serve``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flags: tuple[str, ...]
    dest: str
    action: Literal["store", "store_true", "boolean_optional", "append", "lora_modules"]
    nargs: int | str | None
    type: Literal[
        "bool",
        "float",
        "human_int",
        "human_int_or_auto",
        "int",
        "json",
        "json_config",
        "json_object_or_str",
        "lower_underscore",
        "str",
        "str_or_none",
    ]
    choices: tuple[str | int | None, ...] | None
    default: Any
    group: str
    optional: bool = False
    """The values '' and 'None' mean: no value."""
    const: Any = None
    """The value of a flag given without one (``nargs`` is '?')."""
    deprecated: bool = False
    config: str | None = None
    """The vLLM class that the JSON object becomes."""
    keys: tuple[str, ...] = ()
    """The keys that class has; it refuses others."""
    shape: Literal["object", "array"] | None = None
    limits: Mapping[Literal["gt", "ge", "lt", "le"], float] = {}
    """Bounds that vLLM's configuration classes check after parsing."""
    inverses: tuple[str, ...] = ()
    """Flags of a switch that turn it off, beside the ``--no-…`` forms."""
    names: Literal["tool_call_parsers", "reasoning_parsers", "quantization_methods", "kv_cache_dtypes"] | None = None
    """The list of `Contract` the value must be in."""


class Contract(BaseModel):
    """The command line of one vLLM release, from the data file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Command lines that were checked, and what was found: a fleet's hosts have few different ones.
    _checked: dict[tuple[str, ...], list[str]] = PrivateAttr(default_factory=dict)

    vllm: str
    source: str
    syntax: Mapping[str, str]
    positionals: tuple[Argument, ...]
    arguments: tuple[Argument, ...]
    tool_call_parsers: tuple[str, ...]
    reasoning_parsers: tuple[str, ...]
    quantization_methods: tuple[str, ...]
    deprecated_quantization_methods: tuple[str, ...]
    """Refused unless ``--allow-deprecated-quantization`` is given."""
    rocm_quantization_methods: tuple[str, ...]
    """The only methods that vLLM's ROCm platform lets pass."""
    kv_cache_dtypes: tuple[str, ...]
    """Number formats of the KV cache, on whatever hardware."""

    @property
    def flags(self) -> frozenset[str]:
        """Every spelling of every flag, with dashes."""
        return frozenset(flag for argument in self.arguments for flag in argument.flags)

    def __hash__(self) -> int:
        return hash(self.vllm)


# Flags of older releases that guides still show: why newer ones do not know them, and the source.
# Where no pull request is named, the source is the parser itself (`make contract` feeds it each of these).
REMOVED: Mapping[str, str] = {
    "--device": "removed: the build decides; vllm#21349",
    "--disable-log-requests": "removed: request logging is off by default, leave the flag out or write "
    "--no-enable-log-requests; vllm#21739",
    "--enable-reasoning": "removed: --reasoning-parser alone switches it on",
    "--guided-decoding-backend": "removed: --structured-outputs-config.backend",
    "--max-seq-len-to-capture": "removed: --max-cudagraph-capture-size",
    "--num-lookahead-slots": "removed with the V0 engine",
    "--num-scheduler-steps": "removed with the V0 engine",
    "--num-speculative-tokens": "removed: --speculative-config '{\"num_speculative_tokens\": N, …}'; vllm#15466",
    "--override-pooler-config": "removed: --pooler-config",
    "--preemption-mode": "removed with the V0 engine",
    "--rope-scaling": "removed: --hf-overrides",
    "--rope-theta": "removed: --hf-overrides",
    "--speculative-model": 'removed: --speculative-config \'{"model": …, "num_speculative_tokens": N}\'; vllm#15466',
    "--swap-space": "removed: the V1 engine never swaps to the CPU; vllm#36216",
    "--task": "removed: --runner and --convert; vllm#21470",
    "--use-v2-block-manager": "removed with the V0 engine",
    "--worker-use-ray": "removed: --distributed-executor-backend ray",
}


@cache
def load(release: str = VERSION) -> Contract:
    """A release's data file, read once.

    Raises `pydantic.ValidationError` if it does not have the expected form.
    """
    text = Path(__file__).with_name(f"vllm-{release}.json").read_text(encoding="utf-8")
    return Contract.model_validate_json(text)


@cache
def digest(release: str) -> str:
    """The hash (SHA-256) of a release's data file."""
    return hashlib.sha256(Path(__file__).with_name(f"vllm-{release}.json").read_bytes()).hexdigest()


def check(engine_argv: Sequence[str], contract: Contract | None = None) -> list[str]:
    """What vLLM would refuse in a command line, a sentence each; empty when it accepts it.

    ``engine_argv`` is what follows ``vllm serve``: the model, then flags. Stricter than vLLM in four things: the
    model must come first, not as ``--model``; ``--config FILE`` hides flags and is refused; a tool-call parser
    must exist even where ``--enable-auto-tool-choice`` is not given; JSON has the shape its flag needs. Values
    inside a JSON object, and files, are not looked into.
    """
    contract, argv = contract or load(), tuple(engine_argv)
    if argv not in contract._checked:
        contract._checked[argv] = _check(list(argv), contract)
    return list(contract._checked[argv])


def _check(tokens: list[str], contract: Contract) -> list[str]:
    errors: list[str] = []
    if not tokens or tokens[0].startswith("-"):
        errors.append("model: missing; it must be the first argument, without a flag")
    else:
        tokens = tokens[1:]
    for token in tokens:
        if fold_dashes(token).split("=", 1)[0] in ("--model", "--config"):
            errors.append(
                "--model: give the model as the first argument; vLLM will drop this flag"
                if token.startswith("--model")
                else "--config: its file's flags cannot be checked; give them as arguments"
            )
    tokens, error = plain_tokens(tokens)
    if error:
        return [*errors, error]

    parser = _Parser(contract, errors)
    try:
        given, rest = parser.parse_known_args(tokens)
    except _Refused as refused:
        unknown = [token for token in tokens if token.startswith("--") and not _could_mean(token, contract)]
        return [*errors, str(refused), *(_unknown(token, contract) for token in unknown)]
    if given.help:
        errors.append("--help: prints help and ends")
    return [*errors, *_leftovers(tokens, rest, contract), *_together(given, contract)]


def rocm_errors(engine_argv: Sequence[str], contract: Contract | None = None) -> list[str]:
    """What vLLM's parser takes but its ROCm platform refuses at start: a quantization method not on its list.

    Source: ``RocmPlatform.supported_quantization`` and ``ModelConfig._verify_quantization`` of the release.
    """
    contract = contract or load()
    tokens, _ = plain_tokens(list(engine_argv)[1:])
    try:
        given, _ = _Parser(contract, []).parse_known_args(tokens)
    except _Refused:
        return []  # check() reports what is wrong
    allowed = contract.rocm_quantization_methods
    if not given.quantization or given.quantization in allowed:
        return []
    return [
        f"--quantization: vLLM {contract.vllm} refuses {given.quantization!r} on ROCm at start; "
        f"allowed there: {', '.join(allowed)}"
    ]


@dataclass(frozen=True)
class Given:
    """A flag of a command line: as the parser knows it, as it was written out, and its values as text."""

    argument: Argument
    flag: str
    values: tuple[str, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """It as arguments."""
        return (self.flag, *self.values)

    @property
    def off(self) -> bool:
        """Whether it turns a switch off."""
        first, *_ = self.argument.flags
        return self.flag in self.argument.inverses or (self.flag.startswith("--no-") and self.flag != first)


def given(tokens: Sequence[str], contract: Contract | None = None) -> tuple[list[Given], list[str]]:
    """The flags among ``tokens`` (without the model), the last of each, and the words that no flag takes.

    Values are not looked at: see :func:`check`.
    """
    contract = contract or load()
    plain, _ = plain_tokens(tokens)
    record = argparse.Namespace(given=[])
    try:
        _, rest = _recorder(contract).parse_known_args(plain, record)
    except _Refused:
        rest = [token for token in plain if token.startswith("-") and not _could_mean(token, contract)]
    found: list[Given] = record.given
    return found, rest


class _Record(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        argument = self.const  # and the value of a flag that stands without one
        texts = values if isinstance(values, list) else [] if values in (None, argument) else [values]
        if argument.action != "append":
            namespace.given = [one for one in namespace.given if one.argument is not argument]
        namespace.given.append(Given(argument, option_string or argument.flags[0], tuple(texts)))


@cache
def _recorder(contract: Contract) -> argparse.ArgumentParser:
    """A parser that keeps what is given as it is written."""
    parser = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    parser.error = _refuse  # type: ignore[method-assign]
    for argument in contract.arguments:
        nargs = 0 if argument.action in ("boolean_optional", "store_true") else argument.nargs
        parser.add_argument(*argument.flags, dest=argument.dest, action=_Record, nargs=nargs, const=argument)
    return parser


def _refuse(message: str) -> NoReturn:
    raise _Refused(message)


class _Refused(Exception):
    """argparse stopped: its message, with the flag first."""


class _Parser(argparse.ArgumentParser):
    """A parser with vLLM's arguments; values that do not fit are noted in ``errors`` and do not stop it."""

    def __init__(self, contract: Contract, errors: list[str]) -> None:
        super().__init__(add_help=False)
        self.add_argument("-h", "--help", action="store_true")
        for argument in contract.arguments:
            if argument.action == "boolean_optional":  # makes the --no-… forms itself
                positive = [flag for flag in argument.flags if flag not in argument.inverses]
                own = [flag for flag in positive if "--" + flag[len("--no-") :] not in positive]
                self.add_argument(*own, dest=argument.dest, action=argparse.BooleanOptionalAction)
                for flag in argument.inverses:
                    self.add_argument(flag, dest=argument.dest, action="store_false", default=None)
            elif argument.action == "store_true":
                self.add_argument(*argument.flags, dest=argument.dest, action="store_true")
            else:
                self.add_argument(
                    *argument.flags,
                    dest=argument.dest,
                    nargs=argument.nargs,
                    const=argument.const,
                    type=_Reader(argument, errors),
                )

    def error(self, message: str) -> NoReturn:
        """Raise `_Refused` where argparse would end the process."""
        raise _Refused(message.removeprefix("argument "))


class _Reader:
    """Reads one value as vLLM does; argparse calls it for each."""

    def __init__(self, argument: Argument, errors: list[str]) -> None:
        self.argument = argument
        self.errors = errors

    def __call__(self, text: str) -> Any:
        try:
            return read(self.argument, text)
        except ValueError as refused:
            self.errors.append(f"{self.argument.flags[0]}: {refused}")
            return None


def read(argument: Argument, text: str) -> Any:
    """The value ``text`` has for ``argument``. Raises `ValueError`, saying what was expected, if it has none."""
    value = None if argument.optional and text in ("", "None") else CONVERT[argument.type](text)
    if argument.choices is not None and value not in argument.choices:
        raise ValueError(f"{text!r} is not one of {', '.join(map(str, argument.choices))}")
    if value is None:
        return value
    if argument.shape and not isinstance(value, {"object": dict, "array": list}[argument.shape]):
        raise ValueError(f"{text!r} is JSON, but not an {argument.shape}")
    if argument.keys:
        for key in value:
            if key not in argument.keys:
                raise ValueError(f"{argument.config} has no key {key!r}{_nearest(key, argument.keys)}")
    for bound, limit in argument.limits.items():
        if not _WITHIN[bound](value, limit):  # 'not': so that NaN is refused too
            raise ValueError(f"{text} is out of bounds: it must be {_SIGN[bound]} {limit:g}")
    return value


_WITHIN = {"gt": operator.gt, "ge": operator.ge, "lt": operator.lt, "le": operator.le}
_SIGN = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def _could_mean(token: str, contract: Contract) -> bool:
    """Whether argparse finds a flag for this token: whole, or as a beginning."""
    name = token.split("=", 1)[0]
    return any(flag.startswith(name) for flag in contract.flags)


def _nearest(name: str, known: Iterable[str]) -> str:
    near = nearest(name, sorted(known))
    return f"; the nearest is {near}" if near else ""


def _unknown(token: str, contract: Contract) -> str:
    name = token.split("=", 1)[0]
    why = f" ({REMOVED[name]})" if name in REMOVED else ""
    return f"{name}: vLLM {contract.vllm} does not know it{why}{_nearest(name, contract.flags)}"


def _leftovers(tokens: Sequence[str], rest: Sequence[str], contract: Contract) -> list[str]:
    """What argparse could not place: unknown flags (their values go unmentioned) and values nobody takes."""
    errors: list[str] = []
    unknown: set[int] = set()
    start = 0
    for token in rest:
        if token not in tokens[start:]:  # argparse may name one letter of a joined short flag
            errors.append(_unknown(token, contract))
            continue
        index = tokens.index(token, start)
        start = index + 1
        before = tokens[index - 1] if index else ""
        if token.startswith("-"):
            errors.append(_unknown(token, contract))
            unknown.add(index)
        elif index - 1 in unknown:
            unknown.add(index)
        elif before.startswith("-"):
            errors.append(f"{before}: takes no value, but {token!r} follows it")
        else:
            errors.append(f"{token!r}: nothing takes this value" + (f"; it follows {before!r}" if before else ""))
    return errors


def _together(given: argparse.Namespace, contract: Contract) -> list[str]:
    """What vLLM checks once all arguments are read: names in its registries, and flags that need each other."""
    errors: list[str] = []
    if given.enable_auto_tool_choice and not given.tool_call_parser:
        errors.append("--enable-auto-tool-choice: needs --tool-call-parser")
    if given.enable_log_outputs and not given.enable_log_requests:
        errors.append("--enable-log-outputs: needs --enable-log-requests")
    plugins = {"tool_call_parsers": given.tool_parser_plugin, "reasoning_parsers": given.reasoning_parser_plugin}
    for argument in contract.arguments:
        if argument.names is None or plugins.get(argument.names):
            continue  # a plugin may bring the name
        name, names = getattr(given, argument.dest), getattr(contract, argument.names)
        given_at_all = name is not None if argument.names == "kv_cache_dtypes" else name  # else '' means none
        if given_at_all and name not in names:
            errors.append(
                f"{argument.flags[0]}: {name!r} is not one of vLLM {contract.vllm}'s "
                f"{argument.names.replace('_', ' ')}{_nearest(name, names)}"
            )
    if given.quantization in contract.deprecated_quantization_methods and not given.allow_deprecated_quantization:
        errors.append(f"--quantization: {given.quantization!r} is deprecated: --allow-deprecated-quantization")
    for modality, limit in (given.limit_mm_per_prompt or {}).items():
        if not isinstance(limit, dict) and not (isinstance(limit, int) and limit >= 0):
            errors.append(f"--limit-mm-per-prompt: {modality}: {limit!r} is not a count (0 or more)")
    return errors
