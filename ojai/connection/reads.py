"""What a run only reads, in one round trip: a cache that every write empties, filled ahead by what the last run read.

Nothing is changed while pyinfra looks, and an operation begins with facts too. So the answer of a fact holds until a
command runs that is no fact, or until it is :data:`STALE` seconds old while changes are made. docs/decisions/0012 has
the reasons, and what is left to pyinfra's own connector.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import json
import os
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from pyinfra import logger
from pyinfra.api import FunctionCommand, Host, State, StringCommand

from ojai.connection.answers import SHELLS
from ojai.connection.lock import has_ended, invocation
from ojai.pyinfra_internals import BaseStateCallback, CommandOutput, OutputLine, SSHConnector, StateStage, facts

#: Seconds after which an answer is asked for again, once pyinfra has gone from looking to changing.
STALE = 30.0

#: Seconds for one command among those that are read ahead; a slower one is asked by itself, without a limit.
PATIENCE = 120

#: What is read ahead at most: commands, and characters of one.
MOST, LONGEST = 500, 64 * 1024

#: Where, and as whom, a command runs: part of what it is known by. None of them is a secret.
_PLACE = ("_sudo", "_sudo_user", "_use_sudo_login", "_preserve_sudo_env", "_shell_executable", "_chdir")

#: The answer to a command with one of these is not kept: it depends on more than the command and its place.
_OTHER = (
    *("_stdin", "_get_pty", "_timeout", "_env", "_retries", "_retry_until"),
    *("_su_user", "_doas", "_dzdo"),
)

_MARK = "ojai-read"

#: How many facts are read at a time, where the host has as many cores.
ABREAST = 4

#: Read whole before any of it is done: a connection that ends in the middle leaves nothing half said. Each output ends
#: in a point, which is missing where there was no room for it. What left something running behind it is not done yet.
#: Who makes the file of a command's number runs it, and writes there: outputs of several at a time do not mix.
_SCRIPT = """main() {
echo %(mark)s
[ "$(timeout -k 2 9 %(shell)s -c 'echo x' | base64 -w 0)" = eAo= ] && t=$(mktemp -d) || exit 1
trap 'rm -rf "$t"' EXIT
one() {
  { true >"$t/$1"; } 2>/dev/null || return 0
  timeout -k 2 %(patience)d %(shell)s -c "$2" </dev/null >"$t/$1.o" 2>"$t/$1.e" &
  wait $!
  s=$?
  kill -s 0 -- -$! 2>/dev/null && s=124
  printf . >>"$t/$1.o"
  printf . >>"$t/$1.e"
  printf '%(mark)s %%s %%s :%%s:%%s:\\n' "$1" $s "$(base64 -w 0 "$t/$1.o")" "$(base64 -w 0 "$t/$1.e")" >"$t/$1.answer"
}
work() {
set -C
%(calls)s
}
n=$(nproc 2>/dev/null) || n=1
[ "$n" -le %(abreast)d ] || n=%(abreast)d
while [ "$n" -gt 1 ]; do
  work &
  n=$((n - 1))
done
work
wait
cat "$t"/*.answer
}
main
"""

#: Whether a command succeeded, and what it printed.
Answer = tuple[bool, CommandOutput]

#: A command and its place.
Key = tuple[str, tuple[Any, ...]]

_reading: ContextVar[bool] = ContextVar("reading", default=False)


@contextlib.contextmanager
def reading(value: bool = True) -> Iterator[None]:
    """What is run in this context only reads."""
    token = _reading.set(value)
    try:
        yield
    finally:
        _reading.reset(token)


@dataclass
class _Reads:
    """What one host has answered.

    + stock: the connector's own method
    + file: where the list of commands is kept; None: no read-ahead
    + answers: valid until the next write
    + order: commands in the order in which they are asked, as far as it is known
    + asked: those that this run has asked
    + misses: how many were asked one by one since the last write
    + needed: the one of these that asks for all that follow: the second, and twice as many each further time that a
      write threw most of the answers away. A run that writes all the time does not read the same again and again
    + got, used: how many were read ahead since the last write, and how many of them were asked for
    + apart: a function of an operation runs, which may wait for what the host does, or change it some other way
    + first: called before the first command of the run that may change the host
    + changed: whether there was one
    """

    host: Host
    stock: Callable[..., Answer]
    file: Path | None
    answers: dict[Key, tuple[bool, list[OutputLine]]] = field(default_factory=dict)
    order: dict[Key, None] = field(default_factory=dict)
    asked: dict[Key, None] = field(default_factory=dict)
    ahead: bool = True
    misses: int = 0
    needed: int = 1
    got: int = 0
    used: int = 0
    since: float = 0.0
    apart: bool = False
    first: Callable[[], None] | None = None
    changed: bool = False

    def changing(self) -> None:
        """What comes next may change the host."""
        self.forget()
        if self.host.state.is_executing and not self.changed:
            self.changed = True
            if self.first:
                with reading(False):
                    self.first()
                self.forget()

    def forget(self) -> None:
        """Something may have been changed."""
        if self.used * 2 < self.got or self.needed == 1:
            self.needed *= 2
        self.answers.clear()
        self.misses = self.got = self.used = 0

    def run(
        self, command: str | StringCommand, print_output: bool = False, print_input: bool = False, **arguments: Any
    ) -> Answer:
        """In place of the connector's ``run_shell_command``."""
        if self.apart or not _reading.get():
            self.changing()
            return self.stock(command, print_output=print_output, print_input=print_input, **arguments)
        with reading(False):  # pyinfra may upload its helper for sudo's password first
            key = _key(command, arguments)
            if key is None or print_output or print_input:
                return self.stock(command, print_output=print_output, print_input=print_input, **arguments)
            return self._answer(key, command, arguments)

    def _answer(self, key: Key, command: str | StringCommand, arguments: Mapping[str, Any]) -> Answer:
        old = self.answers and time.monotonic() - self.since > STALE
        if old and self.host.state.current_stage == StateStage.Execute:
            self.forget()
            self.misses = self.needed - 1
        known = key in self.order
        self.order.setdefault(key)
        self.asked.setdefault(key)
        if key in self.answers:
            self.used += 1
        else:
            # The second in a row: what else is read from here on is asked for at once. Not so between two writes, and
            # where nobody knows what follows.
            if known and not self.got and self.misses >= self.needed - 1 and self.file and self.ahead:
                order = list(self.order)
                self._read_ahead(key, order[order.index(key) :], arguments)
            self.misses += 1
            if key not in self.answers:
                done, output = self.stock(command, **arguments)
                self._keep(key, done, list(output))
        done, lines = self.answers[key]
        return done, CommandOutput(list(lines))

    def _keep(self, key: Key, done: bool, lines: list[OutputLine]) -> None:
        if not self.answers:
            self.since = time.monotonic()
        self.answers[key] = done, lines

    def _read_ahead(self, key: Key, order: list[Key], arguments: Mapping[str, Any]) -> None:
        """Ask for this one and all of ``order`` that are to run in the same place, in one command."""
        later = [one for one in order if one[1] == key[1] and one not in self.answers and len(one[0]) <= LONGEST][:MOST]
        if len(later) < 2 or PurePath(shell := arguments.get("_shell_executable") or "sh").name not in SHELLS:
            return
        asked = script([text for text, _ in later], shell, ABREAST)
        done, output = self.stock(StringCommand(shlex.quote(shell)), **{**arguments, "_stdin": asked})
        for number, status, out, err in framed(output.stdout_lines):
            if number < len(later):
                lines = [OutputLine("stdout", text) for text in _lines(out)]
                lines += [OutputLine("stderr", text) for text in _lines(err)]
                self._keep(later[number], status == 0, lines)
                self.got += 1
        if arguments.get("_sudo") and _MARK not in output.stdout_lines:
            self._keep(key, done, list(output))  # sudo's refusal: the password is not tried once more
        elif not self.answers:
            self.ahead = False  # no such tools there, or no room for a file
            logger.debug(f"{self.host.print_prefix}nothing is read ahead: {output.output}")

    def load(self) -> None:
        """What the last run read."""
        for text, place in load(self.file) if self.file else ():
            if len(place) == len(_PLACE):
                self.order[text, place] = None

    def save(self) -> None:
        """What this run read, for the next; with the last one's, if this was broken off."""
        if self.file and self.asked:
            whole = self.host not in self.host.state.failed_hosts
            save(self.file, self.asked if whole else self.order)


def _key(command: str | StringCommand, arguments: Mapping[str, Any]) -> Key | None:
    """What the command is known by; None where its answer is not kept, as for one that has a secret in it."""
    if any(arguments.get(name) for name in _OTHER) or list(arguments.get("_success_exit_codes") or [0]) != [0]:
        return None
    if isinstance(command, StringCommand) and command.get_raw_value() != command.get_masked_value():
        return None
    return str(command), tuple(arguments.get(name) or None for name in _PLACE)


def load(file: Path) -> list[Key]:
    """The commands that ``file`` has; none where others could have written it, or it cannot be read."""
    try:
        kept = json.loads(file.read_text())["reads"] if _is_private(file) else []
        # What cannot be hashed or sent raises.
        return list({(text, tuple(place)): None for text, place in kept if text.encode() and "\0" not in text})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        logger.debug(f"no list of reads in {file}: {error}")
        return []


def save(file: Path, reads: Iterable[Key]) -> None:
    """Keep these commands for the next run. What fails is logged: nothing depends on it."""
    found = json.dumps({"reads": list(reads)[:MOST]}).encode()
    try:
        if not (_is_private(file) and file.read_bytes() == found):
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = file.with_suffix(f".{os.getpid()}")
            new.unlink(missing_ok=True)
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
                stream.write(found)
            new.replace(file)
    except OSError as error:
        logger.debug(f"the list of reads is not kept in {file}: {error}")


def script(commands: Iterable[str], shell: str, abreast: int = 1) -> str:
    """A script for ``shell`` that runs each command by itself, and prints what :func:`framed` reads.

    + abreast: how many run at a time, where the host has as many cores. Only what reads may: the checks of `ojai
      verify` touch a file, and look for it with the next command
    """
    calls = "\n".join(f"one {number} {shlex.quote(text)}" for number, text in enumerate(commands))
    words = {"patience": PATIENCE, "abreast": abreast, "mark": _MARK, "shell": shlex.quote(shell), "calls": calls}
    return _SCRIPT % words


def framed(lines: Iterable[str]) -> Iterator[tuple[int, int, bytes, bytes]]:
    """Of each command its number, exit status and both outputs; not of one cut off, too slow, or ended by a signal."""
    for line in lines:
        words = line.split(" ", 3)
        if words[0] != _MARK or len(words) != 4:
            continue
        with contextlib.suppress(ValueError):
            out, err, end = (base64.b64decode(text, validate=True) for text in words[3][1:].split(":"))
            status = int(words[2])
            if not end and out[-1:] == err[-1:] == b"." and status != 124 and status < 128:  # 124 is `timeout`'s
                yield int(words[1]), status, out[:-1], err[:-1]


def _lines(output: bytes) -> list[str]:
    lines = output.split(b"\n")
    return [line.decode(errors="replace") for line in (lines if lines[-1] else lines[:-1])]


def _is_private(file: Path) -> bool:
    """Whether nobody else could have written it: its commands are run as root."""
    try:
        found = file.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    return found.st_uid == os.geteuid() and found.st_mode & 0o177777 == 0o100600


def _list_file(host: Host) -> Path | None:
    """Where the list for this host and deploy is kept; None for a host without a connection to spare."""
    if not isinstance(host.connector, SSHConnector):
        return None
    asked = invocation()
    data = {name: str(host.data.get(name)) for name in ("ssh_hostname", "ssh_port", "ssh_user")}
    return list_file(host.name, data, asked.get("inventory"), list(asked.get("operations") or ()))


def list_file(*words: Any) -> Path:
    """Where the list is kept of what ``words`` say: a host, how it is reached, and what is run from this folder."""
    name = hashlib.sha256(json.dumps([str(Path.cwd()), *words]).encode()).hexdigest()[:32]
    folder = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not folder.is_absolute():
        try:
            folder = Path.home() / ".cache"
        except RuntimeError:  # an account without a home, as in a container: nothing is kept
            folder = Path(os.devnull)
    return folder / "ojai" / "reads" / f"{name}.json"


class _AtTheEnd(BaseStateCallback):
    @staticmethod
    def host_disconnect(state: State, host: Host) -> None:
        if (reads := _READS.pop(host.name, None)) is not None:
            reads.save()


_READS: dict[str, _Reads] = {}
_AT_THE_END = _AtTheEnd()


def remember(host: Host) -> None:
    """Keep what this host answers to facts, and ask ahead for what the last run asked; once a host and run.

    Not with `connector: ssh`.
    """
    if "stock" in vars(host.connector) or host.data.get("connector") == "ssh":
        return
    _mark_facts()
    connector: Any = host.connector
    connector.stock = connector.run_shell_command
    reads = _READS[host.name] = _Reads(host.state.inventory.get_host(host.name), connector.stock, _list_file(host))
    reads.load()
    connector.run_shell_command = reads.run
    for name in ("put_file", "rsync"):
        setattr(connector, name, _forgetting(getattr(connector, name), reads.changing))
    connector.disconnect = _forgetting(connector.disconnect, reads.forget)
    host.state.add_callback_handler(_AT_THE_END)


def around_changes(host: Host, first: Callable[[], None], last: Callable[[], None]) -> None:
    """Have ``first`` called before the first command of this run that may change the host, ``last`` when it ends.

    Of a run that changes nothing, neither is called. Nor with `connector: ssh`, where reads are not told from writes.
    """
    reads = _READS.get(host.name)
    if reads is None or reads.first is not None:
        return
    reads.first = first
    connector: Any = host.connector
    disconnect = connector.disconnect

    @functools.wraps(disconnect)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if reads.changed and host.connected and has_ended(host.state):
            last()
        return disconnect(*args, **kwargs)

    connector.disconnect = wrapped


def has_changed(host: Host) -> bool:
    """Whether this run may have changed the host."""
    reads = _READS.get(host.name)
    return reads is not None and reads.changed


def _forgetting(method: Callable[..., Any], forget: Callable[[], None]) -> Callable[..., Any]:
    @functools.wraps(method)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        forget()
        with reading(False):
            return method(*args, **kwargs)

    return wrapped


def _apart(execute: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(execute)
    def wrapped(self: FunctionCommand, state: State, host: Host, arguments: Any) -> Any:
        if (reads := _READS.get(host.name)) is None:
            return execute(self, state, host, arguments)
        reads.changing()
        reads.apart, before = True, reads.apart
        try:
            return execute(self, state, host, arguments)
        finally:
            reads.apart = before

    return wrapped


def _mark_facts() -> None:
    if hasattr(facts._get_fact, "__wrapped__"):
        return

    def marking(get: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(get)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with reading():
                return get(*args, **kwargs)

        return wrapped

    facts._get_fact = marking(facts._get_fact)
    FunctionCommand.execute = _apart(FunctionCommand.execute)  # type: ignore[method-assign]
