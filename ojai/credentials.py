"""Secrets that an inventory names and does not hold. Each is read on this machine, when it is needed.

``environment:NAME`` is a variable, ``file:/path`` a file that nobody else can read, ``command:WORDS`` what a program
prints, such as a password manager's.
"""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
from pathlib import Path

from pyinfra.api.exceptions import DeployError

KINDS = ("environment", "file", "command")

#: Seconds that a command may take: it may ask somebody.
PATIENCE = 120


class CredentialError(DeployError):
    """A secret cannot be had: why, without any of it."""


def read(source: str) -> str:
    """The secret, without the line break at its end. Raises :class:`CredentialError`."""
    kind, _, place = source.partition(":")
    found = {"environment": _variable, "file": _file, "command": _command}[kind](place)
    text = found.removesuffix("\n")
    if not text or "\n" in text:
        raise _error(source, "more than one line" if text else "nothing in it", "one line")
    return text


def login(source: str) -> dict[str, str]:
    """A secret of the form ``user:password``. Raises :class:`CredentialError`."""
    user, colon, password = read(source).partition(":")
    if not (user and colon and password):
        raise _error(source, "no user:password in it", "user:password")
    return {"username": user, "password": password}


def _error(source: str, found: str, expected: str) -> CredentialError:
    return CredentialError(
        f"credentials {source}: found {found}; expected {expected}. What to do: correct it on this machine, or name "
        "another source (the value is not shown here)."
    )


def _variable(name: str) -> str:
    return os.environ.get(name, "")


def _file(place: str) -> str:
    path, source = Path(place).expanduser(), f"file:{place}"
    try:
        about = path.stat()
        if about.st_uid not in (os.geteuid(), 0) or about.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            mode = f"mode {stat.S_IMODE(about.st_mode):o}, owner {about.st_uid}"
            raise _error(source, mode, "a file of your own with mode 600 (`chmod 600 FILE`)")
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise _error(source, getattr(error, "strerror", None) or "no text", "a file that can be read") from None


def _command(words: str) -> str:
    source = f"command:{words}"
    try:
        done = subprocess.run(shlex.split(words), stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        raise _error(source, getattr(error, "strerror", None) or type(error).__name__, "a program that ends") from None
    if done.returncode:
        raise _error(source, f"status {done.returncode}", "status 0 and the secret on standard output")
    return done.stdout.decode(errors="replace")
