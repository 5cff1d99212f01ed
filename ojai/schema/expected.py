"""What a setting may be, as a phrase: one for the error, the reference page and the schema.

The phrase is read from the declaration (type, bounds, choices). Two marks help where a type does not tell:

    Name = Annotated[str, Field(pattern=r"^[a-z]+$"), Expected("lower-case letters")]
    profile: Annotated[str, Choice(profiles.names)]
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union

import annotated_types
from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


@dataclass(frozen=True)
class Expected:
    """The phrase itself: for patterns, and for values that are converted."""

    text: str


@dataclass(frozen=True)
class Choice:
    """Names that are only known at run time, such as the files in a folder."""

    names: Callable[[], Iterable[str]]

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The schema with the names that there are now."""
        found = handler(schema)
        text = next((part for part in found.get("anyOf", []) if part.get("type") == "string"), found)
        text["enum"] = list(self.names())
        return found


def allowed(field: FieldInfo) -> str:
    """The phrase for a declared setting: "a whole number from 1 to 65535"."""
    return phrase(field.annotation, tuple(field.metadata))


def phrase(annotation: Any, metadata: tuple[Any, ...] = ()) -> str:
    """The phrase for a type with its metadata."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return phrase(arguments[0], (*metadata, *_flat(arguments[1:])))
    text = next((mark.text for mark in reversed(metadata) if isinstance(mark, Expected)), None)
    if text:
        return text + _bounds(metadata)
    choice = next((mark for mark in metadata if isinstance(mark, Choice)), None)
    if choice:
        return f"one of {', '.join(choice.names())}"
    if origin in (Union, types.UnionType):
        kinds = [kind for kind in arguments if kind is not type(None)]
        return " or ".join(dict.fromkeys(phrase(kind, metadata) for kind in kinds))
    if origin is Literal:
        return f"one of {', '.join(str(value) for value in arguments)}"
    if origin is tuple:
        return f"a list, each entry {phrase(arguments[0])}"
    if origin is dict:
        return f"a mapping of {phrase(arguments[0])} to {phrase(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        names = list(annotation.model_fields)
        return f"a mapping with {' and '.join(names)}" if len(names) < 4 else "a mapping of settings"
    return _plain(annotation, metadata)


def kinds(annotation: Any) -> set[Any]:
    """The plain types that an annotation admits, unions and ``Annotated`` taken apart."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return kinds(arguments[0])
    if origin in (Union, types.UnionType):
        return set().union(*(kinds(kind) for kind in arguments))
    return {origin or annotation}


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models anywhere within an annotation: ``Service`` in ``tuple[Service, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from models(argument)


def _flat(metadata: Iterable[Any]) -> Iterator[Any]:
    for mark in metadata:
        if isinstance(mark, FieldInfo):
            yield from mark.metadata
        else:
            yield mark


def _plain(annotation: Any, metadata: tuple[Any, ...]) -> str:
    if annotation is bool:
        return "true or false"
    if annotation is int:
        return f"a whole number{_bounds(metadata)}"
    if annotation is float:
        return f"a number{_bounds(metadata)}"
    if annotation is str:
        pattern = next((found for mark in metadata if (found := getattr(mark, "pattern", None))), None)
        if pattern:
            return f"text that matches {pattern}"
        return "text" + (", not empty" if any(isinstance(mark, annotated_types.MinLen) for mark in metadata) else "")
    return str(getattr(annotation, "__name__", annotation))


def _bounds(metadata: tuple[Any, ...]) -> str:
    found: dict[type, Any] = {}
    for mark in metadata:
        for kind, name in (
            (annotated_types.Ge, "ge"),
            (annotated_types.Gt, "gt"),
            (annotated_types.Le, "le"),
            (annotated_types.Lt, "lt"),
        ):
            if isinstance(mark, kind):
                found[kind] = getattr(mark, name)
    least, above = found.get(annotated_types.Ge), found.get(annotated_types.Gt)
    most, below = found.get(annotated_types.Le), found.get(annotated_types.Lt)
    if least is not None and most is not None and found.keys() == {annotated_types.Ge, annotated_types.Le}:
        return f" from {least} to {most}"
    low = f"at least {least}" if least is not None else f"above {above}" if above is not None else ""
    high = f"at most {most}" if most is not None else f"below {below}" if below is not None else ""
    step = next((f"a multiple of {m.multiple_of}" for m in metadata if isinstance(m, annotated_types.MultipleOf)), "")
    bounds = " and ".join(part for part in (step, low, high) if part)
    return f", {bounds}" if bounds else ""
