"""What registries and the hub have (digests, sizes, commits), and what the line to them gives. Runs on the host.

The host asks, because it is the one that will fetch: its mirrors, its proxy, its network. The request is JSON in the
one argument; logins and tokens, which are secret, come as JSON on standard input. The answer is JSON on standard
output. Nothing is written. Python's own library is enough: it runs before anything of ours is on the host.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

SOCKET = "/var/run/docker.sock"

#: Docker Hub by the names that references, registries and logins have for it.
HUB, HUB_SERVER, HUB_LOGIN = "docker.io", "https://registry-1.docker.io", "https://index.docker.io/v1/"

#: The forms of a manifest; a list comes first, as for `docker pull`.
MANIFESTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)

#: Where Docker finds the authorities of a registry, in a folder by its name.
CERTIFICATES = Path("/etc/docker/certs.d")

#: Seconds without an answer after which a server is given up.
TIMEOUT = 20.0

#: What is read to measure a line, and thrown away: bytes and seconds at most. Who reads, so that servers can tell.
SAMPLE, SECONDS, AGENT = 32 << 20, 3.0, "ojai-sample"

#: Bytes, below which nothing is learned of a line.
ENOUGH = 5_000_000

#: What goes wrong where a server does not answer, or not as it should.
FAULTS = (OSError, ValueError, KeyError, TypeError, http.client.HTTPException)

#: Samples are read one after another: two at a time would share the line.
_LINE = threading.Lock()


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
        registry = HUB if registry == f"index.{HUB}" else registry
        path, _, tag = path.partition(":")
        if registry == HUB and "/" not in path:
            path = f"library/{path}"
        return cls(registry, path, digest or tag or "latest")


class Daemon(http.client.HTTPConnection):
    """The Docker daemon, by its socket."""

    def __init__(self) -> None:
        super().__init__("docker", timeout=None)

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(SOCKET)


def version() -> str:
    """The beginning of the API's paths. Only the daemon's own newest version is sure to be there."""
    daemon = Daemon()
    daemon.request("GET", "/_ping")
    known = daemon.getresponse().getheader("Api-Version")
    return f"/v{known}" if known else ""


def told(path: str) -> Any:
    """What the daemon says of itself, or of what it has."""
    daemon = Daemon()
    daemon.request("GET", f"{version()}{path}")
    return json.load(daemon.getresponse())


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


def logins() -> Path:
    """The folder with root's logins."""
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")


def servers(image: Image, about: Mapping[str, Any], mirrors: Iterable[str] = ()) -> list[tuple[str, bool]]:
    """Addresses that Docker asks for an image, in its order; and whether a login is for them: not a mirror's.

    + about: what the daemon says of itself
    + mirrors: of Docker Hub, that it does not know yet
    """
    registries = about.get("RegistryConfig") or {}
    own = [HUB_SERVER] if image.registry == HUB else [f"https://{image.registry}"]
    if not (registries.get("IndexConfigs") or {}).get(image.registry, {}).get("Secure", True) or re.match(
        r"(localhost|127\.0\.0\.1)(:|$)", image.registry
    ):
        own.append(f"http://{image.registry}")
    named = [*mirrors, *(registries.get("Mirrors") or ())] if image.registry == HUB else []
    return [*((one, False) for one in dict.fromkeys(each.rstrip("/") for each in named)), *((one, True) for one in own)]


