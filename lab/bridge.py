"""The lab's bridge: containers with addresses of their own, and a line to them that can be long and lose packets.

The bridge is in a network namespace of its own. This machine has one interface on it, and the route to its /24.
wirefilter delays what passes: it needs no part of the kernel (netem is often left out of a virtual machine's).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from pathlib import Path

from ojai.lab import container, packages, state
from ojai.lab.errors import LabError
from ojai.lab.shell import as_root, run
from ojai.lab.state import ContainerRecord, LineRecord

PORT = 22
FIRST, LAST = 11, 250
"""The last number of a container's address."""
INSIDE = "lan0"
"""The interface of a container on the bridge."""


def _digest() -> str:
    return hashlib.sha256(os.fsencode(state.folder())).hexdigest()[:8]


def near() -> str:
    """Return the name of this machine's interface on the bridge."""
    return f"ojai{_digest()}"


def _far() -> str:
    return f"far{_digest()}"


def _namespace() -> str:
    return f"ojai-{_digest()}.bridge"


def address(number: int) -> str:
    """Return an address on the bridge: of 198.18.0.0/15, which is kept for measuring (RFC 2544), a /24 for each lab."""
    return f"198.18.{int(_digest()[:2], 16)}.{number}"


def free_address(taken: Collection[str]) -> str:
    """Return the first address that no container has."""
    for number in range(FIRST, LAST + 1):
        if address(number) not in taken:
            return address(number)
    raise LabError(f"the lab's bridge has {LAST - FIRST + 1} addresses, and all are taken")


def line_argv(line: LineRecord) -> list[str]:
    """Return the command line of a delayed line, half of the delay each way. It makes the interfaces at its ends."""
    filter_ = [packages.find("wirefilter") or "wirefilter", "-d", f"{line.rtt_ms / 2:g}"]
    filter_ += ["-l", f"{line.loss_percent:g}"] if line.loss_percent else []
    filter_ += ["-b", str(line.rate)] if line.rate else []
    plug = packages.find("vde_plug") or "vde_plug"
    ends = f"tap://{near()}", f"tap://{_far()}"
    # Each ends with the one that started it: a plug that is left behind holds its interface, and spins.
    bound = ["setpriv", "--pdeathsig", "KILL"]
    pipe = [packages.find("dpipe") or "dpipe", *bound, plug, ends[0], "=", *bound, *filter_, "=", *bound, plug, ends[1]]
    # dpipe wants a process group, and a session's leader gets none.
    return ["sh", "-c", '"$@"; exit', "line", *bound, *pipe]


def _ip(*words: str) -> None:
    run(as_root(["ip", *words]), what="the lab's bridge")


def _there(interface: str) -> bool:
    return Path("/sys/class/net", interface).exists()


def up(line: LineRecord, asked: LineRecord) -> LineRecord:
    """Have the bridge, and a line to it as ``asked``; ``line`` is the one that may be there."""
    wished = asked.model_copy(update={"process": line.process})
    alive = line.process.alive if line.process else not line.shaped
    if wished == line and alive and _there(near()):
        return line
    inside = _namespace()
    if not Path("/run/netns", inside).exists():
        _ip("netns", "add", inside)
        _ip("-n", inside, "link", "add", "br0", "type", "bridge")
        _ip("-n", inside, "link", "set", "br0", "up")
    _cut()
    process = None
    if asked.shaped:
        log = state.folder() / "line.log"
        process = container._launch(line_argv(asked), log, "the delayed line", "dpipe", f"tap://{near()}")
        if not container._wait(lambda: _there(near()) and _there(_far()), container.START_SECONDS):
            raise LabError(f"the delayed line made no interfaces; its log is {log}")
        _ip("link", "set", _far(), "netns", inside)
    else:
        _ip("link", "add", near(), "type", "veth", "peer", "name", _far(), "netns", inside)
    _ip("address", "add", f"{address(1)}/24", "dev", near())
    _ip("link", "set", near(), "up")
    _ip("-n", inside, "link", "set", _far(), "master", "br0", "up")
    return asked.model_copy(update={"process": process})


def join(guest: ContainerRecord) -> None:
    """Give a container that was started its interface on the bridge. It goes with the container's namespace."""
    own = container._machine(guest.name)
    far = "p" + guest.address.rpartition(".")[2]
    _ip("-n", own, "link", "add", INSIDE, "type", "veth", "peer", "name", far, "netns", _namespace())
    _ip("-n", _namespace(), "link", "set", far, "master", "br0", "up")
    _ip("-n", own, "address", "add", f"{guest.address}/24", "dev", INSIDE)
    _ip("-n", own, "link", "set", INSIDE, "up")


def _cut() -> None:
    for process in container._found("dpipe", f"tap://{near()}"):
        container._stop(process, container.START_SECONDS)
    container._wait(lambda: not _there(near()), 2)  # a tap goes with its program
    if _there(near()):
        _ip("link", "delete", near())


def down() -> None:
    """Take the bridge and the line away, if they are there."""
    _cut()
    if Path("/run/netns", _namespace()).exists():
        _ip("netns", "delete", _namespace())
