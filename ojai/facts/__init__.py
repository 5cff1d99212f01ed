"""What a host reports about itself: pyinfra facts, one shell command each."""

from __future__ import annotations

import shlex


def script(text: str, *arguments: str, **variables: str) -> str:
    """``text`` (shell) with ``arguments`` as its positional parameters and ``variables`` set, all of them quoted."""
    lines = [f"{name}={shlex.quote(value)}" for name, value in variables.items()]
    if arguments:
        lines.append(f"set -- {shlex.join(arguments)}")
    return "\n".join([*lines, text.strip()])
