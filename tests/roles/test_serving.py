"""Servers of an inventory come within reach through a real sshd; a key is read only where a server asks for one."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request, urlopen

import click
import pytest

from ojai import serving
from ojai.settings import parse
from ojai.settings.inventory import Entry
from tests.roles import sshd

MODEL = "google/gemma-4-E4B-it"


class _Api(BaseHTTPRequestHandler):
    key = ""

    def do_GET(self):
        right = not self.key or self.headers.get("authorization") == f"Bearer {self.key}"
        body = json.dumps({"data": [{"id": MODEL}]}).encode() if right else b'{"error":"Unauthorized"}'
        self.send_response(200 if right else 401)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def api():
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Api", (_Api,), {}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def _entry(port, name="mini", **data):
    data = {"services": [{"port": port, "host": "127.0.0.1"}], **data}
    return Entry(name, (), data, parse(name, data))


def _ask(server):
    headers = {"authorization": f"Bearer {server.key}"} if server.key else {}
    with urlopen(Request(f"{server.base_url}/models", headers=headers), timeout=10) as answer:
        return json.load(answer)["data"][0]["id"]


@pytest.fixture
def host(tmp_path):
    daemon = sshd.Sshd(tmp_path, bashrc="echo welcome\n")
    yield daemon
    daemon.stop()


@sshd.needed
def test_a_service_on_loopback_is_reached_through_ssh_and_no_longer_afterwards(host, api):
    place = serving.Place("mini", entry=_entry(api.server_port, **host.data))
    with place.reach() as (server,):
        assert server.name == "mini vllm-gemma4" and server.model == MODEL and server.key is None and server.direct
        assert f":{api.server_port}" not in server.url
        assert _ask(server) == MODEL
    with pytest.raises(OSError):
        _ask(server)


@sshd.needed
@pytest.mark.parametrize("given", [None, "ours"])
def test_the_key_of_a_service_is_read_on_its_host_where_it_asks_for_one(host, api, tmp_path, monkeypatch, given):
    api.RequestHandlerClass.key = given or "second"
    file = tmp_path / "vllm-gemma4.env"
    if not given:
        file.write_text("HF_TOKEN=x\nVLLM_API_KEY=first\nVLLM_API_KEY=second\n")
    entry = _entry(api.server_port, **host.data)
    monkeypatch.setattr(type(entry.settings.resolved[0]), "env_file", property(lambda self: str(file)))
    with serving.Place("mini", entry=entry, key=given).reach() as (server,):
        assert _ask(server) == MODEL
        assert (given or "second") not in repr(server)


@sshd.needed
def test_a_key_that_is_not_there_is_asked_for(host, api, tmp_path, monkeypatch):
    api.RequestHandlerClass.key = "x"
    entry = _entry(api.server_port, **host.data)
    monkeypatch.setattr(type(entry.settings.resolved[0]), "env_file", property(lambda self: str(tmp_path / "none")))
    with pytest.raises(serving.NotReachedError, match=r"mini: vllm-gemma4 asks for an API key.*--key-env"):
        serving.Place("mini", entry=entry).reach().__enter__()


@sshd.needed
def test_an_sshd_that_forwards_nothing_is_named(tmp_path, api):
    daemon = sshd.Sshd(tmp_path, settings="AllowTcpForwarding no\n")
    try:
        entry = _entry(api.server_port, **daemon.data)
        with pytest.raises(serving.NotReachedError, match=r"mini: its sshd forwards no ports.*AllowTcpForwarding"):
            serving.Place("mini", entry=entry).reach().__enter__()
    finally:
        daemon.stop()


@sshd.needed
def test_a_host_that_is_off_is_named_with_what_to_look_at():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    entry = _entry(8000, ssh_hostname="127.0.0.1", ssh_port=port)
    with pytest.raises(serving.NotReachedError, match=rf"mini: cannot be reached: .*refused.*ssh_port \({port}\)"):
        serving.Place("mini", entry=entry).reach().__enter__()


def test_the_client_sends_the_key_of_the_server_and_nothing_that_is_meant_for_openai(api, monkeypatch):
    sent = {}
    monkeypatch.setattr(
        _Api,
        "do_GET",
        lambda self, get=_Api.do_GET: (
            sent.update({name.lower(): value for name, value in self.headers.items()}),
            get(self),
        ),
    )
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "sk-not-for-a-box")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer sk-not-for-a-box")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    for key in ("ours", None):
        server = serving.Server("mini", f"http://127.0.0.1:{api.server_port}", MODEL, key)
        assert [model.id for model in server.client(10).models.list()] == [MODEL]
        assert sent["authorization"] == f"Bearer {key or 'none'}" and "sk-not" not in str(sent)


def test_this_computer_is_asked_without_ssh(api, monkeypatch):
    monkeypatch.setenv("PATH", "/bin")
    with serving.Place("@local", entry=_entry(api.server_port, "@local")).reach() as (server,):
        assert _ask(server) == MODEL and server.url == f"http://127.0.0.1:{api.server_port}"


def test_a_host_that_serves_nothing_is_no_place_to_ask():
    for data in ({"services": []}, {"removed": True}):
        with pytest.raises(serving.NotReachedError, match=r"mini: the inventory names no service here"):
            serving.Place("mini", entry=_entry(8000, **data)).reach().__enter__()


def test_a_url_is_a_place_by_itself(monkeypatch):
    monkeypatch.setenv("THE_KEY", "se cret")
    for url in ("https://box:8443/v1/", "https://box:8443"):
        (place,) = serving.places(None, (), url, "m", "THE_KEY", False)
        with place.reach() as (server,):
            assert (server.url, server.base_url) == ("https://box:8443", "https://box:8443/v1")
            assert (server.model, server.key, server.service, server.direct) == ("m", "se cret", None, False)
        assert "se cret" not in repr(place)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((None, (), None, None, None, False), "neither; give INVENTORY, or --url"),
        (("x.py", (), "http://a", "m", None, False), "both"),
        ((None, (), "http://a", None, None, False), "give --model too"),
        ((None, (), "a:8000", "m", None, False), "expected an address such as"),
        ((None, (), "http://u:p@a", "m", None, False), "by --key-env"),
        ((None, (), "http://a", "m", "NOT_THERE", False), "no such environment variable"),
        ((None, ("a",), "http://a", "m", None, False), "for the hosts of an INVENTORY"),
        (("x.py", (), None, "m", None, False), "--model is for --url"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(given, said):
    with pytest.raises(click.UsageError, match=said):
        serving.places(*given)
