"""What the lab is made of, on disk: which hosts, ports, keys and stand-ins there are. The API for others.

>>> from ojai.lab import state
>>> lab = state.load()            # LabDownError when nothing is up
>>> lab.hosts[0].address, lab.hosts[0].port, lab.hosts[0].user
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ojai.lab.errors import LabDownError, LabError
from ojai.lab.shell import lock
from ojai.lab.suites import STAND_IN, of

__all__ = [
    "ContainerRecord",
    "HostRecord",
    "LabContainer",
    "LabDownError",
    "LabHost",
    "LabState",
    "Process",
    "Records",
    "Upstreams",
    "folder",
    "load",
    "locked",
    "parse_size",
    "read",
    "show_size",
    "write",
]

GUEST_VIEW = "10.0.2.2"
"""The machine that runs the lab, as a guest on user-mode networking sees it (QEMU's and a container's are alike)."""
USER = "ojai"
SHORT = Path("/tmp")
"""Where sockets go when the state folder's name is too long for them."""
DEFAULT_CARVEOUT = 64 << 30
DEFAULT_MEMORY = 3072 << 20
LEAST_MEMORY = 1 << 30
HOST_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}")

UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_size(text: str) -> int:
    """Return bytes for a size such as `64GiB`, `16G`, `512 MiB` or `68719476736` (units are powers of 1024)."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([KMGT])(?:i?B)?|B)?\s*", text, re.IGNORECASE)
    if not match:
        raise LabError(f"size {text!r} is not understood: write it like 64GiB, 512MiB or a number of bytes")
    value = float(match.group(1)) * UNITS[(match.group(2) or "").upper()]
    if value != int(value):
        raise LabError(f"size {text!r} is not a whole number of bytes")
    return int(value)


def show_size(size: int) -> str:
    """Return a size in the largest unit that divides it, as `64GiB`."""
    for unit in ("T", "G", "M", "K"):
        if size and size % UNITS[unit] == 0:
            return f"{size // UNITS[unit]}{unit}iB"
    return f"{size}B"


class Frozen(BaseModel):
    """Base of everything here: frozen, and unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Process(Frozen):
    """One process that the lab started; `started` (clock ticks since boot) tells it from a later one."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process:
        """Return the record of a process that is running now."""
        started = _start_time(pid)
        if started is None:
            raise LabError(f"process {pid} ended as soon as it was started")
        return cls(pid=pid, started=started)

    @property
    def alive(self) -> bool:
        """Tell whether this very process still runs (a zombie does not)."""
        return _start_time(self.pid) == self.started

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout_seconds: float = 10) -> None:
        """Send a signal and wait; SIGKILL after `patience` seconds. Never touches another process."""
        for each in (number, signal.SIGKILL):
            if not self.alive:
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, each)
            end = time.monotonic() + timeout_seconds
            while self.alive and time.monotonic() < end:
                time.sleep(0.05)


def _start_time(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


class HostRecord(Frozen):
    """One lab host as it is kept in state.json. ``gateway``: the port here that leads to its gateway, 0 at first."""

    address: ClassVar[str] = "127.0.0.1"

    name: str
    suite: str = STAND_IN
    port: int
    gateway: int = 0
    uuid: str
    image: Path
    engine: str = "overlay2"
    carveout_bytes: int = DEFAULT_CARVEOUT
    memory_bytes: int = DEFAULT_MEMORY
    cpus: int = 2
    process: Process | None = None


class ContainerRecord(Frozen):
    """One container as it is kept in state.json. ``process`` is systemd-nspawn, ``network`` is slirp4netns.

    ``address``: 127.0.0.1, whose ``port`` is passed on; or its own on the lab's bridge.
    """

    name: str
    suite: str = STAND_IN
    address: str = "127.0.0.1"
    port: int
    gateway: int = 0
    engine: str = "overlay2"
    process: Process | None = None
    network: Process | None = None

    @property
    def on_bridge(self) -> bool:
        """Tell whether it has an address of its own."""
        return self.address != HostRecord.address


class ServiceRecord(Frozen):
    """One stand-in service: the port stays the same between runs, since guests have it on disk."""

    port: int
    process: Process | None = None


class LineRecord(Frozen):
    """The line from this machine to the lab's bridge: what it adds to a round trip, the share that it loses, and the
    most bytes a second that it carries (0: as many as come)."""

    rtt_ms: int = 0
    loss_percent: float = 0
    rate: int = 0
    process: Process | None = None

    @property
    def shaped(self) -> bool:
        """Tell whether it is another line than a plain one."""
        return bool(self.rtt_ms or self.loss_percent or self.rate)


class Records(Frozen):
    """All of state.json."""

    schema_version: int = 1
    hosts: dict[str, HostRecord] = Field(default_factory=dict)
    containers: dict[str, ContainerRecord] = Field(default_factory=dict)
    line: LineRecord | None = None
    rocm: ServiceRecord | None = None
    registry: ServiceRecord | None = None
    hub: ServiceRecord | None = None
    hub_files: ServiceRecord | None = None
    rocm_fingerprint: str | None = None
    images: dict[str, str] = Field(default_factory=dict)

    @property
    def guests(self) -> dict[str, HostRecord | ContainerRecord]:
        """Virtual machines and containers alike: what has a name and a port for SSH."""
        return {**self.hosts, **self.containers}

    @property
    def idle(self) -> bool:
        """Tell whether no guest runs."""
        return not any(guest.process and guest.process.alive for guest in self.guests.values())


class LabContainer(Frozen):
    """One container of the lab as others use it."""

    name: str
    suite: str
    address: str
    port: int
    gateway: int
    user: str
    key: Path
    known_hosts: Path
    ssh_config: Path
    engine: str
    running: bool

    @property
    def inventory(self) -> dict[str, object]:
        """What an inventory says of the guest: settings that its suite needs."""
        return of(self.suite).inventory


class LabHost(LabContainer):
    """One virtual machine of the lab as others use it."""

    carveout_bytes: int
    memory_bytes: int


class Upstreams(Frozen):
    """The stand-ins for the outside; URLs are as a guest sees them, `registry_local` as this machine does."""

    rocm_url: str
    rocm_fingerprint: str
    registry_mirror: str
    registry_local: str
    images: dict[str, str]
    hub_url: str
    hub_local: str


class LabState(Frozen):
    """The lab as it is now."""

    hosts: tuple[LabHost, ...]
    upstreams: Upstreams
    containers: tuple[LabContainer, ...] = ()

    def host(self, name: str) -> LabHost:
        """Return the host of that name; LabError names those that there are."""
        for host in self.hosts:
            if host.name == name:
                return host
        known = ", ".join(host.name for host in self.hosts) or "none"
        raise LabError(f"there is no lab host {name!r} (there are: {known}); run `ojai lab up {name}`")


def folder() -> Path:
    """Return the lab's state folder: $OJAI_LAB_DIR, .lab in a checkout, or ojai/lab in $XDG_STATE_HOME."""
    own = os.environ.get("OJAI_LAB_DIR")
    if own:
        return Path(own).expanduser().resolve()
    checkout = Path(__file__).resolve().parents[1]
    if (checkout / "pyproject.toml").is_file():
        return checkout / ".lab"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "ojai" / "lab"


