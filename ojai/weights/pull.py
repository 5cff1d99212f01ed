"""Have the Docker daemon pull an image, and tell how far it is in bytes. Runs on the host, from the file of ``pack``.

The one argument is the image. Secrets come as JSON on standard input: ``login``, the user and password of the image's
registry, and ``environment``, variables such as proxies. The daemon gets the login with the request, and keeps it
nowhere. Without one, root's own logins are used as ``docker pull`` does.

The daemon says how large a layer is when it begins with it. So that the whole is known before that, the registry is
asked for the image's manifest; if it gives none, the layers that began are told.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from ojai.weights.program import Progress, amount, duration, measured_line, trust

SOCKET = "/var/run/docker.sock"

#: Where it says how far it is.
STATUS = "/run/ojai-pull"

#: Docker Hub by the names that references, registries and logins have for it.
HUB, HUB_SERVER, HUB_LOGIN = "docker.io", "https://registry-1.docker.io", "https://index.docker.io/v1/"

_ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)

#: Bytes of a layer's digest in the daemon's messages.
_SHORT = 12


class PullError(Exception):
    """What the daemon said."""


@dataclass(frozen=True)
class Image:
    """A reference in parts, with what Docker leaves out."""

    registry: str
    name: str
    version: str

    @classmethod
    def of(cls, reference: str) -> Image:
        """The parts. A digest counts before a tag."""
        rest, _, digest = reference.partition("@")
        first, slash, path = rest.partition("/")
        named = slash and ("." in first or ":" in first or first == "localhost")
        registry, path = (first, path) if named else (HUB, rest)
        path, _, tag = path.partition(":")
        if registry == HUB and "/" not in path:
            path = f"library/{path}"
        return cls(registry, path, digest or tag or "latest")


def registry_of(reference: str) -> str:
    """The registry that an image is pulled from, as images name it."""
    return Image.of(reference).registry


class _Daemon(http.client.HTTPConnection):
    def __init__(self) -> None:
        super().__init__("docker")

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(SOCKET)


def version() -> str:
    """The beginning of the API's paths. Only the daemon's own newest version is sure to be there."""
    daemon = _Daemon()
    daemon.request("GET", "/_ping")
    known = daemon.getresponse().getheader("Api-Version")
    return f"/v{known}" if known else ""


def info() -> dict[str, Any]:
    """What the daemon says of itself."""
    daemon = _Daemon()
    daemon.request("GET", f"{version()}/info")
    found: dict[str, Any] = json.load(daemon.getresponse())
    return found


def login_of(image: Image, folder: Path) -> dict[str, str]:
    """The login that root has for the registry, as the client of Docker finds it in its folder; {} without one."""
    server = HUB_LOGIN if image.registry == HUB else image.registry
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return {}
    helper = config.get("credHelpers", {}).get(server) or config.get("credsStore")
    if helper:
        try:
            asked = [f"docker-credential-{helper}", "get"]
            said = subprocess.run(asked, input=server, capture_output=True, text=True, timeout=30, check=True).stdout
            found = json.loads(said)
            if found["Username"] == "<token>":
                return {"identitytoken": found["Secret"]}
            return {"username": found["Username"], "password": found["Secret"]}
        except (OSError, ValueError, KeyError, subprocess.SubprocessError):
            return {}
    entry = config.get("auths", {}).get(server) or config.get("auths", {}).get(f"https://{server}") or {}
    if token := entry.get("identitytoken"):
        return {"identitytoken": token}
    with suppress(ValueError):
        user, colon, password = base64.b64decode(entry.get("auth", "")).decode().partition(":")
        if colon:
            return {"username": user, "password": password.rstrip("\0")}
    return {}


def layers(image: Image, login: Mapping[str, str], about: Mapping[str, Any]) -> dict[str, int]:
    """The sizes of the image's layers by the beginning of their digests; {} where no registry tells them."""
    registries = about.get("RegistryConfig") or {}
    servers = [HUB_SERVER] if image.registry == HUB else [f"https://{image.registry}"]
    if not (registries.get("IndexConfigs") or {}).get(image.registry, {}).get("Secure", True) or re.match(
        r"(localhost|127\.0\.0\.1)(:|$)", image.registry
    ):
        servers.append(f"http://{image.registry}")
    mirrors = registries.get("Mirrors") or () if image.registry == HUB else ()
    for server in (*(mirror.rstrip("/") for mirror in mirrors), *servers):
        with suppress(Exception):  # it is only for the display; the pull itself says what is wrong
            found = _manifest(server, image.name, image.version, login if server in servers else {})
            return {layer["digest"].partition(":")[2][:_SHORT]: layer["size"] for layer in found["layers"]}
    return {}


