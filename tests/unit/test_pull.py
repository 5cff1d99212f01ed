"""Pulling an image by the daemon's API: what is told of it, what is asked of whom, and with which login."""

from __future__ import annotations

import base64
import json
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from ojai.settings.secrets import SecretError, Source
from ojai.weights import pull, upstream
from ojai.weights.pull import Pull, PullError
from ojai.weights.upstream import Image

ONE, TWO = "1" * 12, "2" * 12


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("vllm/vllm-openai-rocm:v0.20.1", ("docker.io", "vllm/vllm-openai-rocm", "v0.20.1")),
        ("debian", ("docker.io", "library/debian", "latest")),
        ("registry.example.net:5000/a/b:v1", ("registry.example.net:5000", "a/b", "v1")),
        ("localhost/a", ("localhost", "a", "latest")),
        (f"a/b:v1@sha256:{'0' * 64}", ("docker.io", "a/b", f"sha256:{'0' * 64}")),
    ],
)
def test_a_reference_in_parts_as_docker_reads_it(reference, parts):
    found = Image.of(reference)
    assert (found.registry, found.name, found.version) == parts


def event(layer: str, status: str, current: int = 0, total: int = 0) -> dict:
    return {"id": layer, "status": status, "progressDetail": {"current": current, "total": total} if current else {}}


def test_layers_are_summed_and_those_that_are_there_do_not_count():
    state = Pull("a", {ONE: 1000, TWO: 500})
    for message in (
        {"status": "Pulling from a/b", "id": "v1"},
        event(ONE, "Pulling fs layer"),
        event(TWO, "Already exists"),
        event(ONE, "Downloading", 400, 1000),
    ):
        state.hear(message)
    assert (state.fetched, state.total) == (400, 1000)
    state.hear(event(ONE, "Download complete"))
    assert state.fetched == 1000 and state.ready == {TWO}
    state.hear(event(ONE, "Extracting", 10, 1000))  # of the disk, not of the line
    assert state.fetched == 1000
    state.hear(event(ONE, "Pull complete"))
    assert state.ready == {ONE, TWO}
    with pytest.raises(PullError, match="no such manifest"):
        state.hear({"errorDetail": {"message": "no such manifest"}, "error": "no such manifest"})


class Daemon(BaseHTTPRequestHandler):
    """A Docker daemon by its API's form, on a socket."""

    protocol_version = "HTTP/1.1"
    messages: ClassVar[list[dict]] = []
    about: ClassVar[dict] = {}
    asked: ClassVar[list[tuple[str, dict]]] = []

    def address_string(self) -> str:
        return "docker"

    def log_message(self, format: str, *args: object) -> None: ...

    def do_GET(self) -> None:
        assert self.path in ("/_ping", "/v1.51/info")
        self._answer(json.dumps(self.about).encode())

    def do_POST(self) -> None:
        login = self.headers.get("X-Registry-Auth", "")
        self.asked.append((self.path, json.loads(base64.urlsafe_b64decode(login) or b"{}")))
        self._answer(b"".join(json.dumps(one).encode() + b"\r\n" for one in self.messages))

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Api-Version", "1.51")
        self.end_headers()
        self.wfile.write(body)


