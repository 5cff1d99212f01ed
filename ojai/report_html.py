"""A report as one HTML file that needs nothing else: sections of text, tables and bars, for wide and narrow windows.

It knows nothing of what it shows. `ojai bench`, `ojai verify`, `ojai status` and `ojai rollout` make their pages of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

from jinja2 import Environment, Template
from markupsafe import Markup

from ojai import resources

#: How a value is to be taken: green, red, yellow, or as it is.
State = Literal["ok", "bad", "note", "plain"]


@dataclass(frozen=True)
class Value:
    """A value of a table."""

    text: str
    state: State = "plain"


@dataclass(frozen=True)
class Table:
    """Rows under a head; plain text is a :class:`Value` without a state."""

    head: tuple[str, ...]
    rows: tuple[tuple[Value | str, ...], ...]
    caption: str = ""
    kind: Literal["table"] = field(default="table", init=False)


@dataclass(frozen=True)
class Bar:
    """A bar from 0 to ``value``, with the range of its measurements."""

    label: str
    value: float
    text: str
    low: float | None = None
    high: float | None = None
    state: State = "plain"


@dataclass(frozen=True)
class Zone:
    """A part of the scale, behind the bars."""

    label: str
    start: float
    end: float | None
    state: State = "plain"


@dataclass(frozen=True)
class Bars:
    """Bars on one scale."""

    title: str
    bars: tuple[Bar, ...]
    zones: tuple[Zone, ...] = ()
    kind: Literal["bars"] = field(default="bars", init=False)

    @property
    def scale(self) -> float:
        """Where the scale ends."""
        ends = [value for bar in self.bars for value in (bar.value, bar.high or 0.0)]
        ends += [zone.start for zone in self.zones]
        return max(ends, default=0.0) * 1.03 or 1.0

    def place(self, value: float | None) -> float:
        """A value in percent of the scale; None is its end."""
        return 100.0 if value is None else max(0.0, min(100.0, value / self.scale * 100))


@dataclass(frozen=True)
class Note:
    """A matter with what is to be said of it: a line, and points below it."""

    title: str
    text: str
    points: tuple[str, ...] = ()
    state: State = "plain"
    kind: Literal["note"] = field(default="note", init=False)


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    title: str
    blocks: tuple[Table | Bars | Note, ...] = ()
    text: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """The whole report. ``verdict``: the one line that a reader wants first."""

    title: str
    verdict: Value
    sections: tuple[Section, ...]
    about: tuple[tuple[str, str], ...] = ()
    foot: str = ""


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["code"] = _code
    return environment.from_string(resources.text("report.html.j2"))


def _code(text: str) -> Markup:
    """Text whose parts between backquotes are code."""
    parts = re.split(r"`([^`]+)`", text)  # every other one was between backquotes
    return Markup("").join(
        Markup("<code>{}</code>" if place % 2 else "{}").format(part) for place, part in enumerate(parts)
    )


def render(page: Page) -> str:
    """The page as HTML."""
    return _template().render(page=page)