class Registry:
    """One repository at one server. What it raises is one of :data:`FAULTS`."""

    def __init__(self, server: str, name: str, login: Mapping[str, str]) -> None:
        self.place, self.login = f"{server}/v2/{name}", login
        self.shown = ""

    def open(self, path: str, method: str = "GET", **headers: str) -> Any:
        """An answer; a login or a token is shown where the server wants one, and to no server that it leads to."""
        while True:
            request = urllib.request.Request(f"{self.place}/{path}", method=method, headers=headers)
            request.add_header("Accept", ", ".join(MANIFESTS))
            if self.shown:
                request.add_unredirected_header("Authorization", self.shown)
            try:
                return urllib.request.urlopen(request, timeout=TIMEOUT)
            except urllib.error.HTTPError as error:
                if error.code != 401 or self.shown:
                    raise
                self.shown = self._wanted(error.headers.get("WWW-Authenticate") or "")
                if not self.shown:
                    raise

    def _wanted(self, challenge: str) -> str:
        pair = f"{self.login['username']}:{self.login['password']}" if "password" in self.login else ""
        basic = f"Basic {base64.b64encode(pair.encode()).decode()}" if pair else ""
        if not challenge.lower().startswith("bearer "):
            return basic
        words = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        asked = urlencode({name: words[name] for name in ("service", "scope") if name in words})
        request = urllib.request.Request(f"{words['realm']}?{asked}")
        if basic:
            request.add_unredirected_header("Authorization", basic)
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            found = json.load(answer)
        return f"Bearer {found.get('token') or found['access_token']}"

    def digest(self, tag: str) -> str:
        """The digest under a tag."""
        with self.open(f"manifests/{tag}", "HEAD") as answer:
            found: str = answer.headers.get("Docker-Content-Digest") or ""
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", found):
            raise ValueError("no digest in its answer")
        return found

    def manifest(self, version: str) -> dict[str, Any]:
        """The manifest for this kind of machine."""
        for _ in range(3):
            with self.open(f"manifests/{version}") as answer:
                found: dict[str, Any] = json.load(answer)
            if "layers" in found:
                return found
            for one in found["manifests"]:
                platform = one.get("platform") or {}
                if (platform.get("os"), platform.get("architecture")) == ("linux", "amd64"):
                    version = one["digest"]
        raise ValueError("no manifest for linux/amd64")

    def missing(self, manifest: Mapping[str, Any], chains: list[list[str]]) -> list[dict[str, Any]]:
        """The layers that the host lacks: it has one if an image of it has all layers up to there."""
        layers: list[dict[str, Any]] = manifest["layers"]
        if not chains:
            return layers
        with self.open(f"blobs/{manifest['config']['digest']}") as answer:
            wanted = json.load(answer)["rootfs"]["diff_ids"]
        return layers[max(_begins_alike(wanted, chain) for chain in chains) :]


