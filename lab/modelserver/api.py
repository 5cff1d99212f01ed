"""The HTTP interface: vLLM's routes, bodies and statuses."""

from __future__ import annotations

import contextlib
import hmac
import json
import socket
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from . import NOTICE, VERSION, answers, tokens
from .answers import RequestError
from .arguments import api_keys
from .logs import info
from .state import DEAD, DEAD_MESSAGE, DRAINING, LOADING, State, Stopped

LARGEST_BODY = 64 * 2**20


def compact(value: Any) -> str:
    """Write JSON without spaces, as FastAPI does."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class Server(ThreadingHTTPServer):
    """One thread a connection, over a socket that is bound already."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, bound: socket.socket, state: State) -> None:
        super().__init__(bound.getsockname()[:2], Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = bound
        self.state = state
        self.keys = [key.encode() for key in api_keys(state.arguments)]
        silent = state.arguments.disable_access_log_for_endpoints
        self.silent = {path.strip() for path in (silent or "").split(",")}
        self.server_activate()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Leave a connection that the client closed without a word."""


class Handler(BaseHTTPRequestHandler):
    """Answers one connection's requests."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = 75
    wbufsize = 65536

    def version_string(self) -> str:
        """Return the Server header, which is uvicorn's for the real one."""
        return "uvicorn"

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: requests are logged by `log_request`, errors by their answers."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Print an access log line as uvicorn does."""
        if self.server.state.arguments.disable_uvicorn_access_log or self._path() in self.server.silent:
            return
        status = int(code)
        host, port = self.client_address[:2]
        print(f'INFO:     {host}:{port} - "{self.requestline}" {status} {HTTPStatus(status).phrase}', flush=True)

    # -- sending ---------------------------------------------------------------------------------------------

    def _send(self, status: int, body: bytes, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        if body:
            self.send_header("content-type", kind)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def _json(self, value: Any, status: int = 200, **headers: str) -> None:
        self._send(status, compact(value).encode(), **headers)

    def _refuse(self, status: int, message: str | None = None, kind: str | None = None, **headers: str) -> None:
        phrase = HTTPStatus(status).phrase
        self._json(answers.error_body(message or phrase, status, kind or phrase), status, **headers)

    def _path(self) -> str:
        return urlsplit(self.path).path if hasattr(self, "path") else ""

    # -- routing ---------------------------------------------------------------------------------------------

    def _routes(self) -> dict[str, dict[str, Callable[[], None]]]:
        routes: dict[str, dict[str, Callable[[], None]]] = {
            "/health": {"GET": self._health},
            "/ping": {"GET": self._health, "POST": self._health},
            "/version": {"GET": lambda: self._json({"version": VERSION})},
            "/load": {"GET": self._load},
            "/metrics": {"GET": self._metrics},
            "/tokenize": {"POST": self._tokenize},
            # As in vLLM, the API key does not guard this one, and it runs inference.
            "/invocations": {"POST": self._invocations},
            "/v1/models": {"GET": self._models},
            "/v1/chat/completions": {"POST": lambda: self._generate(chat=True)},
            "/v1/completions": {"POST": lambda: self._generate(chat=False)},
        }
        if not self.server.state.arguments.disable_fastapi_docs:
            routes["/openapi.json"] = {"GET": self._openapi}
            routes["/docs"] = {"GET": self._docs}
        return routes

    def _serve(self) -> None:
        path, state = self._path(), self.server.state
        try:
            body = self._read_body()
        except RequestError as refused:
            self.close_connection = True
            self._json(refused.body, refused.status)
            return
        self._body = body
        try:
            if state.phase == LOADING:
                if path in ("/health", "/ping"):
                    self._send(503, b"")
                else:
                    self._refuse(503, "The model is still loading.")
            elif path.startswith("/v1") and self.command != "OPTIONS" and not self._authorised():
                self._json({"error": "Unauthorized"}, 401)
            elif (route := self._routes().get(path)) is None:
                self._refuse(404)
            elif (action := route.get(self.command)) is None:
                self._refuse(405, allow=", ".join(route))
            else:
                action()
        except RequestError as refused:
            self._json(refused.body, refused.status)
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _serve

    def _read_body(self) -> bytes:
        if self.headers.get("transfer-encoding"):
            raise RequestError("the stand-in takes bodies with a Content-Length only", 411, "Length Required")
        text = self.headers.get("content-length", "0")
        if not text.isdigit() or int(text) > LARGEST_BODY:
            raise RequestError(f"Content-Length {text!r}: expected 0 to {LARGEST_BODY}", 413, "Payload Too Large")
        return self.rfile.read(int(text))

    def _parsed(self) -> Any:
        try:
            return json.loads(self._body)
        except (ValueError, RecursionError) as bad:
            raise RequestError(
                f"[{{'type': 'json_invalid', 'loc': ('body', {getattr(bad, 'pos', 0)}), "
                f"'msg': 'JSON decode error', 'ctx': {{'error': {str(bad)!r}}}}}]",
                kind="Bad Request",
            ) from bad

    def _authorised(self) -> bool:
        if not self.server.keys:
            return True
        scheme, _, given = self.headers.get("authorization", "").partition(" ")
        same = [hmac.compare_digest(given.encode("utf-8", "replace"), key) for key in self.server.keys]
        return scheme.lower() == "bearer" and any(same)

    # -- answers ---------------------------------------------------------------------------------------------

    def _health(self) -> None:
        self._send(503 if self.server.state.phase == DEAD else 200, b"")

    def _load(self) -> None:
        state = self.server.state
        self._json({"server_load": state.running if state.arguments.enable_server_load_tracking else 0})

    def _metrics(self) -> None:
        text = self.server.state.metrics.text()
        self._send(200, text.encode(), "text/plain; version=1.0.0; charset=utf-8")

    def _models(self) -> None:
        state = self.server.state
        cards = []
        for name in state.names:
            permission = {
                "id": f"modelperm-{answers.random_id()}",
                "object": "model_permission",
                "created": int(time.time()),
                "allow_create_engine": False,
                "allow_sampling": True,
                "allow_logprobs": True,
                "allow_search_indices": False,
                "allow_view": True,
                "allow_fine_tuning": False,
                "organization": "*",
                "group": None,
                "is_blocking": False,
            }
            cards.append(
                {
                    "id": name,
                    "object": "model",
                    "created": int(time.time()),
                    "owned_by": "vllm",
                    "root": state.model,
                    "parent": None,
                    "max_model_len": state.loaded.max_model_len,
                    "permission": [permission],
                }
            )
        self._json({"object": "list", "data": cards})

    def _tokenize(self) -> None:
        body = self._parsed()
        if not isinstance(body, dict) or ("prompt" not in body and "messages" not in body):
            raise RequestError("expected an object with 'prompt' or 'messages'", kind="Bad Request")
        if "messages" in body:
            numbers, _ = answers.chat_prompt(body, self.server.state.arguments)
            texts = None
        elif isinstance(body["prompt"], str):
            texts = tokens.pieces(body["prompt"])
            numbers = tokens.identifiers(texts)
        else:
            raise RequestError("'prompt' must be a text", kind="Bad Request", param="prompt")
        self._json(
            {
                "count": len(numbers),
                "max_model_len": self.server.state.loaded.max_model_len,
                "tokens": numbers,
                "token_strs": texts if body.get("return_token_strs") else None,
            }
        )

    def _openapi(self) -> None:
        paths = {
            path: {method.lower(): {"responses": {"200": {"description": NOTICE}}} for method in methods}
            for path, methods in self._routes().items()
            if path not in ("/docs", "/openapi.json")
        }
        self._json({"openapi": "3.1.0", "info": {"title": "FastAPI", "version": "0.1.0"}, "paths": paths})

    def _docs(self) -> None:
        rows = "".join(f"<li>{path}</li>" for path in self._routes())
        self._send(200, f"<title>docs</title><p>{NOTICE}</p><ul>{rows}</ul>".encode(), "text/html")

    def _invocations(self) -> None:
        body = self._parsed()
        self._generate(chat=isinstance(body, dict) and "messages" in body)

    def _generate(self, chat: bool) -> None:
        state = self.server.state
        if state.phase == DEAD:
            raise RequestError(DEAD_MESSAGE, 500, "InternalServerError")
        if state.phase == DRAINING:
            raise RequestError("The server is shutting down.", 503, "Service Unavailable")
        body = self._parsed()
        job = answers.prepare(body, chat, state.names, state.arguments, state.loaded.max_model_len)
        if state.arguments.enable_log_requests:
            info("logger.py", f"Received request {job.name}: {len(job.prompt_tokens)} prompt tokens")
        if job.stream:
            self._stream(self._events(job))
            return
        try:
            for _ in state.generate(job):
                pass
        except Stopped:
            raise RequestError(DEAD_MESSAGE, 500, "InternalServerError") from None
        self._json(answers.whole_answer(job))

    def _events(self, job: answers.Job) -> Iterable[str]:
        try:
            for event in self.server.state.generate(job):
                yield compact(event)
        except Stopped:
            yield json.dumps(answers.error_body(DEAD_MESSAGE, 500, "InternalServerError"))
        yield "[DONE]"

    def _stream(self, events: Iterable[str]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        chunked = self.request_version >= "HTTP/1.1"
        if chunked:
            self.send_header("transfer-encoding", "chunked")
        else:
            self.close_connection = True
        self.end_headers()
        with contextlib.closing(events):  # type: ignore[type-var]
            for event in events:
                data = f"data: {event}\n\n".encode()
                self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
                self.wfile.flush()
        if chunked:
            self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()
