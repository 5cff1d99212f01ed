"""A little server of OpenAI's shape that answers right, or odd in one way."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "acme/right-1b"
WORDS = ["One", ", two", ", three", ", four", ", five", ", six", ", seven", ", eight."] * 8


def chunk(delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """One event of a stream; without a delta there is no choice in it."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": choices} | more


def usage(prompt: int, completion: int) -> dict[str, Any]:
    """What a request has used."""
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


class Odd:
    """How the server answers; a test overrides what is to be odd."""

    models: Sequence[str] = (MODEL,)
    key: str | None = None
    echo_key = False
    metrics: int | None = None  # a status, instead of 404
    data = "data: "
    end = "\n\n"
    comments = False
    done = True
    finish: str | None = "stop"
    with_usage = True
    reasoning: str | None = None  # the field that the thoughts come in, before the answer
    first_token = 0.0
    words = WORDS
    call: Any = None  # arguments of a tool call: a text, or what is no text
    failing: tuple[int, dict[str, str], str] | None = None  # every request for a chat gets this
    only_whole = False
    cut_after: int | None = None
    silent = False

    def __init__(self, **odd: Any) -> None:
        self.asked: list[tuple[str, str, dict[str, str], dict[str, Any]]] = []
        for name, value in odd.items():
            if not hasattr(type(self), name):
                raise AttributeError(name)
            setattr(self, name, value)

    def events(self, request: dict[str, Any]) -> Iterator[tuple[float, dict[str, Any]]]:
        """The events of a stream, each with the pause before it."""
        most = request.get("max_tokens") or request.get("max_completion_tokens") or len(self.words)
        words = (self.words * (1 + most // len(self.words)))[:most] if request.get("ignore_eos") else self.words[:most]
        yield 0, chunk({"role": "assistant", "content": ""})
        if self.reasoning:
            yield 0, chunk({self.reasoning: "The user "})
            yield 0, chunk({self.reasoning: "wants to count."})
        for place, word in enumerate(words):
            yield self.first_token if place == 0 else 0.002, chunk({"content": word})
        ended = {"stop": "length"}.get(self.finish or "", self.finish) if len(words) == most else self.finish
        asked = (request.get("stream_options") or {}).get("include_usage")
        yield 0, chunk({}, ended)
        if self.with_usage and asked:
            prompt = len(json.dumps(request["messages"]).split())
            yield 0, chunk(None, usage=usage(prompt, len(words)))


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    odd: Odd

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def give(self, status: int, body: str | bytes, kind: str = "application/json", **headers: str) -> None:
        """Send an answer."""
        octets = body if isinstance(body, bytes) else body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(octets)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(octets)

    def wrong(self, status: int, text: str) -> None:
        """Send an error of OpenAI's form."""
        self.give(status, json.dumps({"error": {"message": text, "type": "invalid_request_error", "code": status}}))

    def allowed(self) -> bool:
        """Whether the key is right."""
        sent = self.headers.get("Authorization", "")
        if self.odd.key is None or sent == f"Bearer {self.odd.key}":
            return True
        self.wrong(401, f"Incorrect API key provided: {sent}" if self.odd.echo_key else "Unauthorized")
        return False

    def do_GET(self) -> None:
        """Models, health and metrics."""
        self.odd.asked.append(("GET", self.path, dict(self.headers), {}))
        if self.path == "/v1/models":
            if self.allowed():
                listed = [{"id": name, "object": "model", "created": 1, "owned_by": "a"} for name in self.odd.models]
                self.give(200, json.dumps({"object": "list", "data": listed}))
        elif self.path == "/health":
            self.give(200, "")
        elif self.path == "/metrics" and self.odd.metrics:
            self.give(self.odd.metrics, "no", "text/plain")
        else:
            self.wrong(404, "Not Found")

    def do_POST(self) -> None:
        """A chat."""
        request = json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0"))) or b"{}")
        self.odd.asked.append(("POST", self.path, dict(self.headers), request))
        if self.path != "/v1/chat/completions":
            self.wrong(404, "Not Found")
        elif not self.allowed():
            pass
        elif self.odd.silent:
            threading.Event().wait(20)
        elif self.odd.failing:
            status, headers, text = self.odd.failing
            self.give(
                status,
                text,
                headers.get("Content-Type", "text/html"),
                **{name: value for name, value in headers.items() if name != "Content-Type"},
            )
        elif request.get("model") not in self.odd.models:
            self.wrong(404, f"The model `{request.get('model')}` does not exist.")
        elif request.get("stream"):
            self.stream(request)
        else:
            self.whole(request)

    def whole(self, request: dict[str, Any]) -> None:
        """Answer at once."""
        called = any(message["role"] == "tool" for message in request["messages"])
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self.odd.words)}
        finish = self.odd.finish
        if request.get("tools") and self.odd.call is not None and not called:
            name = request["tools"][0]["function"]["name"]
            call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": self.odd.call}}
            message, finish = {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls"
        choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
        answer = {"id": "c1", "object": "chat.completion", "created": 1, "model": MODEL, "choices": [choice]}
        self.give(
            200,
            json.dumps(answer | ({"usage": usage(len(json.dumps(request).split()), 9)} if self.odd.with_usage else {})),
        )

    def stream(self, request: dict[str, Any]) -> None:
        """Answer bit by bit."""
        odd = self.odd
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            for place, (pause, event) in enumerate(odd.events(request)):
                if pause:
                    threading.Event().wait(pause)
                if odd.comments:
                    self.wfile.write(f": keep-alive{odd.end}".encode())
                self.wfile.write(f"{odd.data}{json.dumps(event)}{odd.end}".encode())
                self.wfile.flush()
                if place == odd.cut_after:
                    return
            if odd.done:
                self.wfile.write(f"{odd.data}[DONE]{odd.end}".encode())
        except OSError:
            pass


@contextmanager
def serving(odd: Odd, wrap: Callable[[ThreadingHTTPServer], None] | None = None) -> Iterator[str]:
    """Serve it meanwhile; gives its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"odd": odd}))
    server.daemon_threads = True
    if wrap:
        wrap(server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
