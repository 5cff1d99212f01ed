"""From pydantic's errors to what a person reads: where, what was found, what is expected, the nearest known name."""

from __future__ import annotations

import datetime
import difflib
import re
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from ojai.schema.expected import allowed, kinds, models, phrase

Path = tuple[str | int, ...]

#: A fault that a model found by itself may begin with the place it means: ``services[0].port: …``.
_PLACE = re.compile(r"(?P<place>[a-z_]\w*(?:\[\d+\]|\.\w+)*)(?P<who> \([^)]*\))?: (?P<text>.*)", re.DOTALL)
_STEP = re.compile(r"\w+")
_LONGEST = 80

#: Where a reader finds every setting.
SEE = "docs/reference/settings.md lists them all"


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: ``path`` to the value, ``text`` with the rest.

    ``contradiction``: no value is wrong by itself, but two of them together are. ``who``: a name for the place
    that says more than the path, such as a service's.
    """

    path: Path
    text: str
    contradiction: bool = False
    who: str = ""

    def __str__(self) -> str:
        place = location(self.path) + (f" ({self.who})" if self.who else "")
        return f"{place}: {self.text}" if place else self.text


def location(path: Path) -> str:
    """A path as a person writes it: ``services[0].port``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant, if one is near."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)), None)


def shown(value: Any) -> str:
    """A value as found, cut where it is long."""
    if value is None:
        text = "nothing (null)"
    elif isinstance(value, bool):
        text = "true" if value else "false"
    else:
        text = value.isoformat() if isinstance(value, datetime.date) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def faults_of(error: ValidationError, model: type[BaseModel], data: Any) -> list[Fault]:
    """Every fault in ``error``, which came of giving ``data`` to ``model``."""
    found: dict[Path, list[Any]] = {}
    faults: list[Fault] = []
    for one in error.errors(include_url=False):
        path = _path(one, data)
        if one["type"] == "value_error" and isinstance(one["input"], Mapping):
            message = one["msg"].removeprefix("Value error, ")
            name, _, text = message.partition(": ")
            if name in one["input"] and _mapping(path, model):
                faults.append(Fault((*path, name), text))
            else:
                faults += _contradictions(path, message)
        else:
            found.setdefault(path, []).append(one)
    # A union tells of each of its kinds; where one of them got further into the value, the others are noise.
    for path, ones in found.items():
        if any(other[: len(path)] == path and len(other) > len(path) for other in found) and _union(path, model):
            continue
        faults.append(Fault(path, _text(path, ones, model)))
    return faults


def _path(one: Any, data: Any) -> Path:
    """The error's place in ``data``: pydantic's own also names the kinds of a union."""
    path: list[str | int] = []
    value = data
    last = len(one["loc"]) - 1
    for position, part in enumerate(one["loc"]):
        inside = (isinstance(value, Mapping) and part in value) or (
            isinstance(value, Sequence) and isinstance(part, int) and part < len(value)
        )
        if inside:
            path.append(part)
            value = value[part]
        elif position == last and one["type"] == "missing":
            path.append(part)
    return tuple(path)


def _contradictions(path: Path, message: str) -> Iterator[Fault]:
    for line in message.splitlines():
        place = _PLACE.fullmatch(line)
        if place is None:
            yield Fault(path, line, contradiction=True)
            continue
        steps: Path = tuple(int(step) if step.isdigit() else step for step in _STEP.findall(place["place"]))
        yield Fault((*path, *steps), place["text"], contradiction=True, who=(place["who"] or "").strip(" ()"))


def _field(path: Path, model: type[BaseModel]) -> tuple[type[BaseModel], FieldInfo | None, int]:
    """The innermost model on ``path``, the field of it that the path goes through, and how far it then goes on."""
    field: FieldInfo | None = None
    beyond = 0
    for part in path:
        if isinstance(part, int):
            beyond += 1
            continue
        inner = next(models(field.annotation), None) if field else model
        if inner is not None and part in inner.model_fields:
            model, field, beyond = inner, inner.model_fields[part], 0
        else:
            model, beyond = inner or model, beyond + 1
    return model, field, beyond


def _union(path: Path, model: type[BaseModel]) -> bool:
    _, field, beyond = _field(path, model)
    return field is not None and beyond == 0 and len(kinds(field.annotation) - {type(None)}) > 1


def _mapping(path: Path, model: type[BaseModel]) -> bool:
    """Whether a place holds names of the user's own, as `sysctl` does, and no settings."""
    _, field, beyond = _field(path, model)
    return field is not None and beyond == 0 and dict in kinds(field.annotation)


def _text(path: Path, ones: list[Any], model: type[BaseModel]) -> str:
    one = ones[0]
    if one["type"] == "extra_forbidden":
        return _unknown(path, model)
    _, field, beyond = _field(path, model)
    if one["type"] == "missing":
        return f"is missing; expected {allowed(field) if field else 'a value'}"
    if one["type"] in ("value_error", "assertion_error"):
        message = one["msg"].removeprefix("Value error, ")
        lines = [message[0].lower() + message[1:]] if message else []
        said = "; ".join(line for text in lines for line in text.splitlines())
        if field and not re.search(r"\b(expected|known|write|put)\b", said):
            said += f"; expected {_inner(field, beyond)}"
        return (
            said if said.startswith("found ") or repr(one["input"]) in said else f"found {shown(one['input'])}; {said}"
        )
    if one["loc"] and one["loc"][-1] == "[key]":
        return f"found the name {one['input']!r}; expected {_inner(field, 1, key=True)}"
    expected = _inner(field, beyond) if field else one["msg"]
    text = f"found {shown(one['input'])}; expected {expected}"
    if isinstance(one["input"], str) and (near := nearest(one["input"], _literals(one))):
        return f"{text}; the nearest is {near}"
    if one["type"] == "string_type" and isinstance(one["input"], int | float):
        return f"{text}; put it in quotes"
    if one["type"] == "tuple_type" and isinstance(one["input"], str):
        return f"{text}; write [{one['input']}]"
    if one["type"] == "model_type" and one["input"] is None:
        return f"{text}; an empty entry is `{{}}`"
    return text


def _literals(one: Any) -> list[str]:
    return re.findall(r"'([^']*)'", str(one.get("ctx", {}).get("expected", "")))


def _inner(field: FieldInfo | None, depth: int, *, key: bool = False) -> str:
    """What is expected ``depth`` levels inside a field: of a list's entries, of a mapping's names or values."""
    if field is None:
        return "something else"
    if depth == 0:
        return allowed(field)
    for kind in _containers(field.annotation):
        arguments = typing.get_args(kind)
        return phrase(arguments[1] if typing.get_origin(kind) is dict and not key else arguments[0])
    return allowed(field)


def _containers(annotation: Any) -> Iterator[Any]:
    if typing.get_origin(annotation) in (tuple, dict):
        yield annotation
        return
    for argument in typing.get_args(annotation):
        yield from _containers(argument)


def _unknown(path: Path, model: type[BaseModel]) -> str:
    name = str(path[-1])
    here, _, _ = _field(path, model)
    if near := nearest(name, here.model_fields):
        return f"no such setting; the nearest is {near}"
    if here is not model and (near := nearest(name, model.model_fields)):
        return f"no such setting here; the host has {near}, at the top"
    for field, info in model.model_fields.items():
        for inner in models(info.annotation):
            if inner is not here and (near := nearest(name, inner.model_fields)):
                return f"no such setting here; an entry of {field} has {near}"
    few = len(here.model_fields) < 4
    return f"no such setting; {'known: ' + ', '.join(here.model_fields) if few else SEE}"
