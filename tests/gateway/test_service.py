"""What a client may expect of the gateway: streams, sizes, limits, keys that come and go, one id in every log."""

from __future__ import annotations

import hashlib
import itertools
import json
import ssl
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ojai import gateway as product
from tests.gateway import engine as engines
from tests.gateway import nginx
from tests.gateway.client import BEARER, KEY, Answer, connected, read, request, send, timed
from tests.gateway.nginx import KEYS

STREAM = request("POST", "/v1/chat/completions", BEARER, body=b'{"stream": true}')
MIB = 1 << 20


def curl(gateway, path, *options):
    url = f"https://gateway.test:{gateway.port}{path}"
    where = ["--resolve", f"gateway.test:{gateway.port}:127.0.0.1", "--noproxy", "*", "-q", "-s", "-m", "20"]
    return subprocess.run(["curl", *where, *options, url], capture_output=True, text=True, check=False)


def test_a_stream_comes_as_the_engine_writes_it(gateway, engine):
    pieces = [(when, piece) for when, piece in timed(gateway, STREAM) if b"data: " in piece]
    assert len(pieces) == engine.parts, pieces
    gaps = [after[0] - before[0] for before, after in itertools.pairwise(pieces)]
    assert min(gaps) > engine.pause / 2, gaps


def test_a_client_that_goes_away_frees_the_engine(gateway, engine):
    """The engine's connection is closed, so that it stops writing."""
    with connected(gateway) as connection:
        connection.sendall(STREAM)
        connection.recv(65536)
    end = time.monotonic() + 5
    while '"status":499' not in gateway.log and '"status":200' not in gateway.log.splitlines()[-1]:
        assert time.monotonic() < end, gateway.log
        time.sleep(0.1)


def test_the_request_is_whole_before_the_engine_hears_of_it(gateway, engine):
    data = request("POST", "/v1/chat/completions", BEARER, body=b'{"a": "' + b"x" * 1000 + b'"}')
    with connected(gateway) as connection:
        connection.sendall(data[:-10])
        time.sleep(0.7)
        assert engine.take() == []
        connection.sendall(data[-10:])
        assert read(connection).startswith(b"HTTP/1.1 200")


def test_sizes(gateway, engine):
    """A picture goes through; more than the limit does not, whether its length is said or not; nor a body of a GET."""
    picture = b'"' + b"x" * (20 * MIB) + b'"'
    assert send(gateway, request("POST", "/v1/chat/completions", BEARER, body=picture)).status == 200
    (got,) = engine.take()
    assert got.body == picture
    head = request("POST", "/v1/chat/completions", BEARER, f"Content-Length: {65 * MIB}")
    assert send(gateway, head).status == 413
    chunk = b"100000\r\n" + b"x" * MIB + b"\r\n"
    head = request("POST", "/v1/chat/completions", BEARER, "Transfer-Encoding: chunked")
    assert send(gateway, head + chunk * 66).status == 413
    assert send(gateway, request("GET", "/v1/models", BEARER, body=b"x" * 2000)).status == 413
    assert send(gateway, request("POST", "/v1/chat/completions", body=b"x" * 5 * MIB)).status == 401
    assert engine.take() == []


def test_one_id_is_in_every_log(gateway, engine):
    answer = send(gateway, request("GET", "/v1/models", BEARER))
    name = answer.header("X-Request-Id")
    (got,) = engine.take()
    assert got.header("X-Request-Id") == name
    line = json.loads(gateway.log.splitlines()[-1])
    assert (line["id"], line["client"], line["path"], line["status"]) == (name, "laptop", "/v1/models", 200)
    for path, headers in (("/nothing", (BEARER,)), ("/v1/models", ())):
        refused = send(gateway, request("GET", path, *headers))
        error = json.loads(refused.body)["error"]
        assert error["request_id"] == refused.header("X-Request-Id") == json.loads(gateway.log.splitlines()[-1])["id"]


