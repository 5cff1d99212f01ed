"""Validation errors: where, what was found, what is expected, the nearest known name. One wording for all of them."""

from __future__ import annotations

import datetime
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ValidationError, ValidationInfo
from pydantic.fields import FieldInfo

from ojai.schema.expected import allowed, kinds, models, phrase
from ojai.schema.nearest import nearest

Path = tuple[str | int, ...]

_LONGEST = 80

#: User and password in an address, with or without its scheme.
_LOGIN = re.compile(r"//[^/@\s]*@|[^/@\s'\"]*:[^/@\s'\"]+@")


@dataclass(frozen=True)
class FieldError:
    """One error: the ``path`` to the value and the ``text`` that follows it.

    ``contradiction``: no value is wrong by itself, but two of them together are. ``label``: a name for the place
    that is clearer than the path, such as a service's.
    """

    path: Path
    text: str
    contradiction: bool = False
    label: str = ""

    def __str__(self) -> str:
        place = location(self.path) + (f" ({self.label})" if self.label else "")
        return f"{place}: {self.text}" if place else self.text

    def under(self, path: Path) -> FieldError:
        """The same error, seen from a model that has this one's at ``path``."""
        return replace(self, path=(*path, *self.path))


class FieldErrors(ValueError):
    """Errors that a validator found by itself; the paths begin at the value that it looks at.

    The text of a plain ``ValueError`` is completed with the value that was found and what is expected instead.
    """

    def __init__(self, *errors: FieldError) -> None:
        self.errors = errors
        super().__init__("\n".join(map(str, errors)))


def complete(text: str) -> FieldErrors:
    """Raised by a validator for its own value, with the complete text."""
    return FieldErrors(FieldError((), text))


def contradiction(field: str, text: str) -> FieldErrors:
    """Raised by a validator for a field that contradicts another."""
    return FieldErrors(FieldError((field,), text, contradiction=True))


def location(path: Path) -> str:
    """A path as a person writes it: ``services[0].port``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return _LOGIN.sub(_unseen, text)


def _unseen(login: re.Match[str]) -> str:
    return "//…@" if login[0].startswith("//") else "…@"


def shown(value: Any) -> str:
    """A value as found, cut where it is long, without the login in an address."""
    if value is None:
        text = "nothing (null)"
    elif isinstance(value, bool):
        text = "true" if value else "false"
    else:
        text = value.isoformat() if isinstance(value, datetime.date) else _LOGIN.sub(_unseen, repr(value))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def refuse_flag_for_number(cls: type[BaseModel], value: Any, info: ValidationInfo) -> Any:
    """A validator for every field: YAML's true is not a number, although Python takes it for 1."""
    field = cls.model_fields[str(info.field_name)]
    if isinstance(value, bool) and not kinds(field.annotation) & {bool, Any}:
        raise complete(f"found {shown(value)}; expected {allowed(field)}")
    return value


def field_errors(
    error: ValidationError,
    model: type[BaseModel],
    data: Any,
    *,
    listed: str = "`ojai settings`",
    renamed: Mapping[str, str] | None = None,
) -> list[FieldError]:
    """Every error in ``error``, which came of giving ``data`` to ``model``.

    ``listed``: what lists all names. ``renamed``: old to new names, as paths without positions
    (``services.port``).
    """
    found: dict[Path, list[Any]] = {}
    errors: list[FieldError] = []
    for one in error.errors(include_url=False):
        path = _path(one, data)
        raised = one.get("ctx", {}).get("error")
        if isinstance(raised, FieldErrors):
            errors += [inner.under(path) for inner in raised.errors]
        elif raised is not None and isinstance(one["input"], Mapping):
            errors.append(FieldError(path, str(raised), contradiction=True))
        else:
            found.setdefault(path, []).append(one)
    # A union reports an error for each of its types; where one type got further into the value, the others are noise.
    for path, ones in found.items():
        if any(other[: len(path)] == path and len(other) > len(path) for other in found) and _union(path, model):
            continue
        old = ".".join(str(part) for part in path if isinstance(part, str))
        if ones[0]["type"] != "extra_forbidden":
            text = _text(ones[0], path, model)
        elif renamed and old in renamed:
            text = f"was renamed; write {renamed[old].rpartition('.')[2]}"
        else:
            text = _unknown(path, model, listed)
        errors.append(FieldError(path, text))
    return errors


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


def _text(one: Any, path: Path, model: type[BaseModel]) -> str:
    _, field, beyond = _field(path, model)
    if one["type"] == "missing":
        return f"is missing; expected {allowed(field) if field else 'a value'}"
    if one["type"] == "value_error":
        reason = str(one["ctx"]["error"])
        text = f"{reason[:1].lower()}{reason[1:]}; expected {_inner(field, beyond)}"
        return text if repr(one["input"]) in text else f"found {shown(one['input'])}; {text}"
    if one["loc"] and one["loc"][-1] == "[key]":
        return f"found the name {shown(one['input'])}; expected {_inner(field, 1, key=True)}"
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


def _unknown(path: Path, model: type[BaseModel], listed: str) -> str:
    name = str(path[-1])
    here, _, _ = _field(path, model)
    at_top = nearest(name, model.model_fields) if here is not model else None
    in_entries = {
        near: field
        for field, info in model.model_fields.items()
        for inner in models(info.annotation)
        if inner is not here and (near := nearest(name, inner.model_fields))
    }
    if name not in (at_top, *in_entries) and (near := nearest(name, here.model_fields)):
        return f"no such setting; the nearest is {near}"
    if at_top:
        return f"no such setting here; {at_top} belongs at the top level"
    for near, field in in_entries.items():
        return f"no such setting here; an entry of {field} has {near}"
    few = len(here.model_fields) < 4
    return f"no such setting; {'known: ' + ', '.join(here.model_fields) if few else f'{listed} lists them all'}"
