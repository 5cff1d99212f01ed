"""Argument lists in systemd unit files, quoted so that the program gets exactly these arguments."""

from __future__ import annotations

import re
from collections.abc import Sequence

_PLAIN = re.compile(r"[A-Za-z0-9_@+=:,./-]+")


def quote(argument: str) -> str:
    r"""One argument of ``Exec…=`` (systemd.service(5), "Command lines"; systemd.syntax(7), "Quoting").

    ``%`` and ``$`` would be expanded, so they are doubled. Everything but plain words is put in double quotes, because
    ``#`` or ``;`` at the start of a continued line would make it a comment.

    >>> quote('{"image": 4}')
    '"{\\"image\\": 4}"'

    Raises ValueError for a line break or NUL, which a unit file cannot contain.
    """
    if re.search(r"[\n\r\0]", argument):
        raise ValueError(f"{argument!r}: a unit file cannot contain a line break or NUL")
    text = argument.replace("%", "%%").replace("$", "$$")
    if _PLAIN.fullmatch(argument):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def command_line(argv: Sequence[str], indent: str = "    ") -> str:
    """An argument list as one ``Exec…=`` value: each option with its value on a line of its own."""
    lines: list[str] = []
    for argument in argv:
        starts_value = bool(lines) and lines[-1].lstrip().startswith("-") and " " not in lines[-1].strip()
        if starts_value and not argument.startswith("-") and "=" not in lines[-1]:
            lines[-1] += f" {quote(argument)}"
        else:
            lines.append(quote(argument))
    return f" \\\n{indent}".join(lines)