def test_no_key_is_in_any_log(gateway):
    for data in (
        request("GET", "/v1/models", BEARER),
        request("GET", f"/v1/models?key={KEY}", BEARER),
        request("GET", f"/v1/models?key={KEY}"),
        request("GET", "/v1/models", f"X-Api-Key: {KEY}", f"Referer: {KEY}", f"User-Agent: {KEY}"),
        request("POST", "/v1/chat/completions", BEARER, body=KEY.encode()),
        request("GET", f"/v1/models?key={KEY}", BEARER, "X: " + "a" * 20_000),
    ):
        send(gateway, data)
    logs = gateway.log + (gateway.folder / "error.log").read_text()
    assert '"path":"/v1/models"' in logs
    assert KEY not in logs


def test_a_request_that_cannot_be_kept_leaves_no_key_in_a_log(gateway):
    """nginx's own line about it would have the whole address in it."""
    body = gateway.folder / "cache/body"
    body.rename(body.with_name("gone"))
    try:
        long = request("POST", f"/v1/chat/completions?key={KEY}", BEARER, body=b"a" * MIB)
        assert send(gateway, long).status == 500
    finally:
        body.with_name("gone").rename(body)
    end = time.monotonic() + 5
    while '"status":500' not in gateway.log and time.monotonic() < end:  # written after the answer
        time.sleep(0.05)
    assert '"status":500' in gateway.log
    assert KEY not in gateway.log + (gateway.folder / "error.log").read_text()


def test_no_key_is_on_disk(gateway):
    """Not in what nginx reads; where the host keeps one to show it, tests/host looks at."""
    for file in (gateway.folder / "nginx.conf", gateway.folder / "key.js", *(gateway.folder / "keys").iterdir()):
        assert KEY not in file.read_text(), file


def test_answers_of_the_gateway_are_errors_that_a_client_of_openai_can_read(gateway):
    for answer, status in (
        (send(gateway, request("GET", "/v1/models")), 401),
        (send(gateway, request("GET", "/nothing", BEARER)), 404),
        (send(gateway, request("PUT", "/v1/models", BEARER)), 405),
    ):
        assert answer.status == status
        assert answer.header("Content-Type") == "application/json"
        assert json.loads(answer.body)["error"]["code"] == status


def test_tls(gateway):
    answer = curl(gateway, "/health", "--cacert", str(gateway.authority), "-o", "/dev/null", "-w", "%{http_code}")
    assert answer.stdout == "200", answer.stderr
    assert curl(gateway, "/health").returncode == 60, "nobody trusts the authority without being told"
    with pytest.raises(ssl.SSLCertVerificationError, match="ostname"), connected(gateway, name="another.test"):
        pass
    with connected(gateway, name="localhost"):
        pass


def test_old_tls_and_none_are_refused(gateway, engine):
    import socket

    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)), connected(gateway, context=old):
        pass
    with socket.create_connection(("127.0.0.1", gateway.port), 10) as plain:
        plain.sendall(request("GET", "/v1/models", BEARER))
        assert plain.recv(4096).startswith(b"HTTP/1.1 400")
    for junk in (b"\x16\x03\x01\xff\xff" + b"a" * 100, b"\x80\x2e\x01\x03\x01", b"\0" * 500, b"SSH-2.0-x\r\n"):
        with socket.create_connection(("127.0.0.1", gateway.port), 10) as plain:
            plain.sendall(junk)
            plain.shutdown(socket.SHUT_WR)
            plain.recv(4096)
    assert send(gateway, request("GET", "/v1/models", BEARER)).status == 200
    assert [one.line for one in engine.take()] == ["GET /v1/models HTTP/1.1"]


