"""One deploy at a time on a host: a lock there that is held by a process, which lives as long as this run answers it.

The process holds a ``flock`` and reads its standard input, which is a channel of this run's connection. The channel's
end, :data:`PATIENCE` seconds of silence, or the host's reboot ends it, and with it the lock: nothing has to be cleaned
up after a run that died. docs/decisions/0011 says why it is made so.
"""

from __future__ import annotations

import getpass
import os
import shlex
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import gevent
from pyinfra import logger
from pyinfra.api import Host, QuoteString, State, StringCommand

from ojai.connection.answers import MARK, marked
from ojai.connection.channel import Channel, NotConnectedError, start
from ojai.paths import ROLLOUT
from ojai.pyinfra_internals import (
    BaseStateCallback,
    LocalConnector,
    SSHConnector,
    SSHException,
    StateStage,
    cli_module,
    extract_control_arguments,
    make_unix_command_for_host,
)

#: On the host. Its line says who holds the lock, or who held it when the run ended without saying so.
FILE = "/run/ojai-deploy.lock"

#: Seconds between two signs of life.
BEAT = 5.0

#: Seconds without one after which the lock is given up. Less than a run takes to give up its connection.
PATIENCE = 30

#: Seconds that the host may take to answer.
TIMEOUT = 60.0

#: The environment variable by which a run says which command of ours started it.
COMMAND = "OJAI_COMMAND"

_MARK = "ojai-lock"
_SCRIPT = r"""
umask 077
exec 9<>"$file"
# Not at once: whoever only looks holds a shared lock for a moment, and a run that has just ended still does.
if ! flock --wait 2 9; then sleep 0.2; printf '%s\theld\t' "$mark"; head -n 1 "$file"; exit; fi
before=$(head -n 1 "$file")
rm -f "$rollout"
printf '%s\t%s\n' "$(date -u '+%Y-%m-%d %H:%M:%S UTC')" "$who" >"$file"
printf '%s\ttaken\t%s\n' "$mark" "$before"
while read -r -t "$patience" word; do
  if [ "$word" = done ]; then : >"$file"; exit; fi
done
"""

#: For others that only look: prints the holder's line. Nobody is kept from the lock for longer than it waits.
LOOK = f"flock --shared --nonblock --conflict-exit-code 75 {FILE} true; [ $? != 75 ] || head -n 1 {FILE}"


#: How a run that only looks tells of another that holds the lock.
RUNNING = "a deploy is running here"


class LockError(Exception):
    """The host gave no answer that can be understood; the message has what it said."""


@dataclass(frozen=True)
class Run:
    """A run of pyinfra: since when (the host's clock), who started it where, and what."""

    since: str
    who: str
    command: str

    def __str__(self) -> str:
        return f"{self.who}, since {self.since} (`{self.command}`)"


def read(line: str) -> Run | None:
    """The run that a line of the lock's file names."""
    since, who, command = (*line.strip().split("\t"), "", "", "")[:3]
    return Run(since, who or "somebody", command or "a deploy") if since else None


@dataclass(frozen=True)
class Taken:
    """An attempt to take the lock. ``busy``: the run that has it; ``died``: the last one, if it ended unannounced."""

    busy: Run | None = None
    died: Run | None = None


@dataclass
class _Hold:
    """The process on the host, at the end of a channel."""

    channel: Channel
    beats: gevent.Greenlet[..., None] | None = None

    def answer(self) -> tuple[str, str]:
        """Its line, and what was printed before: a login may greet first, and sudo may refuse."""
        said = b""
        while part := self.channel.receive(4096):
            said += part
            before, mark, line = said.decode(errors="replace").partition(f"{_MARK}\t")
            if mark and line.endswith("\n"):
                return line, before
        before, _, line = said.decode(errors="replace").partition(f"{_MARK}\t")
        return line, before


_HOLDS: dict[str, _Hold] = {}
_UNKNOWN = Run("a moment ago", "somebody", "a deploy")


@cache
def invocation() -> Mapping[str, Any]:
    """What pyinfra was called with. Its click context is not seen from the greenlets of the hosts."""
    context = cli_module().cli.make_context("pyinfra", sys.argv[1:], resilient_parsing=True)
    params: Mapping[str, Any] = context.params
    return params


