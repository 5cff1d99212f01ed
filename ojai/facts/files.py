"""Whole files, small ones: their text, owner and mode."""

from __future__ import annotations

import base64
import shlex
from dataclasses import dataclass

from pyinfra.api import FactBase


@dataclass(frozen=True)
class File:
    """A regular file. ``mode`` is octal digits as a string (``"644"``)."""

    text: str
    user: str
    group: str
    mode: str


class SmallFile(FactBase[File | None]):
    """A :class:`File`, or None where there is none. Links count as absent: what is owned is a file."""

    @staticmethod
    def default() -> File | None:
        """No file."""
        return None

    def command(self, path: str) -> str:
        """Owner and mode, then the content in base64, so that no byte of it can be taken for an answer of ours."""
        file = shlex.quote(path)
        return f"if test -f {file} && ! test -L {file}; then stat -c '%U %G %a' {file} && base64 -w 0 {file}; fi"

    def process(self, output: list[str]) -> File:
        """Read the answer."""
        user, group, mode = output[0].split()
        text = base64.b64decode("".join(output[1:])).decode(errors="surrogateescape")
        return File(text=text, user=user, group=group, mode=mode)


class Existing(FactBase[tuple[str, ...]]):
    """Those of ``paths`` that exist, dangling links included."""

    @staticmethod
    def default() -> tuple[str, ...]:
        """None of them."""
        return ()

    def command(self, paths: tuple[str, ...]) -> str:
        """One line for each that is there."""
        return f'for path in {shlex.join(paths)}; do ! [ -e "$path" -o -L "$path" ] || printf "%s\\n" "$path"; done'

    def process(self, output: list[str]) -> tuple[str, ...]:
        """The lines."""
        return tuple(output)


@dataclass(frozen=True)
class Entry:
    """What is at a path: ``kind`` as stat names it (``directory``, ``symbolic link``, …), owner and mode."""

    kind: str
    user: str
    group: str
    mode: str


class Place(FactBase[Entry | None]):
    """The :class:`Entry` at ``path`` itself (links are not followed), or None."""

    @staticmethod
    def default() -> Entry | None:
        """Nothing there."""
        return None

    def command(self, path: str) -> str:
        """``stat`` of the thing itself."""
        place = shlex.quote(path)
        return f"! [ -e {place} -o -L {place} ] || stat -c '%U:%G:%a:%F' {place}"

    def process(self, output: list[str]) -> Entry:
        """Read the answer."""
        user, group, mode, kind = output[0].split(":", 3)
        return Entry(kind=kind, user=user, group=group, mode=mode)