def _manifest(server: str, name: str, version: str, login: Mapping[str, str]) -> dict[str, Any]:
    import requests

    auth = (login["username"], login["password"]) if "password" in login else None
    with requests.Session() as session:
        session.headers["Accept"] = _ACCEPT
        for _ in range(3):
            answer = session.get(f"{server}/v2/{name}/manifests/{version}", timeout=10)
            challenge = answer.headers.get("WWW-Authenticate", "")
            if answer.status_code == 401 and challenge.lower().startswith("bearer"):
                words = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
                asked = {key: words[key] for key in ("service", "scope") if key in words}
                given = session.get(words["realm"], params=asked, auth=auth, timeout=10).json()
                session.headers["Authorization"] = f"Bearer {given.get('token') or given['access_token']}"
                continue
            if answer.status_code == 401 and session.auth is None:
                session.auth = auth
                continue
            answer.raise_for_status()
            found: dict[str, Any] = answer.json()
            if "layers" in found:
                return found
            for one in found["manifests"]:
                platform = one.get("platform") or {}
                if (platform.get("os"), platform.get("architecture")) == ("linux", "amd64"):
                    version = one["digest"]
    raise ValueError("no manifest")


@dataclass
class Pull:
    """What is known of the layers: ``sizes``, what has ``come`` of each, and those that are ``ready``."""

    reference: str
    sizes: dict[str, int]
    come: dict[str, int] = field(default_factory=dict)
    ready: set[str] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)

    def hear(self, message: Mapping[str, Any]) -> None:
        """One message of the daemon. Raises :class:`PullError`."""
        if "error" in message:
            raise PullError(message["error"])
        layer, status = message.get("id", ""), message.get("status", "")
        if not re.fullmatch(r"[0-9a-f]{12}", layer):
            return
        self.seen.add(layer)
        detail = message.get("progressDetail") or {}
        if status == "Downloading" and detail.get("current"):
            self.come[layer] = detail["current"]
            if detail.get("total", 0) > 0:
                self.sizes[layer] = detail["total"]
        elif status in ("Download complete", "Pull complete", "Verifying Checksum") and layer in self.sizes:
            self.come.setdefault(layer, 0)
            if self.come[layer]:
                self.come[layer] = self.sizes[layer]
        elif status == "Already exists":
            self.sizes.pop(layer, None)
        if status in ("Pull complete", "Already exists"):
            self.ready.add(layer)

    @property
    def fetched(self) -> int:
        """Bytes that have come."""
        return sum(self.come.values())

    @property
    def total(self) -> int:
        """Bytes that are to come in all, as far as is known."""
        return sum(self.sizes.values())


def messages(reference: str, login: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """What the daemon says while it pulls. Raises :class:`PullError` if it refuses."""
    name, _, _ = reference.partition("@")
    if ":" in name.rpartition("/")[2]:
        name = name.rpartition(":")[0]
    query = urlencode({"fromImage": name, "tag": Image.of(reference).version})
    headers = {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(dict(login)).encode()).decode()}
    daemon = _Daemon()
    daemon.request("POST", f"{version()}/images/create?{query}", headers=headers)
    answer = daemon.getresponse()
    if answer.status != 200:
        raise PullError(json.loads(answer.read() or b"{}").get("message", answer.reason))
    while line := answer.readline():
        if line.strip():
            yield json.loads(line)


def run(reference: str, login: Mapping[str, str], status: Path) -> str:
    """Pull it; what was fetched, in a sentence. Raises :class:`PullError`."""
    image = Image.of(reference)
    about = info()
    if not login:
        login = login_of(image, Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker"))
    server = HUB_LOGIN if image.registry == HUB else image.registry
    pull = Pull(reference, layers(image, login, about))
    began = time.monotonic()
    last = began
    with Progress(status, f"asking for {reference}") as progress:
        for message in messages(reference, {**login, "serveraddress": server} if login else {}):
            before = pull.fetched
            pull.hear(message)
            if pull.fetched > before:
                last = time.monotonic()
            if pull.fetched and not before:
                progress.begin(f"pulling {reference}", pull.total, lambda: pull.fetched)
            elif pull.fetched < pull.total:
                progress.total = pull.total if progress.total else 0
            elif pull.fetched:
                ready = f"{len(pull.ready)} of {len(pull.seen)} layers"
                progress.begin(f"unpacking {reference}: {ready}", 0, lambda: 0)
    seconds = last - began
    if not pull.fetched:
        return f"{reference}: nothing to fetch"
    measured_line(pull.fetched, seconds)
    return (
        f"{reference}: {amount(pull.fetched)} in {len(pull.come)} layers fetched in {duration(seconds)}, "
        f"{amount(pull.fetched / max(seconds, 0.001))}/s"
    )


def main() -> int:
    """Pull the image that the arguments name."""
    hidden = json.loads(sys.stdin.read() or "{}")
    os.environ.update(hidden.get("environment") or {})
    trust()
    try:
        print(run(sys.argv[2], hidden.get("login") or {}, Path(STATUS)), flush=True)
    except PullError as error:
        print(f"Error response from daemon: {error}", file=sys.stderr, flush=True)
        return 1
    except OSError as error:
        print(f"Cannot connect to the Docker daemon at unix://{SOCKET}: {error}", file=sys.stderr, flush=True)
        return 1
    return 0