def only_looks(state: State) -> bool:
    """Whether this run will change nothing: it takes no lock."""
    asked = invocation()
    shows = any(asked.get(option) for option in ("dry", "debug_facts", "debug_operations"))
    return shows or (bool(asked.get("json_output")) and state.check_for_changes)


def _who() -> str:
    """This run, for others. Of its command line only what it is about: there may be a password in the rest."""
    asked = invocation()
    words = ["pyinfra", asked.get("inventory") or "", *(asked.get("operations") or ())]
    command = os.environ.get(COMMAND) or " ".join(map(str, words))
    return f"{getpass.getuser()} on {socket.gethostname()}\t{command}"


def has_ended(state: State) -> bool:
    """Whether the run is over, for a host that is being disconnected: not when it reboots, or is broken off."""
    return state.current_stage != StateStage.Execute or not state.active_hosts


class _AtTheEnd(BaseStateCallback):
    @staticmethod
    def host_disconnect(state: State, host: Host) -> None:
        # A run that is broken off in the middle of its operations says nothing, so that the next one knows.
        release(host, in_order=has_ended(state))


_AT_THE_END = _AtTheEnd()


def take(host: Host, arguments: Mapping[str, Any]) -> Taken:
    """Take the lock of ``host`` until this run ends; again after a reboot. ``arguments``: for sudo and the like.

    A connector without a channel to the host, such as @fake, has no lock. Raises :class:`LockError`.
    """
    host = host.state.inventory.get_host(host.name)  # in a deploy file the name means whichever host is current
    if host.name in _HOLDS or not isinstance(host.connector, SSHConnector | LocalConnector):
        return Taken()
    words = {"file": FILE, "mark": _MARK, "patience": str(PATIENCE), "who": _who(), "rollout": ROLLOUT}
    script = "\n".join([*(f"{name}={shlex.quote(value)}" for name, value in words.items()), _SCRIPT])
    given: Any = dict(arguments)
    extract_control_arguments(given)
    try:
        # May ask for sudo's password where there is no terminal: an OSError too.
        command = make_unix_command_for_host(
            host.state, host, StringCommand("bash", "-c", QuoteString(script)), **given
        ).get_raw_value()
        hold = _Hold(start(host, command, TIMEOUT))
        line, before = hold.answer()
    except (OSError, EOFError, SSHException, NotConnectedError) as error:
        raise LockError(str(error) or type(error).__name__) from None
    answer, _, record = line.partition("\t")
    if answer != "taken":
        hold.channel.close()
        if answer == "held":
            return Taken(busy=read(record) or _UNKNOWN)
        said = map(str.strip, marked(before.splitlines()))
        raise LockError("; ".join(line for line in said if line not in ("", MARK)) or "no answer")  # of both outputs
    _HOLDS[host.name] = hold
    hold.beats = gevent.spawn(_beat, host, hold, given)
    host.state.add_callback_handler(_AT_THE_END)
    return Taken(died=read(record))


def _beat(host: Host, hold: _Hold, arguments: Mapping[str, Any]) -> None:
    """Give a sign of life until the lock is released; take it again if it was lost, as after this machine slept."""
    while True:
        gevent.sleep(BEAT)
        try:
            hold.channel.send(b"\n")
        except (OSError, EOFError, SSHException, ValueError):
            break
    if _HOLDS.get(host.name) is not hold:
        return
    del _HOLDS[host.name]
    try:
        busy = take(host, arguments).busy
    except LockError:  # the connection is gone too: its own watch tells
        return
    if busy:
        logger.error(
            f"{host.print_prefix}deploy lock: found it lost, and another deploy running: {busy}; expected to be the "
            "only one. What to do: let it end, then run this deploy again."
        )
        if isinstance(host.connector, SSHConnector) and host.connector.client:
            host.connector.client.close()  # what is under way fails, and no further step follows


def stop_beating(host: Host) -> None:
    """The host is about to reboot, which ends the lock."""
    hold = _HOLDS.get(host.name)
    if hold is not None and hold.beats is not None:
        hold.beats.kill(block=False)


def release(host: Host, *, in_order: bool = True) -> None:
    """Give the lock up. ``in_order``: so that the next run has nothing to say of this one."""
    stop_beating(host)
    hold = _HOLDS.pop(host.name, None)
    if hold is None:
        return
    try:
        if in_order:
            hold.channel.send(b"done\n")
        hold.channel.close()
    except (OSError, EOFError, SSHException, ValueError):
        pass  # gone with its connection
