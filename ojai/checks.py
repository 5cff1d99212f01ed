"""pytest plugin: a host as its inventory says it should be (``mini.settings``) and as it answers (``mini.run``).

The checks in ``tests/host`` use it, and so can a folder of your own:

    ojai verify inventory/fleet.py --checks my-checks
    pytest -p ojai.checks my-checks --inventory=inventory/fleet.py
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import pytest
from testinfra.backend.base import BaseBackend, CommandResult  # type: ignore[import-untyped]
from testinfra.backend.local import LocalBackend  # type: ignore[import-untyped]
from testinfra.backend.ssh import SshBackend  # type: ignore[import-untyped]
from testinfra.host import Host  # type: ignore[import-untyped]

from ojai.connection import reads
from ojai.connection.answers import marked, prelude
from ojai.connection.likely import likely
from ojai.engines import ResolvedService
from ojai.parameters import find_deploy
from ojai.profiles import Profile
from ojai.pyinfra_runs.drift import UNREACHABLE
from ojai.settings import HostSettings, openssh, parse
from ojai.settings.inventory import Entry, InventoryUnreadableError, locked, read
from ojai.settings.lock import place
from ojai.weights.program import STATE, record_name


class ConnectionLostError(RuntimeError):
    """The host gave no answer any more."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the checks."""
    group = parser.getgroup("ojai")
    group.addoption(
        "--inventory",
        default="inventory/ojai.py",
        help="inventory whose hosts are checked; FILE.json: a list of hosts with name, groups and data",
    )
    group.addoption("--deploy", help="the deploy that must find nothing to change (default: as for `ojai verify`)")
    group.addoption("--limit", action="append", default=[], help="only these hosts or groups, as for pyinfra")
    group.addoption(
        "--disruptive", action="store_true", help="also kill the container and reboot, to see the service come back"
    )
    group.addoption("--deep", action="store_true", help="also hash what is known by size and times only")


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers."""
    config.addinivalue_line("markers", "disruptive: interrupts the service; runs only with --disruptive")
    config.addinivalue_line(
        "markers", "silicon: needs the host's own kernel, its GPU or a running service, which a container has not"
    )
    config.addinivalue_line("markers", "service: needs a running service")


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs the machine itself; skip what interrupts the service, unless asked for."""
    skip = pytest.mark.skip(reason="interrupts the service; --disruptive runs it")
    for item in items:
        if "services" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.silicon)
            item.add_marker(pytest.mark.service)
        if item.get_closest_marker("disruptive") and not config.getoption("--disruptive"):
            item.add_marker(skip)


@dataclass(frozen=True)
class Mini:
    """One host. Commands run as root, over one SSH connection that stays open."""

    entry: Entry
    host: Host

    @property
    def settings(self) -> HostSettings:
        """What the inventory says of it."""
        return self.entry.settings

    @cached_property
    def elsewhere(self) -> dict[str, str]:
        """Caches that are used where they are, by name: those of the inventory, and those that the host adopted."""
        found = self.text("cat /var/lib/ojai/added/caches 2>/dev/null || true").splitlines()
        return {**dict(line.split("=", 1) for line in found if "=" in line), **self.settings.cache_folders}

    def run(self, command: str) -> CommandResult:
        """A command as root. Raises :class:`ConnectionLostError` when the host gives no answer."""
        return self.host.run(command)

    def text(self, command: str) -> str:
        """What a command prints; the check fails, with its error, when the command does."""
        done = self.run(command)
        if done.rc != 0:
            raise AssertionError(f"`{command}` exited {done.rc}: {done.stderr.strip() or done.stdout.strip()}")
        return str(done.stdout.strip())

    def as_user(self, user: str, command: str) -> CommandResult:
        """A command in a fresh login of ``user``, with the groups that such a login has."""
        return self.run(f"runuser -l {shlex.quote(user)} -c {shlex.quote(command)}")


