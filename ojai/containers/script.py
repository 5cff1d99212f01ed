"""Containers from a text with ``docker run`` in it: a line, a script, a unit, a page of a guide.

Only what a shell would know without running anything: quotes, continued lines, comments, and variables that are given
a value above the command. ``$HOME`` and ``$(…)`` stay as they are.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from ojai.containers import Container, UnreadableError, is_secret
from ojai.containers.command_line import container

_RUN = re.compile(
    r"(?:^|[;&|]|\bthen\b|\bdo\b)[ \t]*(?:\w+=\"?\$\(|ExecStart=[-+!@:]*)?[ \t]*"
    r"(?:(?:sudo|exec|nohup|time|setsid|env|-\w+|\w+=\S*)[ \t]+)*(?:\S*/)?docker(?:\s+container)?\s+run(?=[\s\\])",
    re.MULTILINE,
)
#: One command: to the end of its (continued) line, or to a separator.
_REST = re.compile(
    r"(?:\\.|\$\([^()]*\)|`[^`]*`|\$\{[^}]*\}|'[^']*'|\"(?:\\.|\$\([^()]*\)|[^\"\\])*\"|(?<!\s)#|[^\n;&|<>()#'\"\\`])*",
    re.DOTALL,
)
_ASSIGNMENT = re.compile(
    r"^[ \t]*(?:(?:export|readonly|local|declare)[ \t]+(?:-\w+[ \t]+)*|Environment=\"?)?(\w+)=(\([^)]*\)|.*)$",
    re.MULTILINE,
)
_WHOLE = re.compile(r"\"\$\{(\w+)\[@\]\}\"")
_SUBSTITUTION = r"\$\([^()]*\)|`[^`]*`"
_VALUE = re.compile(_SUBSTITUTION + r"|\$(?:(\w+)|\{(\w+)(?:(:?[-=+?])([^}]*))?\})")
_PIECE = re.compile(
    r"'[^']*'|\\.|\"(?:\\.|\$\([^()]*\)|[^\"\\])*\"|" + _SUBSTITUTION + r"|(?:\$(?!\()|[^'\"\\$`])+", re.DOTALL
)
#: Stands for the ``$`` or the backquote of what only a shell on that machine knows.
_OPEN = "\ue000"

#: What is another's on another machine: kept as it is written.
_OWN = frozenset({"HOME", "USER", "PWD", "UID"})


def read(text: str) -> dict[int, Container]:
    """The containers of every ``docker run`` in ``text`` that can be read, by their lines.

    Raises :class:`UnreadableError` where there is none.
    """
    text = text.replace("\r\n", "\n")
    found: dict[int, Container] = {}
    errors: list[str] = []
    for start in _RUN.finditer(text):
        line = text.count("\n", 0, start.end()) + 1
        try:
            found[line] = _command(text, start)
        except UnreadableError as error:
            errors.append(f"line {line}: {error}")
    if not found:
        raise UnreadableError(
            errors[0]
            if errors
            else "found no docker run; expected its line, a script that has it, or what `docker inspect CONTAINER` "
            "prints. What to do: for a compose file, give the inspection of its running container"
        )
    return found


def _command(text: str, start: re.Match[str]) -> Container:
    rest = _REST.match(text, start.end())
    body = rest[0] if rest else ""
    end = text[rest.end() : rest.end() + 1] if rest else ""
    if end in ("'", '"', "`"):
        raise UnreadableError(
            f"docker run: found {end} without its other half; expected quotes in pairs. What to do: correct the command"
        )
    if end in ("<", ">"):
        body = re.sub(r"\s\d+$", "", body)  # 2>&1
    unknown: list[str] = []
    values: dict[str, str] = {}
    for assignment in _ASSIGNMENT.finditer(text, 0, start.start()):
        name, value = assignment.groups()
        try:
            words = shlex.split(_expanded(value.strip("()"), values, []), comments=True)
        except ValueError:
            continue
        values[name] = shlex.join(words) if value.startswith("(") else (words or [""])[0]
    body = _WHOLE.sub(lambda match: values.get(match[1], match[0]), body.replace("\\\n", " "))
    words = shlex.split(_expanded(body, values, unknown))
    plain = [word.replace(_OPEN, "$") for word in words]
    if unknown:
        raise UnreadableError(
            f"docker run: found no value for ${', $'.join(dict.fromkeys(unknown))}; expected it above the command. "
            "What to do: write NAME=value before it"
        )
    found = container(plain)
    for word, shown in zip(words, plain, strict=True):
        if _OPEN in word and shown in (found.image, *found.argv):
            raise UnreadableError(
                f"docker run: found {shown!r}, which only a shell knows; expected its value. What to do: write the "
                "value in its place"
            )
    return found


def _expanded(text: str, values: Mapping[str, str], unknown: list[str]) -> str:
    """The text with its variables' values in their places; names without any are added to ``unknown``."""

    def value(match: re.Match[str]) -> str:
        if match[0].startswith(("$(", "`")):
            return f"{_OPEN}({match[0].strip('$()`')})"
        name, kind, default = match[1] or match[2], match[3] or "", match[4] or ""
        if name in values and (values[name] or ":" not in kind):
            return default if kind.endswith("+") else values[name]
        if kind.endswith(("-", "=")):
            return _VALUE.sub(value, default)
        if kind.endswith("+") or (is_secret(name) and not kind):
            return ""
        if name not in _OWN:
            unknown.append(name)
        return _OPEN + match[0][1:]

    pieces = []
    for piece in _PIECE.findall(text):
        if piece.startswith('"'):
            inside = _VALUE.sub(lambda match: re.sub(r'(["\\])', r"\\\1", value(match)), piece[1:-1])
            piece = f'"{inside}"'
        elif piece.startswith(("$(", "`")):
            piece = shlex.quote(_VALUE.sub(value, piece))
        elif not piece.startswith(("'", "\\")):
            piece = _VALUE.sub(lambda match: shlex.join(value(match).split()), piece)
        pieces.append(piece)
    return "".join(pieces)
