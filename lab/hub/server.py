"""The two addresses of the hub: the site with its API, and the one that large files come from."""

from __future__ import annotations

import argparse
import contextlib
import hmac
import json
import re
import secrets
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from .faults import Counts, Fault, Faults
from .repository import DEFAULT_SIZE, File, Repository, Store, siblings, tree

CHUNK = 1 << 16

#: How the reads name themselves that only measure the line: counted apart from what is fetched.
SAMPLES = "ojai-sample"

#: How tokens that the hub knows begin, and what they may read: gated models, or only what is open to all.
TOKENS = {
    "hf_labAccepted": "accepted",
    "hf_labNotAccepted": "not accepted",
    "hf_labFineGrained": "fine-grained, without the right to gated models",
}

_NAME = r"(?P<name>[\w.-]+/[\w.-]+)"
_INFO = re.compile(rf"/api/models/{_NAME}(?:/revision/(?P<revision>[^/]+))?")
_TREE = re.compile(rf"/api/models/{_NAME}/tree/(?P<revision>[^/]+)/?")
_RESOLVE = re.compile(rf"/{_NAME}/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
_CACHED = re.compile(rf"/api/resolve-cache/models/{_NAME}/(?P<revision>[0-9a-f]{{40}})/(?P<file>.+)")
_BLOB = re.compile(rf"/repos/{_NAME}/(?P<commit>[0-9a-f]{{40}})/(?P<file>.+)")


@dataclass
class Hub:
    """What both addresses share. ``second``: the port of the other one; ``key`` signs its addresses."""

    store: Store
    counts: Counts
    faults: Faults = field(default_factory=Faults)
    key: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    second: int = 0

    def signature(self, path: str) -> str:
        """What an address of the second server must carry."""
        return hmac.new(self.key, path.encode(), "sha256").hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: ClassVar[Hub]

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what is sent is counted."""

    def do_HEAD(self) -> None:
        """As GET, without the content."""
        self.do_GET()

    def do_GET(self) -> None:
        """To be answered by each address."""
        raise NotImplementedError

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        """A whole answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def error(self, status: int, message: str, code: str = "", **headers: str) -> None:
        """An error as the hub words it."""
        if code:
            headers["X_Error_Code"] = code
        body = json.dumps({"error": message}).encode()
        self.answer(status, body, Content_Type="application/json", X_Error_Message=message, **headers)

    def misbehaves(self, file: str) -> bool:
        """Whether a fault has taken the place of an answer."""
        fault = self.hub.faults.take(file, "status", "page")
        if fault is None:
            return False
        if fault.kind == "page":
            self.answer(200, b"<html>Please log in to this network.</html>", Content_Type="text/html")
        else:
            retry = {"Retry_After": "1"} if fault.status == 429 else {}
            self.error(fault.status, f"the lab's hub was told to answer {fault.status}", **retry)
        return True

    def send(self, name: str, file: File, **headers: str) -> None:
        """A file's content, from where it is asked for."""
        start, status = 0, 200
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        end = min(int((asked and asked[2]) or file.size), file.size - 1) + 1
        if asked:
            start, status = int(asked[1]), 206
            headers["Content_Range"] = f"bytes {start}-{end - 1}/{file.size}"
        if start >= file.size and file.size:
            self.answer(416, b"", Content_Range=f"bytes */{file.size}")
            return
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header.replace("_", "-"), value)
        self.send_header("Content-Length", str(end - start))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Date", formatdate(usegmt=True))
        self.end_headers()
        if self.command != "HEAD":
            self._content(name, file, start, end)

    def _content(self, name: str, file: File, start: int, end: int) -> None:
        what = "samples" if self.headers.get("User-Agent") == SAMPLES else "bytes"
        cut = self.hub.faults.take(name, "drop", "stall")
        corrupt = self.hub.faults.take(name, "corrupt")
        slow = self.hub.faults.take(name, "slow")
        sent = 0
        with file.path.open("rb") as source:
            source.seek(start)
            step = min(CHUNK, slow.rate // 10 or 1) if slow else CHUNK
            while block := source.read(min(step, end - start - sent)):
                if cut and sent + len(block) > cut.after:
                    block = block[: max(cut.after - sent, 0)]
                if corrupt and start + sent + len(block) >= file.size:
                    block = block[:-1] + bytes([block[-1] ^ 0xFF])
                try:
                    self.wfile.write(block)
                except OSError:  # the client has gone
                    self.close_connection = True
                    break
                sent += len(block)
                self.hub.counts.add(what, name, len(block))
                if cut and sent >= cut.after:
                    self._cut(cut)
                    break
                if slow:
                    threading.Event().wait(len(block) / slow.rate)

    def _cut(self, fault: Fault) -> None:
        if fault.kind == "stall":
            self.wfile.flush()
            threading.Event().wait(fault.seconds)
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(2)


class _Site(_Handler):
    def do_GET(self) -> None:
        """API and addresses of files."""
        path = unquote(urlsplit(self.path).path)
        if path == "/lab/counts":
            self.answer(200, json.dumps(self.hub.counts.shown()).encode(), Content_Type="application/json")
        elif found := (_TREE.fullmatch(path) or _INFO.fullmatch(path)):
            self._api(found)
        elif found := _CACHED.fullmatch(path):
            self._small(found)
        elif found := _RESOLVE.fullmatch(path):
            self._resolve(found)
        else:
            self.error(404, "Sorry, we can't find the page you are looking for.")

    def do_POST(self) -> None:
        """The lab's own: faults, commits, and counting from nothing."""
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        try:
            asked = json.loads(body or b"null")
            if self.path == "/lab/faults":
                self.hub.faults.put([Fault(**fault) for fault in asked])
            elif self.path == "/lab/commit":
                asked = {"commit": self.hub.store.add_commit(asked)}
            elif self.path == "/lab/forget":
                self.hub.counts.forget()
            else:
                raise KeyError(self.path)
        except (ValueError, TypeError, KeyError) as bad:
            self.error(400, str(bad))
            return
        self.answer(200, json.dumps(asked).encode(), Content_Type="application/json")

    def _rights(self) -> str | None:
        """What the request's token may read; None where an answer was given already."""
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if not scheme:
            return ""
        rights = next((rights for known, rights in TOKENS.items() if token.startswith(known)), None)
        if rights is None:
            self.error(401, "Invalid credentials in Authorization header")
        return rights

    def _found(self, name: str, revision: str, rights: str) -> tuple[Repository, str] | None:
        repository = self.hub.store.find(name)
        if repository is None:
            if rights:
                self.error(404, "Repository not found", "RepoNotFound")
            else:
                self.error(401, "Invalid username or password.")
            return None
        commit = repository.commit(revision)
        if commit is None:
            self.error(404, f"Invalid rev id: {revision}", "RevisionNotFound")
            return None
        return repository, commit

    def _api(self, asked: re.Match[str]) -> None:
        name = asked["name"]
        self.hub.counts.add("requests", f"{name} api")
        if self.misbehaves("api"):
            return
        rights = self._rights()
        if rights is None:
            return
        found = self._found(name, asked["revision"] or "main", rights)
        if found is None:
            return
        repository, commit = found
        files = repository.commits[commit]
        if asked.re is _TREE:
            answer: Any = tree(files)
        else:
            query = parse_qs(urlsplit(self.path).query)
            faults = self.hub.faults
            listed = [entry for entry in siblings(files) if not faults.take(entry["rfilename"], "hidden")]
            for entry in listed:
                if faults.take(entry["rfilename"], "size"):
                    entry["size"] += 1
                if "lfs" in entry and faults.take(entry["rfilename"], "lie"):
                    entry["lfs"]["sha256"] = entry["lfs"]["sha256"][::-1]
            if "blobs" not in query:
                listed = [{"rfilename": entry["rfilename"]} for entry in listed]
            answer = {
                **{"_id": "0" * 24, "id": name, "modelId": name, "sha": commit, "private": False},
                **{"gated": "manual" if repository.gated else False, "disabled": False, "tags": [], "downloads": 0},
                **{"likes": 0, "siblings": listed},
            }
        self.answer(200, json.dumps(answer).encode(), Content_Type="application/json; charset=utf-8")

    def _file(self, asked: re.Match[str]) -> tuple[str, str, File] | None:
        name, file = asked["name"], asked["file"]
        if self.misbehaves(file):
            return None
        rights = self._rights()
        if rights is None:
            return None
        found = self._found(name, asked["revision"], rights)
        if found is None:
            return None
        repository, commit = found
        if (repository.gated or self.hub.faults.take(file, "gated")) and rights != "accepted":
            page = f"https://huggingface.co/{name}"
            if rights.startswith("fine-grained"):
                said = (
                    "Please enable access to public gated repositories in your fine-grained token settings to view "
                    "this repository."
                )
            else:
                account = "you are not in the authorized list" if rights else "you must have access to it and be"
                account += "" if rights else " authenticated to access it. Please log in"
                said = f"Access to model {name} is restricted and {account}. Visit {page} to ask for access."
            self.error(403 if rights else 401, said, "GatedRepo")
            return None
        entry = repository.commits[commit].get(file)
        if entry is None or self.hub.faults.take(file, "gone"):
            self.error(404, f"{file} does not exist on {asked['revision']!r}.", "EntryNotFound", X_Repo_Commit=commit)
            return None
        return name, commit, entry

    def _resolve(self, asked: re.Match[str]) -> None:
        self.hub.counts.add("requests", f"{asked['name']} {asked['file']}")
        found = self._file(asked)
        if found is None:
            return
        name, commit, entry = found
        if entry.sha256 is None:
            place = f"/api/resolve-cache/models/{name}/{commit}/{asked['file']}"
            self.answer(307, f"Temporary Redirect. Redirecting to {place}".encode(), Location=place)
            return
        path = f"/repos/{name}/{commit}/{asked['file']}"
        host = self.headers.get("Host", "127.0.0.1").rpartition(":")[0]
        place = f"http://{host}:{self.hub.second}{path}?Signature={self.hub.signature(path)}"
        self.answer(
            302,
            f"Found. Redirecting to {place}".encode(),
            Location=place,
            X_Repo_Commit=commit,
            X_Linked_Size=str(entry.size),
            X_Linked_ETag=f'"{entry.etag}"',
            Accept_Ranges="bytes",
        )

    def _small(self, asked: re.Match[str]) -> None:
        found = self._file(asked)
        if found is None:
            return
        name, commit, entry = found
        self.send(f"{name} {asked['file']}", entry, ETag=f'"{entry.etag}"', X_Repo_Commit=commit)


class _Second(_Handler):
    def do_GET(self) -> None:
        """Content of large files, for signed addresses."""
        address = urlsplit(self.path)
        path = unquote(address.path)
        asked = _BLOB.fullmatch(path)
        signed = parse_qs(address.query).get("Signature", [""])[0]
        known = asked and hmac.compare_digest(signed, self.hub.signature(path))
        if not asked or not known or self.hub.faults.take(asked["file"], "expired"):
            self.answer(403, b"<Error><Code>AccessDenied</Code></Error>", Content_Type="application/xml")
            return
        if self.headers.get("Authorization"):
            self.hub.counts.add("token", "")
        if self.misbehaves(asked["file"]):
            return
        repository = self.hub.store.find(asked["name"])
        entry = repository and repository.commits.get(asked["commit"], {}).get(asked["file"])
        if not entry:
            self.answer(404, b"")
            return
        self.send(f"{asked['name']} {asked['file']}", entry, ETag=f'"{entry.etag}"')


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Little waits in the kernel of what is counted as sent: left to itself, it takes megabytes for a slow line."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CHUNK)
        super().server_bind()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: clients that go away are what is tried here."""


@dataclass
class Running:
    """A hub that runs in this process."""

    hub: Hub
    site: ThreadingHTTPServer
    second: ThreadingHTTPServer

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.site.server_address[1]}"

    def stop(self) -> None:
        """End both addresses."""
        for server in (self.site, self.second):
            server.shutdown()
            server.server_close()


def start(hub: Hub, port: int = 0, second: int = 0) -> Running:
    """Serve on loopback, in threads; 0: a free port."""
    make: Callable[[type[_Handler], int], ThreadingHTTPServer] = lambda kind, at: _Server(  # noqa: E731
        ("127.0.0.1", at), type(kind.__name__, (kind,), {"hub": hub})
    )
    running = Running(hub, make(_Site, port), make(_Second, second))
    hub.second = running.second.server_address[1]
    for server in (running.site, running.second):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    return running


def weights(models: Path) -> dict[str, dict[str, int]]:
    """The weight files of every model of the model server's table."""
    table: dict[str, Any] = json.loads(models.read_text(encoding="utf-8"))["models"]
    assistant = {"model.safetensors": 0}
    found = {name: dict(entry["files"]) for name, entry in table.items()}
    return found | {f"{name}-assistant": assistant for name in found}


def main() -> None:
    """`python -m ojai.lab.hub FOLDER PORT SECOND_PORT`: serve until stopped."""
    parser = argparse.ArgumentParser(description="The ojai lab's stand-in for the Hugging Face hub.")
    parser.add_argument("folder", type=Path, help="where files are generated and counted")
    parser.add_argument("port", type=int)
    parser.add_argument("second", type=int, help="the port that large files come from")
    parser.add_argument("--size", type=int, help="bytes of each weight file; without it, as before")
    parser.add_argument("--gated", action="append", default=[], help="a model that wants its licence accepted")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    # Files of another size are other commits: a hub that is started again must have those that it had.
    kept = given.folder / "size"
    size = given.size or (int(kept.read_text()) if kept.exists() else DEFAULT_SIZE)
    kept.write_text(str(size))
    models = Path(__file__).resolve().parents[1] / "modelserver" / "models.json"
    store = Store(given.folder / "models", weights(models), size, frozenset(given.gated))
    running = start(Hub(store, Counts(given.folder / "counts")), given.port, given.second)
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    told.wait()
    running.stop()  # or its ports are taken until its last thread has ended