@pytest.fixture
def own(tmp_path, engine):
    """A gateway of one test, with the settings that it is called with."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield lambda **data: stack.enter_context(nginx.running(tmp_path, data.pop("port", engine.port), **data))


def test_metrics_are_for_the_named_addresses_and_with_a_key(gateway, engine, own):
    assert send(gateway, request("GET", "/metrics", BEARER)).status == 403
    named = own(gateway_metrics_from=["192.0.2.0/24", "127.0.0.1"])
    assert send(named, request("GET", "/metrics")).status == 401
    assert engine.take() == []
    assert send(named, request("GET", "/metrics", BEARER)).status == 200


def test_a_client_has_so_many_requests_a_second(own, engine):
    slow = own(gateway_requests=1)
    answers = [send(slow, request("GET", "/v1/models", BEARER)).status for _ in range(12)]
    assert answers[:5] == [200] * 5
    assert answers.count(429) >= 4
    other = f"Authorization: Bearer {KEYS['ci']}"
    assert send(slow, request("GET", "/v1/models", other)).status == 200, "another client has its own"
    refused = [send(slow, request("GET", "/v1/models", BEARER)) for _ in range(3)][-1]
    assert refused.header("Retry-After") == "1"
    assert json.loads(refused.body)["error"]["code"] == 429


def test_requests_without_a_key_use_nothing_of_another_client_s(own, engine):
    slow = own(gateway_requests=1)
    assert {send(slow, request("GET", "/v1/models")).status for _ in range(20)} == {401}
    assert send(slow, request("GET", "/v1/models", BEARER)).status == 200


def test_a_client_has_so_many_requests_at_a_time(own, engine):
    few = own(gateway_streams=2)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: send(few, STREAM).status, range(4)))
    assert sorted(answers) == [200, 200, 429, 429]
    assert send(few, STREAM).status == 200


def test_a_key_is_revoked_and_a_stream_of_another_goes_on(own, engine):
    found = own()
    ci = f"Authorization: Bearer {KEYS['ci']}"
    engine.pause, engine.parts = 0.5, 8
    try:
        with ThreadPoolExecutor(1) as pool:
            going = pool.submit(send, found, STREAM)
            time.sleep(1)
            found.set_keys({"laptop": KEYS["laptop"], "new": "ojai-" + "d" * 43})
            found.process.send_signal(1)
            end = time.monotonic() + 10
            while send(found, request("GET", "/v1/models", ci)).status != 401:
                assert time.monotonic() < end, "the key still counts"
                time.sleep(0.2)
            assert send(found, request("GET", "/v1/models", "Authorization: Bearer ojai-" + "d" * 43)).status == 200
            assert send(found, request("GET", "/v1/models", BEARER)).status == 200
            assert not going.done(), "the stream ended before the key was revoked"
            answer = going.result()
    finally:
        engine.pause, engine.parts = 0.3, 4
    assert (answer.status, answer.body.count(b"data: ")) == (200, 8)


def test_without_any_key_nobody_gets_in(own, engine):
    found = own()
    found.set_keys({})
    found.reload()
    assert send(found, request("GET", "/v1/models", BEARER)).status == 401
    assert send(found, request("GET", "/health")).status == 200


def test_several_services_have_their_own_paths(own, engine):
    with engines.recording() as second:
        shares = {"gpu_memory_utilization": 0.4, "max_model_len": 8192}
        chat = {"name": "chat", "port": engine.port, **shares}
        captions = {"name": "captions", "profile": "gemma-4-e2b", "port": second.port, **shares}
        found = own(services=[chat, captions])
        assert send(found, request("GET", "/v1/models", BEARER)).status == 200
        assert send(found, request("GET", "/captions/v1/models", BEARER)).status == 200
        assert send(found, request("GET", "/captions/health")).status == 200
        for path in ("/chat/v1/models", "/captions/invocations", "/captions/../invocations", "/captions"):
            assert send(found, request("GET", path, BEARER)).status == 404
        assert send(found, request("GET", "/captions/v1/models")).status == 401
        assert [one.line for one in engine.take()] == ["GET /v1/models HTTP/1.1"]
        assert [one.line for one in second.take()] == ["GET /v1/models HTTP/1.1", "GET /health HTTP/1.1"]


def test_an_engine_that_is_down_is_said_so_and_comes_back(own):
    port = nginx.free_port()
    found = own(port=port)
    answer = send(found, request("GET", "/v1/models", BEARER))
    assert (answer.status, answer.header("Retry-After")) == (503, "5")
    assert "starting" in json.loads(answer.body)["error"]["message"]
    with engines.recording(port):
        assert send(found, request("GET", "/v1/models", BEARER)).status == 200
    assert send(found, request("GET", "/health")).status == 503


def test_slow_clients_are_sent_away_and_keep_nobody_waiting(tmp_path, engine, monkeypatch):
    text = product.configuration
    short = {
        "client_header_timeout 15s": "client_header_timeout 1s",
        "client_body_timeout 30s": "client_body_timeout 1s",
    }

    def impatient(settings):
        found = text(settings)
        for before, after in short.items():
            assert before in found
            found = found.replace(before, after)
        return found

    monkeypatch.setattr(product, "configuration", impatient)
    with nginx.running(tmp_path, engine.port) as found:
        held = [connected(found) for _ in range(50)]
        opened = [one.__enter__() for one in held]
        for number, connection in enumerate(opened):
            whole = request("POST", "/v1/chat/completions", BEARER, body=b"x" * 100)
            connection.sendall(whole[: 30 if number % 2 else -50])
        assert send(found, request("GET", "/v1/models", BEARER)).status == 200
        started = time.monotonic()
        answers = [Answer(read(connection)) for connection in opened]
        assert time.monotonic() - started < 15
        assert all(answer.statuses in ([], [408]) for answer in answers), answers
        assert [one.line for one in engine.take()] == ["GET /v1/models HTTP/1.1"]


def test_64_streams_while_the_engine_dies_and_comes_back(own):
    """No request is without an answer or a clear error, and the gateway recovers by itself."""
    port = nginx.free_port()
    found = own(port=port, gateway_requests=10_000)
    stop = time.monotonic() + 12
    down = threading.Event()
    answers: list[tuple[bool, Answer]] = []

    def client(_: int) -> None:
        while time.monotonic() < stop:
            answers.append((down.is_set(), send(found, STREAM)))
            time.sleep(0.2)

    with ThreadPoolExecutor(64) as pool:
        with engines.recording(port):
            futures = [pool.submit(client, number) for number in range(64)]
            time.sleep(4)
            down.set()
        time.sleep(3)
        with engines.recording(port):
            for future in futures:
                future.result()
            assert send(found, STREAM).body.count(b"data: ") == 4
    assert found.process.poll() is None
    statuses = [answer.statuses[:1] for _, answer in answers]
    assert set(map(tuple, statuses)) <= {(200,), (503,)}, statuses
    whole = [answer for _, answer in answers if answer.status == 200 and answer.data.endswith(b"0\r\n\r\n")]
    assert len(whole) >= 64
    assert statuses.count([503]) >= 1


def test_a_key_that_was_replaced_ends_by_itself_and_the_new_one_goes_on(own, engine):
    old, new = "ojai-" + "d" * 43, "ojai-" + "e" * 43
    found = own()
    found.set_keys({"laptop": new})
    end = int(time.time()) + 6
    total = hashlib.sha256(old.encode()).hexdigest()
    (found.folder / "keys/laptop.old.map").write_text(f'"{total}" "laptop@{end}";\n')
    found.reload()

    def status(key):
        return send(found, request("GET", "/v1/models", f"Authorization: Bearer {key}")).status

    workers = found.workers()
    assert (status(old), status(new)) == (200, 200), "both are valid for a while"
    assert '"client":"laptop"' in found.log
    while time.time() < end + 1:
        time.sleep(0.2)
    assert (status(old), status(new)) == (401, 200)
    assert found.workers() == workers, "nothing was started anew for it"
