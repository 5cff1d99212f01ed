"""How vLLM reads its command line, before and after argparse.

Written from the behaviour of ``vllm.utils.argparse_utils`` and ``vllm.engine.arg_utils`` of the contracts' releases;
``make contract`` compares the two.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_DECIMAL = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SUFFIXED = re.compile(r"(\d+(?:\.\d+)?)([kKmMgGtT])")
_BARE_SUFFIXED = re.compile(r"\b\d+(?:\.\d+)?[kKmMgGtT]\b")
_QUOTED = re.compile(r'("(?:[^"\\]|\\.)*")')


def fold_dashes(token: str) -> str:
    """The token with ``_`` as ``-`` in a long flag's name: not after the first ``.``, nor in a value after ``=``."""
    if not token.startswith("--"):
        return token
    name, equals, value = token.partition("=")
    head, dot, keys = name.partition(".")
    return head.replace("_", "-") + dot + keys + equals + value


def plain_tokens(tokens: Sequence[str]) -> tuple[list[str], str | None]:
    """The tokens as argparse gets them, and an error, if vLLM stops before that.

    Folds ``_``, spells ``-O2`` out, and joins ``--flag.key value`` into one JSON object a flag, put last.
    """
    plain: list[str] = []
    objects: dict[str, dict[str, Any]] = {}
    spelt = _spell_out(tokens)
    skip = False
    for index, token in enumerate(spelt):
        if skip:
            skip = False
            continue
        name, equals, value = token.partition("=")
        if not (token.startswith("-") and "." in name):
            plain.append(token)
            continue
        if not equals:
            if index + 1 == len(spelt):
                return plain, f"{name}: expected one argument"
            value, skip = spelt[index + 1], True
        if name.endswith("+"):
            name, value = name.removesuffix("+"), json.dumps(value.split(","))
        flag, *keys = name.split(".")
        _merge(objects.setdefault(flag, {}), _nest(keys, _guess(value)))
    for flag, joined in objects.items():
        plain += [flag, json.dumps(joined)]
    return plain, None


def human_int(text: str) -> int:
    """``32768``, ``32k`` (1000s), ``32K`` (1024s), ``25.6k``; also m, g, t and M, G, T.

    Raises `ValueError`; fractions are for the small letters only.
    """
    if match := _SUFFIXED.fullmatch(text.strip()):
        number, suffix = match.groups()
        if suffix in _DECIMAL:
            return int(float(number) * _DECIMAL[suffix])
        if "." in number:
            raise ValueError(f"{text!r} has a fraction with a power-of-two suffix: write {text.lower()}")
        return int(number) * _BINARY[suffix]
    return int(_number(int, text, "a number such as 32768 or 32k"))


def human_int_or_auto(text: str) -> int:
    """As `human_int`; ``auto`` is -1."""
    if text.strip() == "-1" or text.strip().lower() == "auto":
        return -1
    try:
        return human_int(text)
    except ValueError as refused:
        raise ValueError(f"{refused}, nor auto" if "is not" in str(refused) else str(refused)) from None


def json_value(text: str) -> Any:
    """Any JSON. Raises `ValueError` with the place of the error."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as broken:
        raise ValueError(f"{text!r} is not JSON ({broken.msg}, column {broken.colno})") from None


def json_config(text: str) -> Any:
    """A JSON object, in which bare numbers may have a suffix (``{"a": 80m}``)."""
    parts = _QUOTED.split(text)
    parts[::2] = [_BARE_SUFFIXED.sub(lambda m: str(human_int(m.group())), part) for part in parts[::2]]
    value = json_value("".join(parts))
    if not isinstance(value, dict):
        raise ValueError(f"{text!r} is not a JSON object")
    return value


def json_object_or_str(text: str) -> Any:
    """JSON where the text is in braces, else the text."""
    return json_value(text) if re.fullmatch(r"\s*{.*}\s*", text, re.DOTALL) else text


CONVERT: Mapping[str, Callable[[str], Any]] = {
    "float": lambda text: _number(float, text, "a number"),
    "human_int": human_int,
    "human_int_or_auto": human_int_or_auto,
    "int": lambda text: _number(int, text, "a whole number"),
    "json": json_value,
    "json_config": json_config,
    "json_object_or_str": json_object_or_str,
    "lower_underscore": lambda text: text.lower().replace("-", "_"),
    "str": str,
    "str_or_none": lambda text: "" if text.lower() == "none" else text,
}
"""Type names of the data file to what makes a value of a text; each raises `ValueError`, saying what was expected."""


def _number(kind: Callable[[str], Any], text: str, expected: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{text!r} is not {expected}") from None


def _spell_out(tokens: Sequence[str]) -> list[str]:
    spelt: list[str] = []
    for index, token in enumerate(tokens):
        if token == "-O" and index + 1 < len(tokens) and tokens[index + 1] in {"0", "1", "2", "3"}:
            spelt.append("--optimization-level")
        elif token.startswith("-O") and token != "-O":
            spelt += ["--optimization-level", token[3:] if token[2] == "=" else token[2:]]
        else:
            spelt.append(fold_dashes(token))
    return spelt


def _guess(text: str) -> Any:
    for kind in (json.loads, human_int):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _nest(keys: Sequence[str], value: Any) -> Any:
    for key in reversed(keys):
        value = {key: value}
    return value


def _merge(into: dict[str, Any], other: Mapping[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        elif isinstance(value, list) and isinstance(into.get(key), list):
            into[key] += value
        else:
            into[key] = value
