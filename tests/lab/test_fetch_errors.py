"""Every text that fetching can end with, on a container of the lab: the hub, the line or the host is made to fail.

The texts are those of docs/reference/fetching.md. `unknown`, for what nobody has thought of, is tried in
tests/unit/test_fetching.py alone.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ojai.lab import state
from ojai.weights import errors
from tests.lab.contained import Serving
from tests.lab.cutting import using
from tests.lab.test_weights import FILE, MODEL, SIZE, fetch, host, hub, sent

__all__ = ["host"]

SERVICE = {"profile": "gemma-4-e4b", "start_timeout": 120}
SECRET = "hf_wrongAndSecret"
ENV_FILE = "/etc/ojai/vllm-gemma4.env"
CACHE = "/srv/ojai/huggingface"
BLOBS = f"{CACHE}/hub/models--{MODEL.replace('/', '--')}/blobs"

#: Nobody listens there.
DEAD = "http://10.0.2.2:1"


def tmpfs(place: str, options: str) -> str:
    return f"mkdir -p {place}; mount -t tmpfs -o {options} none {place}"


@dataclass(frozen=True)
class Case:
    """How a failure comes about. ``before``, ``after``: shell on the host; ``then``: told while it is fetched."""

    code: str
    faults: list[dict] = field(default_factory=list)
    token: str = ""
    service: dict = field(default_factory=dict)
    data: dict = field(default_factory=dict)
    before: str = "true"
    after: str = "true"
    then: str = ""


def fault(kind: str, file: str = f"*{FILE}", **more: object) -> list[dict]:
    return [{"kind": kind, "file": file, **more}]


CASES = [
    Case("token-missing", fault("gated")),
    Case("gated", fault("gated"), token="hf_labNotAccepted"),
    Case("token-kind", fault("gated"), token="hf_labFineGrained"),
    Case("token-wrong", token=SECRET),
    Case(
        "token-form",
        before=f"install -d -m 700 /etc/ojai; printf 'HF_TOKEN=\"{SECRET}\"\\n' >{ENV_FILE}",
        after=f"rm {ENV_FILE}",
    ),
    Case("model-unknown-no-token", service={"model": "google/gemma-9"}),
    Case("model-unknown", service={"model": "google/gemma-9"}, token="hf_labAccepted"),
    Case("revision", service={"revision": "v9"}),
    Case("file-gone", fault("gone")),
    Case("no-weights", fault("hidden", "*.safetensors")),
    Case("disk", before=tmpfs(CACHE, "size=300m"), after=f"umount {CACHE}"),
    Case(
        "disk-full",
        fault("slow", rate=SIZE // 20),
        before=tmpfs(CACHE, "size=1200m"),
        after=f"umount {CACHE}",
        then=f"dd if=/dev/zero of={CACHE}/full bs=1M 2>/dev/null; true",
    ),
    Case("cache", before=tmpfs(f"{CACHE}/hub", "ro"), after=f"umount {CACHE}/hub"),
    Case("size", fault("size")),
    Case("checksum", fault("corrupt")),
    Case("checksum", fault("lie")),
    Case("cut-off", fault("drop")),
    Case("hub-dead", fault("stall", after=1000)),
    Case("hub-dead", data={"hf_endpoint": DEAD}),
    Case("hub-down", fault("status", "api", status=503)),
    Case("hub-busy", fault("status", status=429)),
    Case("not-a-hub", fault("page", "api")),
    Case("not-a-hub", fault("page")),
    Case("refused", fault("status", status=451)),
    Case("proxy", data={"http_proxy": "http://127.0.0.1:9"}),
    Case("local-only", data={"local_only": True}),
]


def test_every_text_is_tried_here():
    assert {*(case.code for case in CASES), "certificate", "unknown"} == errors.load().keys()


def pattern(code: str) -> str:
    """What a line with this text looks like, whatever its words are."""
    text = errors.load()[code]
    line = f"found {text.found}; expected {text.expected}. What to do: {text.todo}."
    return re.sub(r"\\\{\w+\\\}", r"[^\n]+", re.escape(line))


def finished(host: Serving) -> set[str]:
    """What of the model is whole on the host."""
    found = host.guest.root(f"find {BLOBS} -type f ! -name '*.incomplete' -printf '%f %s %T@\\n'")
    return set(found.splitlines())


@pytest.fixture(scope="module")
def begun(host: Serving) -> Serving:
    """All of the model is there but for its weights, and nothing is recorded."""
    status, _, said = fetch(host)
    assert status == 0, said
    return host


def unfinish(host: Serving) -> None:
    blob = f"$(readlink -f {BLOBS}/../snapshots/*/{FILE})"
    host.guest.root(f"rm -rf /var/lib/ojai/weights {blob} {BLOBS}/*.incomplete {BLOBS}/../snapshots/*/{FILE}")


def fails(host: Serving, code: str) -> str:
    status, hosts, said = fetch(host)
    assert (status, hosts[0]["ok"]) == (1, False), said
    assert re.search(pattern(code), said) and errors.NOT_KNOWN not in said, said[-3000:]
    assert "Traceback" not in said and SECRET not in said, said[-3000:]
    return said


@pytest.mark.whole
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.code}-{CASES.index(case)}")
def test_each_failure_has_its_text_and_nothing_that_was_complete_is_lost(begun, case):
    unfinish(begun)
    there, before = finished(begun), sent(begun)
    assert there
    tried = begun.with_data(services=[SERVICE | case.service], **case.data)
    if case.token:
        tried = replace(tried, lab=replace(tried.lab, env={**tried.lab.env, "HF_TOKEN": case.token}))
    hub(begun, "/lab/faults", case.faults)
    filling = threading.Thread(target=during, args=(begun, before, case.then))
    begun.guest.root(case.before)
    try:
        if case.then:
            filling.start()
        fails(tried, case.code)
    finally:
        if case.then:
            filling.join()
        begun.guest.root(case.after)
        hub(begun, "/lab/faults", [])
    assert there <= finished(begun)


def during(host: Serving, before: int, then: str) -> None:
    """Once weights come, run a command on the host."""
    end = time.monotonic() + 120
    while sent(host) < before + SIZE // 5 and time.monotonic() < end:
        time.sleep(0.2)
    host.guest.root(then)


@contextlib.contextmanager
def behind_tls(host: Serving, folder: Path) -> Iterator[tuple[str, Path]]:
    """The hub by another address, with a certificate by an authority of its own; and that authority."""
    key, certificate = folder / "own.pem", folder / "own.crt"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=lab"]
    made += ["-keyout", str(key), "-out", str(certificate), "-addext", "subjectAltName=IP:10.0.2.2"]
    subprocess.run(made, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with using(host.lab):
        port = state.read().hub.port

    def serve(near: socket.socket) -> None:
        far = socket.create_connection(("127.0.0.1", port))
        far.settimeout(1)
        with contextlib.suppress(OSError), far, context.wrap_socket(near, server_side=True) as inside:
            # A question is answered before the next one comes.
            while asked := inside.recv(1 << 16):
                far.sendall(asked)
                with contextlib.suppress(TimeoutError):
                    while part := far.recv(1 << 16):
                        inside.sendall(part)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"https://10.0.2.2:{listener.getsockname()[1]}", certificate


@pytest.mark.whole
def test_a_certificate_of_the_owners_own_is_trusted_once_the_inventory_names_it(begun, tmp_path):
    unfinish(begun)
    with behind_tls(begun, tmp_path) as (address, authority):
        fails(begun.with_data(hf_endpoint=address), "certificate")
        status, _, said = fetch(begun.with_data(hf_endpoint=address, ca_certificates=[str(authority)]))
        assert status == 0, said
    assert fetch(begun)[0] == 0
    assert begun.guest.run("ls /usr/local/share/ca-certificates/ojai-*").returncode != 0


@pytest.mark.whole
def test_what_is_fetched_comes_by_the_proxy(begun):
    unfinish(begun)
    before, asked = sent(begun), []

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            asked.append(parts.path)
            far = HTTPConnection("127.0.0.1", parts.port)
            far.request(self.command, f"{parts.path}?{parts.query}", headers=dict(self.headers))
            found = far.getresponse()
            self.send_response(found.status)
            for header in found.getheaders():
                self.send_header(*header)
            self.end_headers()
            shutil.copyfileobj(found, self.wfile)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        status, _, said = fetch(begun.with_data(http_proxy=f"http://10.0.2.2:{proxy.server_address[1]}"))
    finally:
        proxy.shutdown()
        proxy.server_close()
    assert status == 0, said
    assert sent(begun) - before >= SIZE and any(path.endswith(FILE) for path in asked), asked
