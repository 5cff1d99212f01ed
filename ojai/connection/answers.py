"""What a command answers, whatever the login prints before it, and whatever language, umask or Docker it has set.

sshd runs each command in the account's login shell, which may print a greeting. So every command first prints a mark;
what comes before the mark is dropped.
"""

from __future__ import annotations

import base64
import functools
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import IO, Any, AnyStr

from pyinfra.api import HiddenValue, QuoteString, StringCommand
from pyinfra.api.exceptions import ConnectError

from ojai.pyinfra_internals import SFTPError, SSHConnector, get_file_io, util

#: The line that an answer begins after.
MARK = "ojai-answer"

#: What every command is given, unless the operation says otherwise; None: not set.
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "LANGUAGE": "", "DOCKER_HOST": None, "DOCKER_CONTEXT": None}

#: Shells that read what is written here.
SHELLS = ("sh", "bash", "dash", "ksh", "zsh")


def prelude(given: Iterable[str] = ()) -> str:
    """Shell that a command is put behind. ``given``: variables that the operation sets itself."""
    mine = {name: value for name, value in _ENVIRONMENT.items() if name not in given}
    steps = [f"printf '\\n%s\\n' {MARK}", f"printf '\\n%s\\n' {MARK} >&2", "umask 022"]
    steps += [f"export {name}={value}" for name, value in mine.items() if value is not None]
    steps += [f"unset {name}" for name, value in mine.items() if value is None]
    return f"{' && '.join(steps)} || exit\n"  # a list of its own: `a && b & c` would run b in the background too


def marked(lines: Iterable[AnyStr]) -> Iterator[AnyStr]:
    """The lines after the mark; all of them if there is none, such as those of a sudo that refuses.

    A terminal ends its lines with CR and LF, and has the mark of both outputs.
    """
    held: list[AnyStr] = []
    found = False
    for line in lines:
        if not found and line.rstrip() in (MARK, MARK.encode()):
            found = True
            held.clear()
        elif not found:
            held.append(line)
        elif line not in (f"{MARK}\r\n", f"{MARK}\r\n".encode()):
            yield line
    yield from held


def mark_answers() -> None:
    """Put the :func:`prelude` before every command that pyinfra runs, and read answers accordingly; once a process."""
    if hasattr(util.make_unix_command, "__wrapped__"):
        return
    util.make_unix_command = _with_prelude(util.make_unix_command)
    util.read_buffer = _after_the_mark(util.read_buffer)
    SSHConnector._put_file = _without_sftp(SSHConnector._put_file)  # type: ignore[method-assign]


def _with_prelude(make: Callable[..., StringCommand]) -> Callable[..., StringCommand]:
    @functools.wraps(make)
    def wrapped(command: Any, _env: Mapping[str, Any] | None = None, **arguments: Any) -> StringCommand:
        shell = arguments.get("_shell_executable", "sh")
        if isinstance(shell, str) and PurePath(shell).name in SHELLS:
            # Not shown with -vv, where it would bury the command.
            command = StringCommand(HiddenValue(prelude(_env or ()), masked_value=""), command)
        return make(command, _env=_env, **arguments)

    return wrapped


def _decoded(stream: Any) -> Iterator[str]:
    # paramiko's stream would raise at the first byte that is not UTF-8, and the rest of the answer would be lost.
    if hasattr(stream, "FLAG_BINARY"):
        stream._flags |= stream.FLAG_BINARY
    for line in stream:
        yield line if isinstance(line, str) else line.decode(errors="replace")


def _after_the_mark(read: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(read)
    def wrapped(name: str, io: Iterable[Any], *args: Any, **kwargs: Any) -> None:
        read(name, marked(_decoded(io)), *args, **kwargs)

    return wrapped


def _without_sftp(put: Callable[..., None]) -> Callable[..., None]:
    """A greeting breaks SFTP, and so does an sshd without it; then a file is sent as a command's input."""

    @functools.wraps(put)
    def wrapped(self: SSHConnector, filename_or_io: str | IO[Any], remote_location: str) -> None:
        try:
            put(self, filename_or_io, remote_location)
        except (SFTPError, ConnectError):
            with get_file_io(filename_or_io) as source:
                text = base64.encodebytes(source.read()).decode()
            done, output = self.run_shell_command(
                StringCommand("base64", "-d", ">", QuoteString(remote_location)), _stdin=text
            )
            if not done:
                raise OSError(f"{shlex.quote(remote_location)} cannot be written: {output.output}") from None

    return wrapped