def _begins_alike(one: list[str], other: list[str]) -> int:
    """How many are the same from the first on."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def rate(ask: Callable[[], Any]) -> float | None:
    """Bytes a second that the line gives, by reading what ``ask`` opens; None where nothing is learned."""
    got, began, now = 0, 0.0, 0.0
    with _LINE, suppress(*FAULTS), ask() as answer:
        while block := answer.read1(1 << 16):
            now = time.monotonic()
            began, got = began or now, got + len(block) if began else 0  # from the end of the first on
            if got >= SAMPLE or now - began >= SECONDS:
                break
    return got / (now - began) if got and now > began else None


def image(reference: str, asked: Mapping[str, Any], login: Mapping[str, str]) -> dict[str, Any]:
    """The digest of a tag; with ``sizes``, the bytes of the layers that are missing and the line's rate instead.

    Or why none was given.
    """
    about: dict[str, Any] = {}
    chains: list[list[str]] = []
    with suppress(*FAULTS):
        about = told("/info")
        if asked["sizes"]:
            every = (told(f"/images/{one['Id']}/json") for one in told("/images/json"))
            chains = [one["RootFS"].get("Layers") or [] for one in every]
    name, error = Image.of(reference), ""
    login = login or login_of(name, logins())
    for server, own in servers(name, about, asked["mirrors"]):
        registry = Registry(server, name.name, login if own else {})
        try:
            if not asked["sizes"]:
                return {"digest": registry.digest(name.version)}
            layers = registry.missing(registry.manifest(name.version), chains)
            found: dict[str, Any] = {"bytes": sum(layer["size"] for layer in layers)}
            if found["bytes"] >= ENOUGH:
                largest = max(layers, key=lambda layer: layer["size"])["digest"]
                found["rate"] = rate(lambda: registry.open(f"blobs/{largest}", **_SAMPLE))  # noqa: B023
            return found
        except FAULTS as raised:
            error = f"{urlsplit(server).hostname}: {_why(raised)}"
    return {"error": error}


_SAMPLE = {"Range": f"bytes=0-{SAMPLE - 1}", "User-Agent": AGENT}


def model(name: str, revision: str, folder: str, asked: Mapping[str, Any], token: str | None = None) -> dict[str, Any]:
    """The commit of a model, or why none was given; of each file size, hash and how much the folder has of it.

    ``brief``: the commit alone; with ``sizes``, the line's rate too.
    """
    endpoint = asked["endpoint"].rstrip("/")
    place = quote(name, safe="/")
    only = "expand=sha" if asked["brief"] else "blobs=true"

    def ask(path: str, **headers: str) -> Any:
        request = urllib.request.Request(f"{endpoint}/{path}", headers=headers)
        if token:
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        return urllib.request.urlopen(request, timeout=TIMEOUT)

    try:
        with ask(f"api/models/{place}/revision/{quote(revision, safe='')}?{only}") as answer:
            found = json.load(answer)
        if asked["brief"]:
            return {"commit": found["sha"]}
        files = {}
        for one in found["siblings"]:
            hash_ = (one.get("lfs") or {}).get("sha256") or one["blobId"]
            files[one["rfilename"]] = (one.get("size") or 0, hash_, _there(folder, hash_))
        told: dict[str, Any] = {"commit": found["sha"], "files": files}
        largest = max(files, key=lambda path: files[path][0] - files[path][2])
        if asked["sizes"] and files[largest][0] - files[largest][2] >= ENOUGH:
            path = f"{place}/resolve/{found['sha']}/{quote(largest)}"
            told["rate"] = rate(lambda: ask(path, **_SAMPLE))
        return told
    except FAULTS as error:
        return {"error": f"{urlsplit(endpoint).hostname}: {_why(error)}"}


def _there(folder: str, name: str) -> int:
    """Bytes of a file in the folder of a model in the hub's cache, whole or begun."""
    for end in ("", ".incomplete"):
        with suppress(OSError):
            return Path(folder, "blobs", f"{name}{end}").stat().st_size if folder else 0
    return 0


def _why(error: BaseException) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"status {error.code}"
    reason = getattr(error, "reason", None) or error
    said = str(reason) if type(reason) is ValueError else f"{type(reason).__name__}: {reason}"
    return " ".join(said.split())[:200]


def prepare(asked: Mapping[str, Any], authorities: str) -> None:
    """Have the proxies used, and trusted whom the host, or Docker for a registry, trusts or will trust."""
    os.environ.update(asked["environment"])
    context = ssl.create_default_context()
    if authorities:
        context.load_verify_locations(cadata=authorities)
    for registry in {Image.of(reference).registry for reference in asked["images"]}:
        for file in (CERTIFICATES / registry).glob("*.crt"):
            with suppress(OSError, ssl.SSLError):
                context.load_verify_locations(cafile=file)
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
    urllib.request.install_opener(opener)


def main(argument: str) -> None:
    """Answer one request, with what is known by the end of its ``patience``."""
    asked = json.loads(argument)
    hidden = json.loads(sys.stdin.read()) if asked["hidden"] else {}
    prepare(asked, hidden.get("authorities", ""))
    global TIMEOUT
    TIMEOUT = asked["timeout"]
    pool = ThreadPoolExecutor(8)
    images = {
        one: pool.submit(image, one, asked, hidden.get("logins", {}).get(Image.of(one).registry, {}))
        for one in asked["images"]
    }
    models = {
        f"{name}@{revision}": pool.submit(model, name, revision, folder, asked, hidden.get("tokens", {}).get(name))
        for name, revision, folder in asked["models"]
    }
    wait([*images.values(), *models.values()], asked["patience"])
    silent = {"error": f"no answer within {asked['patience']} s"}
    shown = {
        kind: {name: one.result() if one.done() else silent for name, one in every.items()}
        for kind, every in (("images", images), ("models", models))
    }
    print(json.dumps(shown), flush=True)
    os._exit(0)  # whoever still waits for an answer


if __name__ == "__main__":
    main(sys.argv[1])
