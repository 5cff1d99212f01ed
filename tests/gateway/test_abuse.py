"""What must not get through, does not: asked of a real nginx, with an engine behind it that writes down what comes."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re

import pytest

from ojai.engines import endpoints
from tests.gateway.client import BEARER, KEY, connected, read, request, send
from tests.gateway.engine import OFFERED
from tests.gateway.nginx import REVOKED

CLOSED = [re.sub(r"\{\w+\}", "x", path) for path in endpoints.closed("vllm")]
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "PROPFIND")
#: All that an engine may see of a request's headers.
HEADERS = {"host", "content-type", "content-length", "accept", "user-agent", "x-request-id"}
CHAT = b'{"messages": []}'


def lawful(got) -> bool:
    method, path, version = got.line.split(" ")
    names = [name.lower() for name, _ in got.headers]
    return (
        (method, path) in OFFERED and version == "HTTP/1.1" and set(names) <= HEADERS and len(set(names)) == len(names)
    )


@pytest.fixture
def attack(gateway, engine):
    """Send bytes; what has come through is on the list, as the list has it, and as often as said."""

    def attack(data: bytes, reached: int = 0):
        answer = send(gateway, data)
        got = engine.take()
        assert all(map(lawful, got)), got
        assert len(got) == reached, got
        return answer

    return attack


@pytest.mark.parametrize("method", METHODS)
def test_without_a_key_there_is_nothing_but_health(attack, method):
    for path in (*sorted({path for _, path in OFFERED} - {"/health"}), *CLOSED, "/", "/nonsense"):
        assert attack(request(method, path, body=CHAT if method == "POST" else b"")).status == 401, path


@pytest.mark.parametrize("method", METHODS)
def test_with_a_key_only_the_list_is_offered_and_only_its_methods(attack, method):
    for path in sorted({path for _, path in OFFERED} - {"/metrics"}):
        there = (method, path) in OFFERED
        answer = attack(request(method, path, BEARER, body=CHAT if method == "POST" else b""), reached=int(there))
        assert answer.status == (200 if there else 405), path
    for path in (*CLOSED, "/", "/nonsense", "/v1", "/v1/"):
        assert attack(request(method, path, BEARER, body=CHAT if method == "POST" else b"")).status == 404, path


def test_health_needs_no_key_and_nothing_of_the_request_gets_through(attack):
    assert attack(request("GET", "/health?a=b", "X-Secret: 1", "Cookie: a=b"), reached=1).status == 200


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
@pytest.mark.parametrize("target", ["/invocations", "127.0.0.1:8000", "/v1/models"])
def test_methods_of_proxies(attack, method, target):
    assert attack(request(method, target, BEARER)).status in (400, 405)


WRONG = {
    "none": (),
    "the name alone": ("Authorization: laptop",),
    "another": (f"Authorization: Bearer {KEY[:-1]}z",),
    "revoked": (f"Authorization: Bearer {REVOKED}",),
    "its sum": (f"Authorization: Bearer {hashlib.sha256(KEY.encode()).hexdigest()}",),
    "in capitals": (f"Authorization: Bearer {KEY.upper()}",),
    "with more behind it": (f"Authorization: Bearer {KEY}x",),
    "with a word behind it": (f"Authorization: Bearer {KEY} x",),
    "with a word before it": (f"Authorization: Bearer x {KEY}",),
    "without a scheme": (f"Authorization: {KEY}",),
    "another scheme": (f"Authorization: Token {KEY}",),
    "basic": ("Authorization: Basic " + base64.b64encode(f"laptop:{KEY}".encode()).decode(),),
    "empty": ("Authorization: Bearer ",),
    "short": ("Authorization: Bearer a",),
    "long": ("Authorization: Bearer " + "a" * 4000,),
    "a pattern": ("Authorization: Bearer ~.*aaaaaaaaaaaaaaaaaaaa",),
    "the word of the map": ("Authorization: Bearer default000000000000",),
    "another header": (f"X-Api-Key: {KEY}",),
    "a header of proxies": (f"Proxy-Authorization: Bearer {KEY}",),
    "a cookie": (f"Cookie: Authorization=Bearer {KEY}; key={KEY}",),
    "a protocol of websockets": (f"Sec-WebSocket-Protocol: openai-insecure-api-key.{KEY}",),
    "a name with underscores": (f"Auth_orization: Bearer {KEY}", f"HTTP_AUTHORIZATION: Bearer {KEY}"),
    "a forwarded request": ("X-Forwarded-For: 127.0.0.1", "X-Original-URL: /health", "X-Rewrite-URL: /health"),
}


@pytest.mark.parametrize("headers", WRONG.values(), ids=list(WRONG))
def test_a_wrong_key_costs_the_engine_nothing(attack, headers):
    for method, path in sorted(OFFERED - {("GET", "/health")}):
        assert attack(request(method, path, *headers, body=CHAT if method == "POST" else b"")).status == 401


@pytest.mark.parametrize(
    "query", [f"key={KEY}", f"api_key={KEY}", f"Authorization=Bearer%20{KEY}", f"access_token={KEY}"]
)
def test_a_key_in_the_address_is_no_key(attack, query):
    assert attack(request("GET", f"/v1/models?{query}")).status == 401
    assert attack(request("GET", f"/v1/models/{query}")).status == 401


def test_a_key_in_the_body_is_no_key(attack):
    assert attack(request("POST", "/v1/chat/completions", body=b'{"api_key": "%s"}' % KEY.encode())).status == 401


def test_two_keys_are_refused_or_the_right_one_counts(attack, engine, gateway):
    """Whichever header nginx takes: none of them gets any further."""
    for pair in ((BEARER, "Authorization: Bearer x"), ("Authorization: Bearer x", BEARER)):
        assert send(gateway, request("GET", "/v1/models", *pair)).status in (200, 400, 401)
        assert all(map(lawful, engine.take()))
    assert attack(request("GET", "/v1/models", "Authorization: Bearer x", "Authorization: x")).status in (400, 401)


#: Sent with a key. None of them is on the list as it is sent.
TRICKS = (
    "//invocations",
    "/./invocations",
    "/v1/../invocations",
    "/v1/%2e%2e/invocations",
    "/v1/..%2finvocations",
    "/v1/%2e%2e%2finvocations",
    "/v1/..;/invocations",
    "/v1/models/..%5c..%5cinvocations",
    "/%69nvocations",
    "/INVOCATIONS",
    "/Invocations",
    "/invocations/",
    "/invocations.",
    "/invocations%20",
    "/invocations%00",
    "/invocations;a",
    "/invocations%3f",
    "/invocations%23",
    "/v1/chat/completions/../../../invocations",
    "/v1/chat/completions/%2e%2e/%2e%2e/%2e%2e/invocations",
    "/health/../invocations",
    "/health%2f..%2finvocations",
    "/health/",
    "/health.",
    "/health%20",
    "/Health",
    "//health",
    "/./health",
    "/x/../health",
    "/healt%68",
    "/health;a",
    "/v1//models",
    "//v1/models",
    "/v1/./models",
    "/v1/x/../models",
    "/v1/models/",
    "/v1/models.",
    "/V1/models",
    "/v1/Models",
    "/v1%2fmodels",
    "/v1%2Fmodels",
    "/v1/model%73",
    "/v1/models%20",
    "/v1/models%0a",
    "/v1/models;x",
    "/v1/models%252f",
    "/v1/models%3fa",
    "/v1/models,",
    "/v1/models~",
    "/v1/models.json",
    "/v1/models/x",
    "/v2/models",
    "/v1/%c0%ae%c0%ae/invocations",
    "/v1/\xc0\xae\xc0\xae/invocations",
    "/v1/..\\invocations",
    "/static/../invocations",
    "/docs",
    "/openapi.json",
    "/redoc",
    "/version",
    "/metrics/",
    "//metrics",
    "/x/../metrics",
    "/metric%73",
)


@pytest.mark.parametrize("target", TRICKS)
def test_tricks_with_the_path(attack, target):
    for method in ("GET", "POST"):
        body = CHAT if method == "POST" else b""
        assert attack(request(method, target, BEARER, body=body)).status in (400, 404)
        assert attack(request(method, target, body=body)).status in (400, 401)


@pytest.mark.parametrize(
    "target", ["/v1/../", "/..", "/%2e%2e", "/../../etc/passwd", "*", "v1/models", "?", "", "%", "/%zz"]
)
def test_targets_that_are_none(attack, target):
    assert attack(request("GET", target, BEARER)).status in (400, 404)


@pytest.mark.parametrize(
    "target",
    ["http://gateway.test/invocations", "https://127.0.0.1:8000/invocations", "http://other/v1/../invocations",
     "http://user:word@gateway.test/invocations", "ftp://gateway.test/invocations"],
)  # fmt: skip
def test_an_absolute_address_is_a_path_of_the_gateway(attack, target):
    assert attack(request("POST", target, BEARER, body=CHAT)).status in (400, 404)
    assert attack(request("POST", target, body=CHAT)).status in (400, 401)


def test_an_absolute_address_on_the_list_is_served_by_this_engine(attack):
    assert attack(request("GET", "http://169.254.169.254/v1/models", BEARER), reached=1).status == 200


def test_the_query_does_not_get_through(attack):
    assert attack(request("GET", "/v1/models?a=b&path=/invocations", BEARER), reached=1).status == 200


def test_old_versions_of_http(attack):
    assert attack(request("GET", "/v1/models", BEARER, version="HTTP/1.0"), reached=1).status == 200
    assert attack(request("POST", "/invocations", BEARER, body=CHAT, version="HTTP/1.0")).status == 404
    assert attack(request("GET", "/v1/models", version="HTTP/1.0")).status == 401
    for version in ("HTTP/1.2", "HTTP/2.0", "HTTP/9.9", "HTTQ/1.1", "HTTP/1.1 HTTP/1.1", "http/1.1"):
        answer = send_raw(attack, request("POST", "/invocations", BEARER, body=CHAT, version=version))
        assert set(answer) <= {400, 404, 505}


def send_raw(attack, data):
    return attack(data).statuses


def test_http_0_9(attack):
    answer = attack(b"GET /v1/models\r\n\r\n")
    assert b"line" not in answer.data


def inside(body: bytes) -> bytes:
    """A request within a request."""
    return b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}" + body


#: A second request hidden in the first: the head, without its end, and the body.
SMUGGLED = {
    "both lengths": ("Content-Length: 4\r\nTransfer-Encoding: chunked", b"0\r\n\r\n" + inside(b"")),
    "both, chunked first": ("Transfer-Encoding: chunked\r\nContent-Length: 4", b"0\r\n\r\n" + inside(b"")),
    "two lengths": ("Content-Length: 0\r\nContent-Length: 60", inside(b"")),
    "a list of lengths": ("Content-Length: 0, 60", inside(b"")),
    "a signed length": ("Content-Length: +2", b"{}"),
    "a negative length": ("Content-Length: -1", inside(b"")),
    "a length in hexadecimal": ("Content-Length: 0x2", b"{}" + inside(b"")),
    "a length with blanks": ("Content-Length: 2 2", b"{}" + inside(b"")),
    "another coding": ("Transfer-Encoding: xchunked", b"0\r\n\r\n" + inside(b"")),
    "two codings": ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", b"0\r\n\r\n" + inside(b"")),
    "chunked and more": ("Transfer-Encoding: chunked, identity", b"0\r\n\r\n" + inside(b"")),
    "a coding with a tab": ("Transfer-Encoding:\tchunked\x0b", b"0\r\n\r\n" + inside(b"")),
    "a coding in a quote": ('Transfer-Encoding: "chunked"', b"0\r\n\r\n" + inside(b"")),
    "a name with a blank": ("Transfer-Encoding : chunked", b"0\r\n\r\n" + inside(b"")),
    "a name with a line break": ("X: y\nTransfer-Encoding: chunked", b"0\r\n\r\n" + inside(b"")),
    "a folded header": ("X: y\r\n Transfer-Encoding: chunked", b"0\r\n\r\n" + inside(b"")),
    "a chunk of a wrong size": ("Transfer-Encoding: chunked", b"2\r\n{}xx0\r\n\r\n" + inside(b"")),
    "a chunk of a huge size": ("Transfer-Encoding: chunked", b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
    "a negative chunk": ("Transfer-Encoding: chunked", b"-1\r\n{}\r\n0\r\n\r\n"),
    "a chunk with line feeds": ("Transfer-Encoding: chunked", b"2\n{}\n0\n\n" + inside(b"")),
    "a host with a line break": ("Host: a\nX: b\r\nContent-Length: 0", inside(b"")),
    "a zero in a header": ("X: a\0b\r\nContent-Length: 0", inside(b"")),
}


@pytest.mark.parametrize(("head", "body"), SMUGGLED.values(), ids=list(SMUGGLED))
def test_a_request_within_a_request(gateway, engine, head, body):
    """Whatever nginx makes of it: of what is hidden, nothing reaches the engine, and nothing of it has a key."""
    for key in ((BEARER,), ()):
        start = "\r\n".join(["POST /v1/chat/completions HTTP/1.1", "Host: gateway.test", *key, head, "", ""])
        data = start.encode("latin-1") + body
        with connected(gateway, 3) as connection:
            connection.sendall(data)
            connection.settimeout(1.5)
            answer = b""
            with contextlib.suppress(TimeoutError):
                answer = read(connection)
        got = engine.take()
        assert all(map(lawful, got)), got
        assert len(got) <= len(key), got
        assert b"invocations" not in b"".join(one.body for one in got)
        if not key:
            assert b"HTTP/1.1 200" not in answer


def test_a_second_request_needs_its_own_key(gateway, engine):
    first = request("GET", "/v1/models", BEARER).replace(b"Connection: close\r\n", b"")
    answer = send(gateway, first + request("POST", "/v1/chat/completions", body=CHAT))
    assert answer.statuses == [200, 401]
    assert [one.line for one in engine.take()] == ["GET /v1/models HTTP/1.1"]


UPGRADES = {
    "websocket": ("Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"),
    "h2c": ("Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"),
    "tls": ("Upgrade: TLS/1.3",),
}


@pytest.mark.parametrize("headers", UPGRADES.values(), ids=list(UPGRADES))
@pytest.mark.parametrize("path", ["/v1/realtime", "/v1/chat/completions", "/v1/models", "/health", "/invocations"])
def test_a_connection_never_becomes_another_protocol(gateway, engine, headers, path):
    for key in ((BEARER,), ()):
        data = request("GET", path, *key, *headers).replace(
            b"Connection: close", b"Connection: Upgrade, HTTP2-Settings"
        )
        with connected(gateway, 3) as connection:
            connection.sendall(data)
            answer = connection.recv(65536)
        assert not answer.startswith(b"HTTP/1.1 101")
        listed = (path == "/v1/models" and key) or path == "/health"
        assert answer.startswith(b"HTTP/1.1 200") == bool(listed)
        assert len(engine.take()) == bool(listed)
        if not key and path != "/health":
            assert answer.startswith(b"HTTP/1.1 401")


def test_headers_do_not_reach_the_engine(attack, gateway, engine):
    headers = [
        "X-Request-Id: mine",
        "X-Data-Parallel-Rank: 3",
        "Connection: X-Request-Id",
        "Cookie: a=b",
        "Forwarded: for=x",
    ]
    data = request("POST", "/v1/chat/completions", BEARER, *headers, body=CHAT)
    assert send(gateway, data).status == 200
    (got,) = engine.take()
    assert lawful(got)
    assert got.body == CHAT
    assert got.header("x-request-id") != "mine"
    assert KEY not in str(got)


def test_too_many_and_too_long_headers(attack):
    assert attack(request("GET", "/v1/models", BEARER, "X: " + "a" * 20_000)).status in (400, 414, 431)
    assert attack(request("GET", "/" + "a" * 20_000, BEARER)).status in (400, 414)
    many = [f"X-{number}: {'a' * 1000}" for number in range(64)]
    assert attack(request("GET", "/v1/models", BEARER, *many)).status in (400, 431)
