"""Words for systemd's unit files: one argument list, quoted so that systemd hands on exactly these arguments."""

from __future__ import annotations

import re
from collections.abc import Sequence

_PLAIN = re.compile(r"[A-Za-z0-9_@+=:,./-]+")


def quote(argument: str) -> str:
    r"""One argument of ``Exec…=`` (systemd.service(5), "Command lines"; systemd.syntax(7), "Quoting").

    ``%`` and ``$`` would be expanded, so they are doubled; all but plain words stand in double quotes, an argument
    that begins with ``#`` or ``;`` too, which at the start of a continued line would make it a comment.

    >>> quote('{"image": 4}')
    '"{\\"image\\": 4}"'

    Raises ValueError for a line break or NUL, which no unit file can hold.
    """
    if re.search(r"[\n\r\0]", argument):
        raise ValueError(f"{argument!r}: a line break or NUL cannot stand in a unit file")
    text = argument.replace("%", "%%").replace("$", "$$")
    if _PLAIN.fullmatch(argument):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def command_line(argv: Sequence[str], indent: str = "    ") -> str:
    """An argument list as one ``Exec…=`` value: an option and its value a line, joined by continuations."""
    lines: list[str] = []
    for argument in argv:
        starts_value = bool(lines) and lines[-1].lstrip().startswith("-") and " " not in lines[-1].strip()
        if starts_value and not argument.startswith("-") and "=" not in lines[-1]:
            lines[-1] += f" {quote(argument)}"
        else:
            lines.append(quote(argument))
    return f" \\\n{indent}".join(lines)
