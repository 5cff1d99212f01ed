"""Files and folders: text, owner and mode."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pyinfra.api import FactBase

from ojai.facts import Lines, Yes, script
from ojai.paths import SECRETS


def _regular(file: str, then: str) -> str:
    """Shell: owner, group and mode of a regular file, quoted, and what follows. A link counts as none."""
    return f"if test -f {file} && ! test -L {file}; then stat -c '%U %G %a' {file}{then}; fi"


@dataclass(frozen=True)
class File:
    """A regular file. ``mode`` is octal digits as a string (``"644"``)."""

    text: str
    user: str
    group: str
    mode: str


class SmallFile(FactBase[File | None]):
    """The :class:`File` at ``path``; None without one. A link counts as none: only a file can be ours."""

    def command(self, path: str) -> str:
        """Owner and mode, then the content in base64, so that it cannot be mistaken for the first line."""
        file = shlex.quote(path)
        return _regular(file, f" && base64 -w 0 {file}")

    def process(self, output: list[str]) -> File:
        """Read the answer."""
        user, group, mode = output[0].split()
        text = base64.b64decode("".join(output[1:])).decode(errors="surrogateescape")
        return File(text=text, user=user, group=group, mode=mode)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return dict(pairs)


def read_object(text: str) -> tuple[dict[str, Any], str]:
    """The JSON object in a file's ``text``, and what is wrong with it (then the object is empty).

    A key that is there twice is wrong too: the first one would be lost when the file is written.
    """
    if not text.strip():
        return {}, ""
    try:
        value = json.loads(text, object_pairs_hook=_pairs)
    except ValueError as error:
        return {}, f"a file that is not plain JSON ({error})"
    return (value, "") if isinstance(value, dict) else ({}, f"a JSON {type(value).__name__}")


#: A shell function for a file that others write too. ``unsafe PATH``: why root must not write there, if it must not.
#: Whoever owns a folder on the way, or may write to it, could have root write anywhere.
SHARED = r"""
unsafe() {
  if [ -d "$1" ]; then echo "a folder"; return; fi
  [ -L "$1" ] || return
  end=$(readlink -f "$1") && [ -f "$end" ] || { echo "a link to $(readlink "$1"), where no file is"; return; }
  above=$end
  while :; do
    mode=$(stat -c %a "$above")
    if [ "$(stat -c %u "$above")" != 0 ] || [ $((0$mode & 022)) != 0 ]; then
      echo "a link to $end, where $above belongs to $(stat -c %U "$above") with mode $mode"; return
    fi
    [ "$above" != / ] || return
    above=$(dirname "$above")
  done
}
"""
#: Another: ``end_of PATH``: where its links end.
END_OF = r"""
end_of() { if [ -L "$1" ]; then readlink -f "$1" || printf '%s\n' "$1"; else printf '%s\n' "$1"; fi; }
"""


@dataclass(frozen=True)
class Place:
    """Where a file that others write too really is: ``path``, the end of its links; ``unsafe``: why not to write."""

    path: str = ""
    unsafe: str = ""


class SharedPlace(FactBase[Place]):
    """The :class:`Place` of the file at ``path``.

    A link is followed if only root can change what it points at, and every folder on the way.
    """

    @staticmethod
    def default() -> Place:
        """No answer: where it is said to be."""
        return Place()

    def command(self, path: str) -> str:
        """Two lines: where it is, and the reason, which is empty if there is none."""
        return script(f'{SHARED}{END_OF}end_of "$path"; printf "%s\\n" "$(unsafe "$path")"', path=path)

    def process(self, output: list[str]) -> Place:
        """Read the lines."""
        return Place(*output[:2])


@dataclass(frozen=True)
class Secrets:
    """An environment file without its content. ``sums``: name -> SHA-256 of all the lines that set it."""

    user: str
    group: str
    mode: str
    sums: dict[str, str]


class SecretFile(FactBase[Secrets | None]):
    """The :class:`Secrets` in a regular file; None without one.

    The content stays on the host, because pyinfra prints the output of a fact with ``-vvv``.

    + path: the file
    + names: variables whose sums are read
    """

    def command(self, path: str, names: tuple[str, ...]) -> str:
        """Owner and mode, then a line with the sum for each name."""
        file = shlex.quote(path)
        sums = "".join(
            f" && printf '%s %s\\n' {shlex.quote(name)} "
            f'"$({{ LC_ALL=C grep -aE {shlex.quote(setting([name]))} {file} || true; }} | sha256sum)"'
            for name in names
        )
        return _regular(file, sums)

    def process(self, output: list[str]) -> Secrets:
        """Read the answer."""
        user, group, mode = output[0].split()
        return Secrets(user, group, mode, {name: digest for name, digest, *_ in map(str.split, output[1:])})


@dataclass(frozen=True)
class Closed:
    """A file whose content stays on the host: ``sum`` is its SHA-256."""

    user: str
    group: str
    mode: str
    sum: str


class ClosedFile(FactBase[Closed | None]):
    """The :class:`Closed` at ``path``, if it is a regular file; None without one."""

    def command(self, path: str) -> str:
        """Owner, mode and sum."""
        file = shlex.quote(path)
        return _regular(file, f" && sha256sum < {file}")

    def process(self, output: list[str]) -> Closed:
        """Read the two lines."""
        user, group, mode = output[0].split()
        return Closed(user, group, mode, output[1].split()[0])


class SecretFiles(Lines):
    """The secrets of services that are files of their own."""

    def command(self) -> str:
        """A line for each."""
        return f"find {SECRETS}/*.secrets -mindepth 1 -maxdepth 1 -type f 2>/dev/null | sort"


def setting(names: Iterable[str]) -> str:
    """Extended regular expression for the lines of an environment file that set one of ``names``."""
    return f"^[[:space:]]*({'|'.join(names)})[[:space:]]*(=|$)"


class Existing(Lines):
    """Those of ``paths`` that exist, dangling links included."""

    def command(self, paths: tuple[str, ...]) -> str:
        """One line for each that exists."""
        there = '[ -e "$path" ] || [ -L "$path" ]'
        return f'for path in {shlex.join(paths)}; do if {there}; then printf "%s\\n" "$path"; fi; done'


@dataclass(frozen=True)
class Entry:
    """What is at a path: its ``kind`` as stat names it (``directory``, ``symbolic link``, …), owner and mode."""

    kind: str
    user: str
    group: str
    mode: str


class Places(FactBase[dict[str, Entry]]):
    """Path -> :class:`Entry`, for those of ``paths`` that exist. Links are not followed."""

    @staticmethod
    def default() -> dict[str, Entry]:
        """Nothing there."""
        return {}

    def command(self, paths: tuple[str, ...]) -> str:
        """``stat``, which does not follow links."""
        return f"LC_ALL=C stat -c '%U:%G:%a:%F:%n' {shlex.join(paths)} 2>/dev/null || true"

    def process(self, output: list[str]) -> dict[str, Entry]:
        """Read the answer."""
        found = {}
        for line in output:
            user, group, mode, kind, path = line.split(":", 4)
            found[path] = Entry(kind=kind, user=user, group=group, mode=mode)
        return found


class EmptyFolder(Yes):
    """Whether there is an empty folder at ``path``."""

    def command(self, path: str) -> str:
        """Prints ``yes`` for an empty folder."""
        place = shlex.quote(path)
        return f'if test -d {place} && test -z "$(ls -A {place})"; then echo yes; fi'


class NewerThan(Yes):
    """Whether a file exists, is newer than its inputs, and is sound.

    + path: the file
    + inputs: files; those that do not exist do not count
    + sound: shell that succeeds if the file is sound
    """

    def command(self, path: str, inputs: tuple[str, ...], sound: str = "true") -> str:
        """Prints ``yes`` if it is."""
        file = shlex.quote(path)
        older = " && ".join(f"! test {shlex.quote(name)} -nt {file}" for name in inputs)
        return f"if test -e {file} && {older} && ( {sound} ) >/dev/null 2>&1; then echo yes; fi"
