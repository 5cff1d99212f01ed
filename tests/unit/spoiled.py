"""A server in front of another that spoils its answers in one way, as broken servers and proxies do."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

DEAD = {"error": {"message": "EngineCore encountered an issue.", "type": "InternalServerError", "code": 500}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def _answer(self, status, body, kind="application/json"):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _serve(self):
        spoiled = self.server.spoiled
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        chat = self.command == "POST"
        if chat and spoiled.how == "dead":
            return self._answer(500, json.dumps(DEAD).encode())
        if chat and spoiled.how == "silent":
            time.sleep(spoiled.pause)
            return self._answer(500, b"")
        if chat and spoiled.how == "cached" and body in spoiled.streamed:
            return self._answer(200, spoiled.streamed[body], "text/event-stream")
        if self.path == "/metrics" and spoiled.how == "still" and spoiled.kept:
            return self._answer(200, spoiled.kept["/metrics"], "text/plain")
        if self.path == "/metrics" and spoiled.how == "hidden":
            return self._answer(404, b"")
        if chat and spoiled.how == "late":
            time.sleep(spoiled.pause)
        with contextlib.closing(http.client.HTTPConnection(*spoiled.behind, timeout=60)) as connection:
            connection.request(self.command, self.path, body, {"content-type": "application/json"})
            answer = connection.getresponse()
            if not chat or answer.status != 200 or spoiled.how == "whole":
                whole = answer.read()
                if self.path == "/metrics":
                    spoiled.kept["/metrics"] = whole
                if self.path == "/metrics" and spoiled.how == "doubled":
                    whole = whole.replace(b"vllm:generation_tokens_total{", b'vllm:generation_tokens_total{shard="1",')
                    whole += b'vllm:generation_tokens_total{shard="2"} ' + str(time.time() * 1000).encode()
                return self._answer(answer.status, whole, answer.headers.get_content_type())
            return self._stream(answer, spoiled, body)
        return None

    def _stream(self, answer, spoiled, asked):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        events = 0
        for line in answer:
            events += line.startswith(b"data:")
            if spoiled.how in ("truncated", "torn") and events > 5:
                break
            spoiled.streamed[asked] = spoiled.streamed.get(asked, b"") + line
            self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
            self.wfile.flush()
        if spoiled.how == "torn":
            self.close_connection = True
            return
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    do_GET = do_POST = _serve


class Spoiled:
    """``how``: late, cached, still, hidden, doubled, dead, silent, truncated, torn, whole; empty: a plain proxy."""

    def __init__(self, behind: str, how: str, pause: float = 1.6):
        self.behind = (urlsplit(behind).hostname, urlsplit(behind).port)
        self.how = how
        self.pause = pause
        self.kept: dict = {}
        self.streamed: dict = {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.server.daemon_threads = True
        self.server.spoiled = self
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.server.shutdown()
        self.server.server_close()
