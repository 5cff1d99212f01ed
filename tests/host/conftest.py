"""A host as its inventory says it should be (``mini.settings``) and as it answers (``mini.run``)."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import testinfra
from testinfra.backend.base import CommandResult

from ojai.profiles import Profile, load
from ojai.resources import DEPLOY
from ojai.settings import HostSettings, Service
from ojai.settings.inventory import Entry, InventoryUnreadableError, read


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("ojai")
    group.addoption("--inventory", default="inventory/ojai.py", help="inventory whose hosts are checked")
    group.addoption("--deploy", default=str(DEPLOY), help="the deploy that must find nothing to change")
    group.addoption("--limit", action="append", default=[], help="only these hosts or groups, as for pyinfra")
    group.addoption("--host", help="only the host of exactly this name (a group may be called like a host)")
    group.addoption(
        "--disruptive", action="store_true", help="also kill the container and reboot, to see the service come back"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "disruptive: interrupts the service; runs only with --disruptive")
    config.addinivalue_line(
        "markers", "silicon: needs the host's own kernel, its GPU or a running service, which a container has not"
    )


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "services" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.silicon)
    if not config.getoption("--disruptive"):
        skip = pytest.mark.skip(reason="interrupts the service; --disruptive runs it")
        for item in items:
            if item.get_closest_marker("disruptive"):
                item.add_marker(skip)


@dataclass(frozen=True)
class Mini:
    """One host. Commands run as root, over one SSH connection that stays open."""

    entry: Entry
    host: testinfra.host.Host

    @property
    def settings(self) -> HostSettings:
        return self.entry.settings

    def run(self, command: str) -> CommandResult:
        return self.host.run(command)

    def text(self, command: str) -> str:
        """What a command prints; the check fails, with its error, when the command does."""
        done = self.host.run(command)
        assert done.rc == 0, f"`{command}` exited {done.rc}: {done.stderr.strip() or done.stdout.strip()}"
        return done.stdout.strip()

    def as_user(self, user: str, command: str) -> CommandResult:
        """A command in a fresh login of ``user``, with the groups that such a login has."""
        return self.host.run(f"runuser -l {shlex.quote(user)} -c {shlex.quote(command)}")


def _connect(entry: Entry, sockets: Path) -> testinfra.host.Host:
    data = entry.data
    if entry.name == "@local" or entry.name.startswith("@local/"):
        return testinfra.get_host("local://", sudo=True)
    address = data.get("ssh_hostname") or entry.name
    spec = f"ssh://{data['ssh_user']}@{address}" if data.get("ssh_user") else f"ssh://{address}"
    if data.get("ssh_port"):
        spec += f":{data['ssh_port']}"
    # One connection for all checks: 7 ms a command instead of 200 (testinfra sets no ControlPath of its own).
    # A host that goes silent after the login ends the checks, by name, after a minute.
    extra = "-o ServerAliveInterval=15 -o ServerAliveCountMax=4 "
    extra += f"-o BatchMode=yes -o ControlMaster=auto -o ControlPersist=60s -o ControlPath={sockets}/%C"
    if data.get("ssh_known_hosts_file"):
        extra += f" -o UserKnownHostsFile={data['ssh_known_hosts_file']}"
    if data.get("ssh_strict_host_key_checking"):
        extra += f" -o StrictHostKeyChecking={data['ssh_strict_host_key_checking']}"
    return testinfra.get_host(spec, sudo=True, ssh_identity_file=data.get("ssh_key"), ssh_extra_args=extra, timeout=30)


@pytest.fixture(scope="session")
def sockets() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ojai-") as folder:
        yield Path(folder)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "entry" not in metafunc.fixturenames:
        return
    try:
        entries = _entries(metafunc.config)
    except InventoryUnreadableError as error:
        raise pytest.UsageError(str(error)) from None
    metafunc.parametrize("entry", entries, ids=[entry.name for entry in entries], scope="session")


def _entries(config: pytest.Config) -> list[Entry]:
    found = getattr(config, "_ojai_entries", None)
    if found is None:
        found = read(config.getoption("--inventory"), tuple(config.getoption("--limit")))
        if config.getoption("--host"):
            found = [entry for entry in found if entry.name == config.getoption("--host")]
        config._ojai_entries = found  # type: ignore[attr-defined]
    return found


@pytest.fixture(scope="session")
def mini(entry: Entry, sockets: Path) -> Mini:
    if entry.settings.removed:
        pytest.skip("the inventory says `removed`: nothing is served here")
    host = _connect(entry, sockets)
    try:
        answer = host.run("id -u")
    except Exception as error:
        pytest.fail(f"{entry.name}: cannot be reached: {error}", pytrace=False)
    if answer.rc != 0 or answer.stdout.strip() != "0":
        pytest.fail(
            f"{entry.name}: cannot be read as root (exit {answer.rc}: {answer.stderr.strip()}). Wanted: a login with "
            "passwordless sudo. What to do: check the address, the key and `sudo -n true` for that account.",
            pytrace=False,
        )
    return Mini(entry, host)


@dataclass(frozen=True)
class Served:
    """One service of the host and the profile it serves."""

    mini: Mini
    service: Service
    profile: Profile

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.service.port}"

    @property
    def model(self) -> str:
        return self.mini.settings.command(self.service).served_model_name

    def inspect(self, template: str) -> str:
        name = shlex.quote(self.service.name)
        return self.mini.text(f"timeout 20 docker container inspect --format {shlex.quote(template)} {name}")


@pytest.fixture(scope="session")
def services(mini: Mini) -> list[Served]:
    return [Served(mini, service, load(service.profile)) for service in mini.settings.services]
