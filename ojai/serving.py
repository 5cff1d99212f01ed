"""Where a service's API is: that of a host of an inventory, reached through SSH, or a server at a URL."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import click

from ojai.connection.likely import likely
from ojai.engines import ResolvedService
from ojai.parameters import InventoryFile, limit_option, resolved, sudo_password
from ojai.pyinfra_runs.drift import UNREACHABLE
from ojai.settings import openssh
from ojai.settings.inventory import Entry

if TYPE_CHECKING:
    import openai

_Command = TypeVar("_Command", bound=Callable[..., Any])

#: What the host says once the forwarded ports are open; a login may print anything before it.
_READY = "ojai-ready"

#: What a service's key is printed behind, by root: of its environment file the last line counts, as for docker.
_KEY = "ojai-key="

#: Seconds for the question whether a server asks for a key.
_PATIENCE = 20


class NotReachedError(Exception):
    """A host, or its key, cannot be come by; the message has the host, what was found and what to do."""


@dataclass(frozen=True)
class Server:
    """A server that speaks OpenAI's API.

    + name: how to call it: host and service, or its URL
    + url: its root, without ``/v1``: ``/metrics`` is under it
    + model: the id of the model to ask for
    + key: what it asks clients for
    + service: what the inventory says of it
    + direct: no proxy of this computer is between
    """

    name: str
    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    service: ResolvedService | None = None
    direct: bool = True

    @property
    def base_url(self) -> str:
        """The address that OpenAI's clients are given."""
        return f"{self.url}/v1"

    def client(self, timeout: float) -> openai.OpenAI:
        """OpenAI's client for it: without retries, which would hide faults, and with this key whatever OPENAI_* say."""
        # Imported when needed: it takes a second.
        from openai import DefaultHttpx2Client, OpenAI

        def only_this_key(request: Any) -> None:
            for name in ("openai-organization", "openai-project"):
                request.headers.pop(name, None)
            # Where a redirect leads to somebody else, the client has taken it away.
            if "authorization" in request.headers:
                request.headers["authorization"] = f"Bearer {self.key or 'none'}"

        sender = DefaultHttpx2Client(trust_env=not self.direct, event_hooks={"request": [only_this_key]})
        return OpenAI(
            base_url=self.base_url, api_key=self.key or "none", timeout=timeout, max_retries=0, http_client=sender
        )


@dataclass(frozen=True)
class Place:
    """A host of an inventory, or a server at a URL: one of them is None. ``key``: instead of the host's own."""

    name: str
    entry: Entry | None = None
    server: Server | None = None
    key: str | None = field(default=None, repr=False)

    @contextmanager
    def reach(self) -> Iterator[list[Server]]:
        """Its servers, within reach as long as the context lasts. Raises :class:`NotReachedError`."""
        if self.server:
            yield [self.server]
        elif self.entry:
            with _reached(self.entry, self.key) as servers:
                yield servers


def server_options(command: _Command) -> _Command:
    """The parameters of a command that talks to servers, for :func:`places`."""
    for decorate in reversed(
        (
            click.argument("inventory", type=InventoryFile(), required=False),
            limit_option,
            click.option("--url", metavar="URL", help="Instead of INVENTORY: a server that speaks OpenAI's API."),
            click.option("--model", metavar="ID", help="With --url: the model to ask for."),
            click.option(
                "--key-env",
                metavar="NAME",
                help="The environment variable with the server's API key. [default: on the hosts of INVENTORY, the key "
                "of the service]",
            ),
            click.option(
                "--use-sudo-password",
                is_flag=True,
                help="Ask for sudo's password, once for all hosts; it is needed to read a service's API key.",
            ),
        )
    ):
        command = decorate(command)
    return command


def places(
    inventory: str | None,
    limit: tuple[str, ...],
    url: str | None,
    model: str | None,
    key_env: str | None,
    use_sudo_password: bool,
) -> list[Place]:
    """Where to ask, from the :func:`server_options`. Raises ``click.UsageError``."""
    if (inventory is None) == (url is None):
        raise click.UsageError(f"found {'both' if url else 'neither'}; give INVENTORY, or --url and --model")
    key = os.environ.get(key_env) if key_env else None
    if key_env and not key:
        raise click.UsageError(f"--key-env {key_env}: there is no such environment variable, or it is empty")
    if url is not None:
        if model is None:
            raise click.UsageError("--url: give --model too; URL/v1/models lists what the server has")
        if limit or use_sudo_password:
            raise click.UsageError("--limit and --use-sudo-password are for the hosts of an INVENTORY")
        return [Place(url, server=Server(url, _root(url), model, key, direct=False))]
    if model is not None:
        raise click.UsageError("--model is for --url; the inventory says which models its hosts serve")
    _, entries = resolved(str(inventory), limit)
    if use_sudo_password:
        password = sudo_password()
        entries = [replace(entry, data={**entry.data, "_sudo_password": password}) for entry in entries]
    return [Place(entry.name, entry=entry, key=key) for entry in entries]


def _root(url: str) -> str:
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is none, half an IPv6 address
        known = None
    if not known or parts.query or parts.fragment:
        raise click.UsageError(f"--url: found {url}; expected an address such as http://127.0.0.1:8000")
    if "@" in parts.netloc:
        raise click.UsageError("--url: found a user or password in it; give the server's key by --key-env")
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