class _Backend:
    """testinfra's, with sudo's password on standard input: every account can read a command line."""

    def __init__(self, *args: Any, password: str | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.password = password
        self.environment: dict[str, str] = {}
        self.ahead: _Ahead | None = None
        self.given = b""

    def get_sudo_command(self, command: str, sudo_user: str | None) -> str:
        command = f"{prelude()} {command}"
        if self.password is None:
            return f"sudo -n /bin/sh -c {shlex.quote(command)}"
        # -k: sudo asks each time; where it does not (NOPASSWD), the command still cannot read the line.
        return f"sudo -k -S -p '' /bin/sh -c {shlex.quote(f'exec </dev/null; {command}')}"

    def run_local(self, command: str, *args: str) -> CommandResult:
        line = command % tuple(shlex.quote(arg) for arg in args) if args else command
        given = self.given if self.password is None else f"{self.password}\n".encode()
        environment = {**os.environ, **self.environment}
        done = subprocess.run(line, shell=True, input=given, env=environment, capture_output=True, check=False)
        output = (_told(text) for text in (done.stdout, done.stderr))
        return CommandResult(cast("BaseBackend", self), done.returncode, line.encode(), *output)


def _told(text: bytes) -> bytes:
    return b"".join(marked(text.splitlines(keepends=True)))


class _Ahead:
    """What the last run of the checks asked the host, asked in one command. An answer serves once: who waits asks on.

    Not with sudo's password, which is given on the standard input that the script would come by.
    """

    def __init__(self, ask: Callable[[str, bytes], CommandResult], file: Path) -> None:
        self.ask, self.file = ask, file
        self.asked: dict[str, None] = {}
        self.answers: dict[str, tuple[int, bytes, bytes]] = {}
        if len(order := [text for text, _ in reads.load(file)]) > 1:
            found = self.ask("sh", reads.script(order, "sh").encode())
            for number, *answer in reads.framed(found.stdout.splitlines()):
                self.answers[order[number]] = cast("tuple[int, bytes, bytes]", tuple(answer))

    def answer(self, command: str) -> tuple[int, bytes, bytes] | None:
        self.asked.setdefault(command)
        return self.answers.pop(command, None)

    def keep(self) -> None:
        reads.save(self.file, [(command, ()) for command in self.asked])


class _Ssh(_Backend, SshBackend):  # type: ignore[misc]
    def run_ssh(self, command: str) -> CommandResult:
        found = self.ahead.answer(command) if self.ahead else None
        if found is None:
            return self.ask(command)
        status, *both = found
        return CommandResult(self, status, command.encode(), *(_told(text) for text in both))

    def ask(self, command: str, given: bytes = b"") -> CommandResult:
        self.given = given
        try:
            return super().run_ssh(command)
        except RuntimeError as error:
            (done,) = error.args
            raise ConnectionLostError(done.stderr.strip()) from None


class _Local(_Backend, LocalBackend):  # type: ignore[misc]
    pass


def ssh_options(data: Mapping[str, Any], folder: Path) -> list[str]:
    """OpenSSH's options for a host, whose socket is in ``folder``."""
    # One connection for all checks: 7 ms a command instead of 200 (testinfra sets no ControlPath of its own).
    return [*openssh.options(data), "ControlMaster=auto", "ControlPersist=60s", f"ControlPath={folder}/%C"]


def _connect(entry: Entry, folder: Path) -> Host:
    data = entry.data
    password = data.get("_sudo_password") or None
    if entry.name == "@local" or entry.name.startswith("@local/"):
        return Host(_Local(sudo=True, password=password))
    if entry.name.startswith("@") and not entry.name.startswith("@ssh/"):
        pytest.fail(f"{entry.name}: cannot be checked: the checks go over SSH, or run on @local", pytrace=False)
    backend = _Ssh(
        openssh.destination(entry.name, data),
        sudo=True,
        password=password,
        ssh_config=data.get("ssh_config_file"),
        ssh_identity_file=data.get("ssh_key"),
        ssh_extra_args=" ".join(f"-o {shlex.quote(option)}" for option in ssh_options(data, folder)),
    )
    backend.environment = openssh.secrets(data, folder)
    return Host(backend)


@pytest.fixture(scope="session")
def sockets() -> Iterator[Path]:
    """A folder of this account's own."""
    with tempfile.TemporaryDirectory(prefix="ojai-") as folder:
        yield Path(folder)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every check for every host."""
    if "entry" not in metafunc.fixturenames:
        return
    try:
        entries = _entries(metafunc.config)
    except InventoryUnreadableError as error:
        raise pytest.UsageError(str(error)) from None
    metafunc.parametrize("entry", entries, ids=[entry.name for entry in entries], scope="session")


def _entries(config: pytest.Config) -> list[Entry]:
    found: list[Entry] | None = getattr(config, "_ojai_entries", None)
    if found is None:
        inventory = config.getoption("--inventory")
        if inventory.endswith(".json"):
            listing = json.loads(Path(inventory).read_text(encoding="utf-8"))
            lock = place(inventory)
            found = [
                Entry(
                    one["name"],
                    tuple(one["groups"]),
                    one["data"],
                    locked(one["name"], parse(one["name"], one["data"]), lock),
                    lock,
                )
                for one in listing
            ]
        else:
            found = read(inventory, tuple(config.getoption("--limit")))
        config._ojai_entries = found  # type: ignore[attr-defined]
    return found


@pytest.fixture(scope="session")
def deploy(pytestconfig: pytest.Config) -> Path:
    """The deploy file that belongs to the inventory."""
    return Path(pytestconfig.getoption("--deploy") or find_deploy(pytestconfig.getoption("--inventory")))


def _ahead(mini: Mini, config: pytest.Config) -> Iterator[Mini]:
    """The host, asked ahead; not where checks change it."""
    backend = mini.host.backend
    wanted = mini.entry.data.get("connector") != "ssh" and not config.getoption("--disruptive")
    if not wanted or not isinstance(backend, _Ssh) or backend.password is not None:
        yield mini
        return
    words = (mini.entry.name, str(backend.host), "checks", config.getoption("--inventory"))
    backend.ahead = _Ahead(backend.ask, reads.list_file(*words))
    yield mini
    backend.ahead.keep()


@pytest.fixture(scope="session")
def mini(entry: Entry, sockets: Path, request: pytest.FixtureRequest) -> Iterator[Mini]:
    """The host, reached and read as root; where that fails and there is no other host, the run ends."""
    if entry.settings.removed:
        pytest.skip("the inventory says `removed`: nothing is served here")
    try:
        found = Mini(entry, _connect(entry, sockets))
        answer = found.run("id -u")
    except ConnectionLostError as error:
        lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("Warning: Perm")]
        fault = f"{UNREACHABLE}: {lines[-1]}. Look in the inventory at {likely(entry.name, entry.data, str(error))}"
    else:
        if answer.rc == 0 and answer.stdout.strip() == "0":
            yield from _ahead(found, request.config)
            return
        todo = (
            "give sudo's password with --use-sudo-password (or as _sudo_password), or give the account sudo without one"
        )
        if "sudo" in answer.stderr and "not found" in answer.stderr:
            todo = "install sudo there (as root: apt install sudo)"
        reason = " ".join(answer.stderr.split()) or f"exit status {answer.rc}"
        fault = f"cannot be read as root: {reason}. What to do: {todo}"
    if len(_entries(request.config)) == 1:
        request.session.shouldfail = fault
    pytest.fail(f"{entry.name}: {fault}", pytrace=False)


@dataclass(frozen=True)
class Served:
    """One service of the host and the profile it serves."""

    mini: Mini
    service: ResolvedService
    profile: Profile

    @property
    def url(self) -> str:
        """Where its API answers, on the host itself."""
        return f"http://127.0.0.1:{self.service.port}"

    @property
    def model(self) -> str:
        """The name that its API gives the model."""
        return self.service.command.served_model_name

    def inspect(self, template: str) -> str:
        """What Docker says of its container."""
        name = shlex.quote(self.service.name)
        return self.mini.text(f"timeout 20 docker container inspect --format {shlex.quote(template)} {name}")


@pytest.fixture(scope="session")
def services(mini: Mini) -> list[Served]:
    """What the host serves. A check that asks for it is skipped where that is nothing."""
    if not mini.settings.services:
        pytest.skip("the inventory names no service")
    return [Served(mini, _fetched(mini, service), service.profile) for service in mini.settings.resolved]


def _fetched(mini: Mini, service: ResolvedService) -> ResolvedService:
    """The service with the commits that the host has recorded of its models."""
    found: dict[str, str] = {}
    for wanted in service.wanted:
        record = shlex.quote(f"{STATE}/{record_name(wanted.model, wanted.revision)}")
        commit = mini.run(f"sed -n 's/^commit\\t//p' {record}").stdout.strip()
        if commit:
            found[wanted.model] = commit
    return service.on_host(None, None, found)