def runtime_folder() -> Path:
    """Return a private folder for sockets, whose paths are limited to 107 bytes: in the state folder if that is short.

    ssh's own sockets take 58 characters after the folder's name.
    """
    path = folder() / "run"
    if len(str(path)) > 107 - 58:
        path = SHORT / f"ojai-lab-{os.getuid()}-{hashlib.sha256(str(folder()).encode()).hexdigest()[:10]}"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.is_symlink() or path.stat().st_uid != os.getuid():
        raise LabError(f"{path} belongs to someone else; set OJAI_LAB_DIR to a folder with a shorter name")
    return path


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Hold this lab's lock: one `up`, `down`, `snapshot` … at a time."""
    folder().mkdir(parents=True, exist_ok=True)
    with (folder() / "lock").open("w") as handle:
        lock(handle, "this lab")
        yield


def read() -> Records:
    """Return state.json, or empty records when there is none yet."""
    path = folder() / "state.json"
    try:
        return Records.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Records()
    except ValidationError as bad:
        raise LabError(
            f"{path} is not a lab state of this version ({bad.errors()[0]['msg']}). Stop what it names, "
            f"remove {path.parent} and run `ojai lab up` again"
        ) from bad


def write(records: Records) -> None:
    """Write state.json in one rename."""
    path = folder() / "state.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(records.model_dump(mode="json"), indent=2) + "\n")
    fresh.replace(path)


def _reach(home: Path, guest: HostRecord | ContainerRecord) -> dict[str, Any]:
    """How to log in to a guest."""
    return {
        "name": guest.name,
        "suite": guest.suite,
        "address": guest.address,
        "port": guest.port,
        "gateway": guest.gateway,
        "user": USER,
        "key": home / "keys" / "login",
        "known_hosts": home / "known_hosts",
        "ssh_config": home / "ssh_config",
        "engine": guest.engine,
        "running": bool(guest.process and guest.process.alive),
    }


def view(records: Records) -> LabState | None:
    """Return what others see of the records; None while the stand-ins have never been started."""
    if not (records.rocm and records.registry and records.hub and records.rocm_fingerprint):
        return None
    home = folder()
    return LabState(
        hosts=tuple(
            LabHost(**_reach(home, host), carveout_bytes=host.carveout_bytes, memory_bytes=host.memory_bytes)
            for host in records.hosts.values()
        ),
        containers=tuple(LabContainer(**_reach(home, container)) for container in records.containers.values()),
        upstreams=Upstreams(
            rocm_url=f"http://{GUEST_VIEW}:{records.rocm.port}",
            rocm_fingerprint=records.rocm_fingerprint,
            registry_mirror=f"http://{GUEST_VIEW}:{records.registry.port}",
            registry_local=f"127.0.0.1:{records.registry.port}",
            images=records.images,
            hub_url=f"http://{GUEST_VIEW}:{records.hub.port}",
            hub_local=f"http://127.0.0.1:{records.hub.port}",
        ),
    )


def load() -> LabState:
    """Return the running lab; raise LabDownError when no virtual machine of it runs."""
    lab = view(read())
    if lab is None or not any(host.running for host in lab.hosts):
        raise LabDownError("the lab is not up: run `ojai lab up` (or `make lab`) first")
    return lab