class Registry(BaseHTTPRequestHandler):
    """A registry that wants a login, and gives a token for it."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[str]] = []

    def log_message(self, format: str, *args: object) -> None: ...

    def do_GET(self) -> None:
        given = self.headers.get("Authorization", "")
        self.seen.append(f"{self.path} {given}".strip())
        host = self.headers["Host"]
        if self.path.startswith("/token"):
            right = given == "Basic " + base64.b64encode(b"ada:secret").decode()
            self._answer(200 if right else 401, {"token": "given"} if right else {})
        elif given != "Bearer given":
            challenge = f'Bearer realm="http://{host}/token",service="lab",scope="repository:a/b:pull"'
            self._answer(401, {}, {"WWW-Authenticate": challenge})
        elif self.path.endswith("/v1"):
            other = {"digest": "sha256:arm", "platform": {"os": "linux", "architecture": "arm64"}}
            ours = {"digest": "sha256:ours", "platform": {"os": "linux", "architecture": "amd64", "variant": "v1"}}
            self._answer(200, {"manifests": [other, ours]})
        else:
            layers = [{"digest": f"sha256:{ONE}ff", "size": 1000}, {"digest": f"sha256:{TWO}ff", "size": 500}]
            self._answer(200 if self.path.endswith("sha256:ours") else 404, {"layers": layers})

    def _answer(self, status: int, body: dict, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


class UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@pytest.fixture
def world(tmp_path, monkeypatch) -> Iterator[str]:
    """A daemon, and the address of a registry."""
    Daemon.asked, Registry.seen = [], []
    place = str(tmp_path / "docker.sock")
    monkeypatch.setattr(upstream, "SOCKET", place)
    monkeypatch.setattr(pull, "measured_line", lambda *_: None)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "config"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    daemon, registry = UnixServer(place, Daemon), ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    for server in (daemon, registry):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{registry.server_port}"
    for server in (daemon, registry):
        server.shutdown()
        server.server_close()


PULLED = [
    event(ONE, "Downloading", 1000, 1000),
    event(TWO, "Downloading", 500, 500),
    event(ONE, "Pull complete"),
    event(TWO, "Pull complete"),
]


def test_a_login_goes_to_the_daemon_and_the_registry_and_into_no_output(world, tmp_path):
    Daemon.messages = PULLED
    said = pull.run(f"{world}/a/b:v1", {"username": "ada", "password": "secret"}, tmp_path / "status")
    path, login = Daemon.asked[0]
    assert path == f"/v1.51/images/create?fromImage={world.replace(':', '%3A')}%2Fa%2Fb&tag=v1"
    assert login == {"username": "ada", "password": "secret", "serveraddress": world}
    assert Registry.seen[-1].endswith("sha256:ours Bearer given")
    assert said.startswith(f"{world}/a/b:v1: 1.5 kB in 2 layers fetched in ") and "secret" not in said


def test_without_one_roots_own_login_is_used(world, tmp_path):
    folder = tmp_path / "config"
    folder.mkdir()
    auth = base64.b64encode(b"ada:secret").decode()
    (folder / "config.json").write_text(json.dumps({"auths": {world: {"auth": auth}}}))
    Daemon.messages = PULLED
    pull.run(f"{world}/a/b:v1", {}, tmp_path / "status")
    assert Daemon.asked[0][1]["password"] == "secret"


def test_a_helper_of_the_owners_is_asked(tmp_path, monkeypatch):
    helper = tmp_path / "docker-credential-lab"
    helper.write_text('#!/bin/sh\nread server\necho "{\\"Username\\":\\"ada\\",\\"Secret\\":\\"of $server\\"}"\n')
    helper.chmod(0o755)
    (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {"registry.lan": "lab"}}))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = upstream.login_of(Image.of("registry.lan/a:1"), tmp_path)
    assert found == {"username": "ada", "password": "of registry.lan"}
    assert upstream.login_of(Image.of("other.lan/a:1"), tmp_path) == {}


def test_no_login_is_sent_to_a_mirror(world):
    about = {"RegistryConfig": {"Mirrors": [f"http://{world}/"]}}
    pull.layers(Image("docker.io", "a/b", "v1"), {"username": "ada", "password": "secret"}, about)
    assert Registry.seen and not any("Basic" in line for line in Registry.seen)


def test_an_image_whose_size_no_registry_tells_is_pulled_all_the_same(world, tmp_path):
    Daemon.messages = PULLED
    assert "1.5 kB in 2 layers" in pull.run("127.0.0.1:1/a/b:v1", {}, tmp_path / "status")


def test_what_the_daemon_refuses_is_said(world, tmp_path):
    Daemon.messages = [{"error": "pull access denied for a/b"}]
    with pytest.raises(PullError, match="pull access denied"):
        pull.run(f"{world}/a/b:v1", {}, tmp_path / "status")


# Where secrets come from (and tests/roles/test_secrets.py).


def test_a_login_from_a_variable_a_file_and_a_command(tmp_path, monkeypatch):
    monkeypatch.setenv("REGISTRY_LOGIN", "ada:sec:r et'")
    file = tmp_path / "login"
    file.touch(mode=0o600)
    file.write_text("ada:sec:r et'\n")
    for source in ({"env": "REGISTRY_LOGIN"}, {"file": str(file)}, {"command": ["cat", str(file)]}):
        assert Source.model_validate(source).login() == {"username": "ada", "password": "sec:r et'"}


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        ("ada:SECRET\n", 0o640, "mode 0640"),
        ("SECRET\n", 0o600, "no user:password"),
        ("ada:SECRET\nmore\n", 0o600, "a line break"),
        ("", 0o600, "no user:password"),
    ],
)
def test_a_file_that_will_not_do_is_said_without_what_is_in_it(tmp_path, content, mode, said):
    file = tmp_path / "login"
    file.write_text(content)
    file.chmod(mode)
    with pytest.raises(SecretError, match=said) as raised:
        Source(file=str(file)).login()
    assert "SECRET" not in str(raised.value) and "What to do" in str(raised.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"env": "NOT_THERE_AT_ALL"}, "nothing in the variable NOT_THERE_AT_ALL"),
        ({"file": "/not/there"}, "No such file"),
        ({"command": ["false"]}, "exit status 1"),
        ({"command": ["/not/there"]}, "No such file"),
    ],
)
def test_a_source_that_gives_nothing(source, said):
    with pytest.raises(SecretError, match=said):
        Source.model_validate(source).login()
