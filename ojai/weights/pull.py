"""Have the Docker daemon pull an image, and tell how far it is in bytes. Runs on the host, from the file of ``pack``.

The one argument is the image. Secrets come as JSON on standard input: ``login``, the user and password of the image's
registry, and ``environment``, variables such as proxies. The daemon gets the login with the request, and keeps it
nowhere. Without one, root's own logins are used as ``docker pull`` does.

The daemon says how large a layer is when it begins with it. So that the whole is known before that, the registry is
asked for the image's manifest; if it gives none, the layers that began are told.
"""

from __future__ import annotations

import base64
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from ojai.weights import upstream
from ojai.weights.program import Progress, amount, duration, measured_line
from ojai.weights.upstream import HUB, HUB_LOGIN, Daemon, Image, login_of, logins, told, version

#: Where it says how far it is.
STATUS = "/run/ojai-pull"

#: Bytes of a layer's digest in the daemon's messages.
_SHORT = 12


class PullError(Exception):
    """What the daemon said."""


def registry_of(reference: str) -> str:
    """The registry that an image is pulled from, as images name it."""
    return Image.of(reference).registry


def layers(image: Image, login: Mapping[str, str], about: Mapping[str, Any]) -> dict[str, int]:
    """The sizes of the image's layers by the beginning of their digests; {} where no registry tells them."""
    for server, own in upstream.servers(image, about):
        with suppress(*upstream.FAULTS):  # it is only for the display; the pull itself says what is wrong
            found = upstream.Registry(server, image.name, login if own else {}).manifest(image.version)
            return {layer["digest"].partition(":")[2][:_SHORT]: layer["size"] for layer in found["layers"]}
    return {}


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
    daemon = Daemon()
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
    about = told("/info")
    if not login:
        login = login_of(image, logins())
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
    try:
        print(run(sys.argv[2], hidden.get("login") or {}, Path(STATUS)), flush=True)
    except PullError as error:
        print(f"Error response from daemon: {error}", file=sys.stderr, flush=True)
        return 1
    except OSError as error:
        print(f"Cannot connect to the Docker daemon at unix://{upstream.SOCKET}: {error}", file=sys.stderr, flush=True)
        return 1
    return 0
