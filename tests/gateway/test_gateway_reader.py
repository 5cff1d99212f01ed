"""Cases of a reader who had the issue and the documentation alone: a real nginx, and a kernel's own rules.

Each was written down before the code was read; the number is the one in that list.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway import nginx
from tests.gateway.client import BEARER, KEY, Answer, connected, read, request, send
from tests.gateway.engine import Engine
from tests.gateway.nginx import Gateway

CHAT = b'{"messages": []}'
SUM = hashlib.sha256(KEY.encode()).hexdigest()


def asked(engine: Engine) -> list[str]:
    return [one.line for one in engine.take()]


# 14 -------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "headers",
    [
        (f"api-key: {KEY}",),
        (f"x-goog-api-key: {KEY}",),
        (f"X-Auth-Token: {KEY}",),
        (f"Authentication: Bearer {KEY}",),
        (f"Authorization:{KEY}",),
        (f"Authorization: Bearer:{KEY}",),
        (f"Authorization: Bearer={KEY}",),
        (f'Authorization: Bearer "{KEY}"',),
        (f"Authorization: Digest username={KEY}",),
        (f"Referer: https://gateway.test/?api_key={KEY}",),
        (f"User-Agent: Bearer {KEY}",),
        (f"X-Authorization: Bearer {KEY}", f"X-Forwarded-Authorization: Bearer {KEY}"),
    ],
)
def test_14_a_key_in_the_wrong_place(gateway: Gateway, engine: Engine, headers: tuple[str, ...]) -> None:
    answer = send(gateway, request("POST", "/v1/chat/completions", *headers, body=CHAT))
    assert answer.status == 401
    assert json.loads(answer.body)["error"]["code"] == 401
    assert asked(engine) == []
    assert KEY not in gateway.log


# 15 -------------------------------------------------------------------------------------------------------------------
def test_15_two_keys_in_a_request(gateway: Gateway, engine: Engine) -> None:
    for value in (f"Bearer x, Bearer {KEY}", f"Bearer {KEY}, Bearer x", f"Bearer {KEY},x", f"Basic x, Bearer {KEY}"):
        assert send(gateway, request("GET", "/v1/models", f"Authorization: {value}")).status == 401, value
    assert asked(engine) == []
    assert send(gateway, request("GET", "/v1/models", "Authorization: Bearer wrongwrongwrongwrong", BEARER)).status in (
        400,
        401,
    )
    assert asked(engine) == []


# 16 -------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "word",
    [KEY[:-1], KEY + "=", KEY + "@9999999999", KEY.upper(), SUM, f"{SUM}@9999999999", hashlib.sha256(b"").hexdigest(),
     "__proto__________", "constructor__________", "toString____________", "laptop@99999999999999", "default",
     "*" * 20, "%00" * 8, f"{KEY}%00", f"{KEY}\\", "a" * 256, "a" * 257, "a" * 8000],
)  # fmt: skip
def test_16_what_only_looks_like_a_key(gateway: Gateway, engine: Engine, word: str) -> None:
    answer = send(gateway, request("GET", "/v1/models", f"Authorization: Bearer {word}"))
    assert answer.status in (400, 401)
    assert asked(engine) == []
    assert send(gateway, request("GET", "/v1/models", BEARER)).status == 200


# 17 -------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("scheme", ["bearer ", "BEARER ", "Bearer  ", "bEaReR "])
def test_17_the_scheme_has_no_case(gateway: Gateway, scheme: str) -> None:
    assert send(gateway, request("GET", "/v1/models", f"Authorization: {scheme}{KEY}")).status == 200


# 18 -------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "target",
    ["/v1/%63hat/completions", "/v1/chat/completions%2f", "/v1/chat/completions/..;/../invocations",
     "/v1/chat%2fcompletions", "/v1/chat\\completions", "/v1/chat/completions\\..\\..\\..\\invocations",
     "/v1/chat/completions%23", "/v1/chat/completions#", "/v1/chat/completions%09", "/v1/chat/completions\t",
     "/v1/chat/completions%u002f", "/v1/chat/completions%2e", "/%2fv1/models", "/%5cv1/models", "/v1/models%26",
     "/vllm-gemma4/v1/models", "/vllm-gemma4/../invocations", "///invocations", "/v1/models//", "/.%2e/invocations",
     "/%252e%252e/invocations", "/v1/models/..%00/invocations", "/v1/modelſ", "/v1/models%EF%BC%8F..", "/０"],
)  # fmt: skip
def test_18_spellings_of_a_path(gateway: Gateway, engine: Engine, target: str) -> None:
    raw = target.encode().decode("latin-1")
    for method, body in (("GET", b""), ("POST", CHAT)):
        answer = send(gateway, request(method, raw, BEARER, body=body))
        got = asked(engine)
        # What stands behind a number sign is no path; nginx cuts it, and the rest is on the list or not.
        assert got in ([], ["POST /v1/chat/completions HTTP/1.1"] if "#" in target and method == "POST" else [])
        assert answer.status in (200 if got else 404, 400, 404, 405)


# 19 -------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["post", "Post", "GETS", "QUERY", "LOCK", "PURGE", "M-SEARCH", "X" * 200, "GET\t"])
def test_19_methods_that_nobody_offers(gateway: Gateway, engine: Engine, method: str) -> None:
    for path in ("/v1/chat/completions", "/health", "/invocations"):
        assert send(gateway, request(method, path, BEARER, body=CHAT)).status in (400, 404, 405)
    assert asked(engine) == []


def test_19_head_is_refused_as_the_engine_does_and_without_a_body(gateway: Gateway, engine: Engine) -> None:
    """vLLM itself answers HEAD with 405: its paths are for GET alone."""
    for path, status in (("/v1/models", 405), ("/health", 405), ("/invocations", 404)):
        answer = send(gateway, request("HEAD", path, BEARER))
        assert (answer.status, answer.body) == (status, b"")
    assert asked(engine) == []


# 20 -------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "host",
    ["Host: 127.0.0.1:8000", "Host: evil.example\r\nHost: gateway.test", "Host: a/b", "Host: ", "Host: [::1",
     "Host: gateway.test:99999", "X: no host"],
)  # fmt: skip
def test_20_whatever_host_is_named(gateway: Gateway, engine: Engine, host: str) -> None:
    for target in ("/v1/models", "http://127.0.0.1:8000/invocations", "https://user:word@evil.example/version"):
        data = f"GET {target} HTTP/1.1\r\n{host}\r\nConnection: close\r\n{BEARER}\r\n\r\n".encode()
        answer = send(gateway, data)
        assert b"evil.example" not in answer.data.partition(b"\r\n\r\n")[0]
        for got in engine.take():
            assert got.line == "GET /v1/models HTTP/1.1"
            assert got.header("host") == "localhost"


# 21 -------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("Content-Length: 2\r\nContent-Length: 2", b"{}"),
        ("Content-Length: 2\r\nX:\r\n\tContent-Length: 90", b"{}"),
        ("Transfer-Encoding: chunked", b"2;a=\r\nPOST /invocations HTTP/1.1\r\n\r\n{}\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", b"2\r\n{}\r\n0\r\nAuthorization: Bearer x\r\n\r\n"),
        ("Transfer-Encoding: CHUNKED\r\nContent-Length: 0", b"2\r\n{}\r\n0\r\n\r\n"),
        ("Transfer-Encoding: gzip, chunked", b"2\r\n{}\r\n0\r\n\r\n"),
        ("Transfer_Encoding: chunked\r\nContent-Length: 2", b"{}POST /invocations HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("Content-Length: 00000000000000000000000002", b"{}"),
        ("Content-Length: 18446744073709551618", b"{}"),
    ],
)
def test_21_more_than_one_request_in_one(gateway: Gateway, engine: Engine, head: str, body: bytes) -> None:
    data = f"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway.test\r\n{BEARER}\r\n{head}\r\n\r\n".encode() + body
    with connected(gateway, 5) as connection:
        connection.sendall(data)
        connection.settimeout(1)
        with contextlib.suppress(TimeoutError):
            read(connection)
    got = engine.take()
    assert len(got) <= 1
    assert all(one.line == "POST /v1/chat/completions HTTP/1.1" and b"invocations" not in one.body for one in got)
    assert all(one.header("transfer-encoding") is None for one in got), "the engine gets a length"


# 22 -------------------------------------------------------------------------------------------------------------------
def test_22_http_of_other_days(gateway: Gateway, engine: Engine) -> None:
    assert send(gateway, request("POST", "/v1/chat/completions", BEARER, body=CHAT, version="HTTP/1.0")).status == 200
    (got,) = engine.take()
    assert got.line == "POST /v1/chat/completions HTTP/1.1" and got.body == CHAT
    for data in (
        b"GET /invocations\r\n\r\n",
        b"GET /v1/models\r\n\r\n",
        b"GET /health\n\n",
        b"\x16\x03\x01",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ):
        send(gateway, data)
    assert [line for line in asked(engine) if "health" not in line] == []


def test_22_plain_http_is_no_way_in(gateway: Gateway, engine: Engine) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port), 5) as plain:
        plain.sendall(request("GET", "/v1/models", BEARER))
        plain.settimeout(5)
        answer = plain.recv(4096)
    assert answer.startswith(b"HTTP/1.1 400") and asked(engine) == []


# 23 -------------------------------------------------------------------------------------------------------------------
def test_23_an_upgrade_is_not_handed_on(gateway: Gateway, engine: Engine) -> None:
    headers = ("Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13")
    assert send(gateway, request("GET", "/v1/realtime", *headers)).status == 401
    assert send(gateway, request("GET", "/v1/realtime", BEARER, *headers)).status == 404
    assert asked(engine) == []
    assert send(gateway, request("POST", "/v1/chat/completions", BEARER, *headers, body=CHAT)).status == 200
    (got,) = engine.take()
    assert not [name for name, _ in got.headers if "upgrade" in name.lower() or "websocket" in name.lower()]


# 24 -------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "data",
    [
        request("GET", "/v1/models", BEARER, "X-Long: " + "a" * 9_000),
        request("GET", "/v1/models", BEARER, "X-Long: " + "a" * 200_000),
        request("GET", "/v1/models", BEARER, *(f"X-{number}: {'a' * 90}" for number in range(500))),
        request("GET", "/" + "a" * 60_000, BEARER),
        request("GET", "/v1/models?" + "a" * 60_000, BEARER),
        request("GET", "/v1/models", "Authorization: Bearer " + "a" * 60_000),
    ],
    ids=["9 KB", "200 KB", "500", "path", "query", "key"],
)
def test_24_huge_headers(gateway: Gateway, engine: Engine, data: bytes) -> None:
    answer = send(gateway, data)
    assert 400 <= answer.status < 500
    assert asked(engine) == []
    assert send(gateway, request("GET", "/v1/models", BEARER)).status == 200


# 25 -------------------------------------------------------------------------------------------------------------------
def test_25_a_huge_body_is_refused_before_it_is_read(gateway: Gateway, engine: Engine) -> None:
    for headers, status in (((BEARER,), 413), ((), 401)):
        started = time.monotonic()
        with connected(gateway, 10) as connection:
            connection.sendall(request("POST", "/v1/chat/completions", *headers, f"Content-Length: {10 * 1024**3}"))
            answer = Answer(connection.recv(65536))
        assert answer.status == status
        assert json.loads(answer.body)["error"]["code"] == status
        assert time.monotonic() - started < 3
    assert asked(engine) == []


def test_25_a_client_that_asks_first_is_told_to_go_on(gateway: Gateway, engine: Engine) -> None:
    """curl does so with a picture in the request."""
    with connected(gateway, 10) as connection:
        data = request("POST", "/v1/chat/completions", BEARER, "Expect: 100-continue", f"Content-Length: {len(CHAT)}")
        connection.sendall(data)
        assert connection.recv(4096).startswith(b"HTTP/1.1 100")
        connection.sendall(CHAT)
        assert Answer(read(connection)).status == 200
    (got,) = engine.take()
    assert got.body == CHAT and got.header("expect") is None


# 26 -------------------------------------------------------------------------------------------------------------------
def test_26_slow_clients_keep_nobody_out(gateway: Gateway, engine: Engine) -> None:
    with contextlib.ExitStack() as stack:
        half = []
        for number in range(300):
            plain = stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), 10))
            if number % 3 == 0:
                context = ssl.create_default_context(cafile=str(gateway.authority))
                plain = stack.enter_context(context.wrap_socket(plain, server_hostname="gateway.test"))
                plain.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: gate")
                half.append(plain)
        started = time.monotonic()
        assert send(gateway, request("GET", "/v1/models", BEARER)).status == 200
        assert time.monotonic() - started < 2
        half[0].settimeout(40)
        assert Answer(read(half[0])).statuses in ([], [408])
        assert time.monotonic() - started < 30
    assert asked(engine) == ["GET /v1/models HTTP/1.1"]


# 27 -------------------------------------------------------------------------------------------------------------------
def test_27_nothing_of_a_client_but_the_body_and_four_headers(gateway: Gateway, engine: Engine) -> None:
    headers = (
        "X-Request-Id: mine",
        "X-Forwarded-For: 10.0.0.1",
        "X-Real-IP: 10.0.0.1",
        "Cookie: a=b",
        "Range: bytes=0-1",
        "Accept-Encoding: gzip",
        "Accept-Language: de",
        "Origin: https://evil.example",
        "traceparent: 00-1-2-03",
        "X-Data-Parallel-Rank: 1",
        "Te: trailers",
    )
    data = request("POST", "/v1/chat/completions?stream=1&api_key=x", BEARER, *headers, body=CHAT)
    answer = send(gateway, data.replace(b"Connection: close", b"Connection: close, Authorization, Content-Length"))
    assert answer.status == 200
    (got,) = engine.take()
    assert got.line == "POST /v1/chat/completions HTTP/1.1"
    assert {name.lower() for name, _ in got.headers} <= {
        "host", "content-type", "content-length", "accept", "user-agent", "x-request-id"
    }  # fmt: skip
    assert got.header("x-request-id") == answer.header("x-request-id") != "mine"


# 28 -------------------------------------------------------------------------------------------------------------------
def test_28_an_address_that_a_client_claims_opens_no_metrics(engine: Engine, tmp_path: Path) -> None:
    claims = (
        "X-Forwarded-For: 192.0.2.20",
        "Forwarded: for=192.0.2.20",
        "X-Real-IP: 192.0.2.20",
        "True-Client-IP: 192.0.2.20",
    )
    with nginx.running(tmp_path, engine.port, gateway_metrics_from=["192.0.2.20"]) as other:
        assert send(other, request("GET", "/metrics", *claims)).status == 401
        assert send(other, request("GET", "/metrics", BEARER, *claims)).status == 403
        with socket.create_connection(("127.0.0.1", other.port), 5) as plain:
            plain.sendall(b"PROXY TCP4 192.0.2.20 192.0.2.1 5 6\r\n")
            plain.settimeout(5)
            with contextlib.suppress(ConnectionError):
                assert b"200" not in plain.recv(99)
    assert asked(engine) == []


# 29, 30 ---------------------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def saying(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """An engine that gives this answer to everything, and closes; the port, and what was asked."""
    import threading

    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    asked.append(connection.recv(65536))
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1], asked
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def test_29_an_answer_of_the_engine_leads_nowhere_else(tmp_path: Path) -> None:
    said = (b"HTTP/1.1 200 OK\r\nX-Accel-Redirect: /v1/models\r\nX-Accel-Limit-Rate: 1\r\nServer: uvicorn\r\n"
            b"Content-Length: 2\r\n\r\n{}")  # fmt: skip
    with saying(said) as (port, asked), nginx.running(tmp_path, port) as other:
        answer = send(other, request("GET", "/v1/models", BEARER))
    assert len(asked) == 1, "the engine sent the gateway on"
    assert answer.body == b"{}"
    assert answer.header("server") == "nginx" and not answer.header("x-accel-redirect")


@pytest.mark.parametrize(
    ("said", "statuses"),
    [
        (b"", (503,)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", (200,)),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", (503,)),
        (b"HTTP/1.1 500 no\r\nContent-Length: 0\r\n\r\n", (500,)),
    ],
    ids=["closes", "dies", "huge head", "fails"],
)
def test_30_an_engine_that_misbehaves(tmp_path: Path, said: bytes, statuses: tuple[int, ...]) -> None:
    with saying(said) as (port, asked), nginx.running(tmp_path, port) as other:
        for _ in range(2):
            answer = send(other, request("GET", "/v1/models", BEARER))
            assert answer.status in statuses
            if answer.status == 503:
                assert answer.header("retry-after") and json.loads(answer.body)["error"]["request_id"]
        assert len(asked) == 2, "no request is sent twice"
        assert send(other, request("GET", "/invocations", BEARER)).status == 404
        assert other.process.poll() is None


def test_30_an_engine_that_speaks_no_http_is_passed_on_as_it_is(tmp_path: Path) -> None:
    """nginx takes it for HTTP 0.9, and no directive of the packaged ones ends that: clients see a broken answer."""
    with saying(b"rubbish\r\n\r\n") as (port, asked), nginx.running(tmp_path, port) as other:
        assert send(other, request("GET", "/v1/models", BEARER)).data == b"rubbish\r\n\r\n"
        assert len(asked) == 1
        assert send(other, request("GET", "/invocations", BEARER)).status == 404
    assert [json.loads(line)["status"] for line in other.log.splitlines()] == [502, 404], "009 is no number of JSON's"


def test_30_no_engine(tmp_path: Path) -> None:
    with nginx.running(tmp_path, nginx.free_port()) as other:
        answer = send(other, request("POST", "/v1/chat/completions", BEARER, body=CHAT))
        assert answer.status == 503 and int(answer.header("retry-after")) > 0
        assert json.loads(answer.body)["error"]["message"]
        assert answer.header("content-type") == "application/json"


# 31 -------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "target",
    [
        '/a"b',
        "/a%22,%22status%22:200,%22x%22:%22",
        "/a\\b",
        "/a%0a{}",
        "/a%00b",
        "/a%ffb",
        "/a\xffb",
        "/%e2%80%ae",
        "/%1b[2J",
    ],
)
def test_31_a_line_of_the_log_is_a_line_of_json(gateway: Gateway, target: str) -> None:
    before = len(Path(gateway.folder / "access.log").read_bytes())
    send(gateway, request("GET", target + f"?key={KEY}", f"Authorization: Bearer {KEY}x", "User-Agent: \x01\x1b[2J"))
    end = time.monotonic() + 5
    while len(raw := Path(gateway.folder / "access.log").read_bytes()[before:]) == 0 and time.monotonic() < end:
        time.sleep(0.05)
    lines = raw.splitlines()
    assert len(lines) == 1
    assert re.fullmatch(rb"[ -~]*", lines[0]), "the journal shows no line with other characters"
    assert json.loads(lines[0])["status"] in (400, 401)
    assert KEY.encode() not in raw


# 10, 13 ---------------------------------------------------------------------------------------------------------------
def test_10_a_gateway_without_keys_lets_nobody_in(engine: Engine, tmp_path: Path) -> None:
    with nginx.running(tmp_path, engine.port) as other:
        other.set_keys({})
        other.reload()
        assert send(other, request("GET", "/v1/models", BEARER)).status == 401
        assert send(other, request("GET", "/health")).status == 200
    assert asked(engine) == ["GET /health HTTP/1.1"]


# 32 -------------------------------------------------------------------------------------------------------------------
def test_32_a_key_is_taken_out_and_another_is_replaced(engine: Engine, tmp_path: Path) -> None:
    new = "ojai-" + "n" * 43
    with nginx.running(tmp_path, engine.port) as other:
        engine.parts = 12
        with connected(other) as stream:
            stream.sendall(request("POST", "/v1/chat/completions", BEARER, body=b'{"stream": true}'))
            assert stream.recv(4096).startswith(b"HTTP/1.1 200")
            end = int(time.time()) + 3
            other.set_keys({"laptop": new})
            (other.folder / "keys" / "laptop.old.map").write_text(f'"{SUM}" "laptop@{end}";\n')
            other.process.send_signal(1)
            time.sleep(0.7)
            ci = f"Authorization: Bearer {nginx.KEYS['ci']}"
            assert send(other, request("GET", "/v1/models", ci)).status == 401, "its name was taken out"
            for key in (KEY, new):
                assert send(other, request("GET", "/v1/models", f"Authorization: Bearer {key}")).status == 200
            while time.time() < end + 0.1:
                time.sleep(0.1)
            assert send(other, request("GET", "/v1/models", BEARER)).status == 401, "the old one has ended"
            assert send(other, request("GET", "/v1/models", f"Authorization: Bearer {new}")).status == 200
            assert b"data: 11" in read(stream), "a stream that was open goes on"
        engine.parts = 4


# Beside the list ------------------------------------------------------------------------------------------------------
def test_every_address_is_of_both_versions(engine: Engine, tmp_path: Path) -> None:
    """`gateway_address: "::"` shut IPv4 out, by which the deploy itself asks whether the gateway answers."""
    with nginx.running(tmp_path, engine.port, gateway_address="::") as other:
        assert send(other, request("GET", "/v1/models", BEARER)).status == 200
        with socket.create_connection(("::1", other.port), 5):
            pass
    assert asked(engine) == ["GET /v1/models HTTP/1.1"]


def test_13_nginx_takes_no_sum_twice(gateway: Gateway, tmp_path: Path) -> None:
    """Why two names with one key are refused before: the gateway would not start with them."""
    for name in ("one", "two"):
        (gateway.folder / "keys" / f"{name}.map").write_text(f'"{"0" * 64}" "{name}";\n')
    argv = [
        nginx.program() / "usr/sbin/nginx",
        "-t",
        "-e",
        "stderr",
        "-p",
        gateway.folder,
        "-c",
        gateway.folder / "nginx.conf",
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    gateway.set_keys(nginx.KEYS)
    assert done.returncode and "conflicting parameter" in done.stderr