@contextmanager
def _reached(entry: Entry, key: str | None) -> Iterator[list[Server]]:
    services = () if entry.settings.removed else entry.settings.resolved
    if not services:
        raise NotReachedError(f"{entry.name}: the inventory names no service here")
    if entry.name == "@local" or entry.name.startswith("@local/"):
        addresses = [f"http://{service.address}:{service.port}" for service in services]
        yield [_server(entry, *one, key, ["sh", "-c"]) for one in zip(services, addresses, strict=True)]
        return
    if entry.name.startswith("@") and not entry.name.startswith("@ssh/"):
        raise NotReachedError(f"{entry.name}: cannot be asked: found neither SSH nor @local")
    if shutil.which("ssh") is None:
        raise NotReachedError("this computer has no ssh, by which hosts are reached: apt install openssh-client")
    with tempfile.TemporaryDirectory(prefix="ojai-") as folder:
        # No socket that is shared with other connections: what is forwarded here must end with this one.
        ssh = ["ssh", "-T"]
        for option in ("ControlMaster=no", "ControlPath=none", "RemoteCommand=none", *openssh.options(entry.data)):
            ssh += ["-o", option]
        for flag, name in (("-F", "ssh_config_file"), ("-i", "ssh_key")):
            ssh += [flag, str(entry.data[name])] if entry.data.get(name) else []
        environment = {**os.environ, **openssh.secrets(entry.data, Path(folder))}
        destination = openssh.destination(entry.name, entry.data)
        with _tunnel(entry, ssh, destination, services, environment, Path(folder) / "errors") as (addresses, errors):
            servers = []
            for service, address in zip(services, addresses, strict=True):
                servers.append(_server(entry, service, address, key, [*ssh, destination], environment))
                if "prohibited" in (said := errors.read_text(errors="replace")):
                    raise NotReachedError(
                        f"{entry.name}: its sshd forwards no ports: {said.strip().splitlines()[-1]}. What to do: set "
                        "AllowTcpForwarding in its sshd_config, or ask the service by --url"
                    )
            yield servers


def _server(
    entry: Entry,
    service: ResolvedService,
    address: str,
    key: str | None,
    shell: list[str],
    environment: dict[str, str] | None = None,
) -> Server:
    """A service within reach, with its key where it asks for one."""
    if key is None and _asks_for_a_key(f"{address}{service.engine.api.models}"):
        key = _key(entry, service, shell, environment)
    return Server(f"{entry.name} {service.name}", address, service.command.served_model_name, key, service)


def _asks_for_a_key(url: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=_PATIENCE):
            return False
    except urllib.error.HTTPError as error:
        return error.code == 401
    except (OSError, ValueError):
        return False  # whoever asks next is told


def _key(entry: Entry, service: ResolvedService, shell: list[str], environment: dict[str, str] | None) -> str:
    password = entry.data.get("_sudo_password")
    sudo = "sudo -n" if password is None else "sudo -k -S -p ''"
    variable = service.engine.key_variable
    # Its own file has the key alone.
    told = [f"s/^/{_KEY}/p", service.key_file] if service.key_file else [f"s/^{variable}=/{_KEY}/p", service.env_file]
    read = shlex.join(["sed", "-n", *told])
    done = subprocess.run(
        [*shell, f'if [ "$(id -u)" = 0 ]; then {read}; else {sudo} {read}; fi'],
        input=f"{password or ''}\n",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line.removeprefix(_KEY) for line in done.stdout.splitlines() if line.startswith(_KEY)]
    if key := lines[-1].strip() if lines else None:
        return key
    found = " ".join(done.stderr.split()) or f"no {variable} in {told[1]}"
    raise NotReachedError(
        f"{entry.name}: {service.name} asks for an API key, which cannot be read: {found}. What to do: give the key by "
        "--key-env, or sudo's password by --use-sudo-password"
    )


@contextmanager
def _tunnel(
    entry: Entry,
    ssh: list[str],
    destination: str,
    services: tuple[ResolvedService, ...],
    environment: dict[str, str],
    errors: Path,
) -> Iterator[tuple[list[str], Path]]:
    """An address of this computer for each service, and the file with what ssh complains of.

    It ends with this process, however that ends: the host reads its standard input to the end.
    """
    ports = _free_ports(len(services))
    argv = [*ssh, "-o", "ExitOnForwardFailure=yes"]
    for port, service in zip(ports, services, strict=True):
        argv += ["-L", f"127.0.0.1:{port}:{service.address}:{service.port}"]
    argv += [destination, f"echo {_READY}; exec cat >/dev/null"]
    with (
        errors.open("w") as complaints,
        subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, env=environment, text=True
        ) as process,
    ):
        try:
            if not any(_READY in line for line in process.stdout or ()):
                said = [line for line in errors.read_text(errors="replace").splitlines() if line.strip()]
                told = [line for line in said if not line.startswith("Warning: Perm")] or ["no answer"]
                raise NotReachedError(
                    f"{entry.name}: {UNREACHABLE}: {told[-1]}. Look in the inventory at "
                    f"{likely(entry.name, entry.data, ' '.join(said))}"
                )
            yield [f"http://127.0.0.1:{port}" for port in ports], errors
        finally:
            if process.stdin:
                process.stdin.close()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()


def _free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody has. Where somebody is faster, ssh ends and says so."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
