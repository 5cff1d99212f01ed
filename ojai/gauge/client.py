"""One question to a server, streamed: when its parts came, how many tokens they were, and how it failed."""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import httpx2

from ojai.heard import heard

#: Plain words of one or two tokens, so that a prompt's length can be aimed at.
_WORDS = tuple(
    "river stone light paper green house music table water cloud bread winter garden silver letter window mountain "  # noqa: SIM905
    "summer coffee bridge forest doctor market island planet engine circle animal number school street morning".split()
)

#: What went wrong: no connection, an answer that is no answer (status, error event, none in time), a stream that ends
#: in the middle, or a request that the server does not take.
Failure = Literal["unreachable", "no-answer", "truncated", "refused"]

#: The fields of a chunk in which engines send text.
_TEXT = ("content", "reasoning", "reasoning_content")


@dataclass(frozen=True)
class Target:
    """A server to ask. ``url`` ends before ``/v1``; ``direct``: no proxy of this computer is between."""

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    direct: bool = True
    timeout: float = 300

    def client(self) -> httpx2.Client:
        """A connection of its own, which tries nothing twice."""
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        return httpx2.Client(
            base_url=self.url,
            headers=headers,
            timeout=httpx2.Timeout(self.timeout, connect=10),
            trust_env=not self.direct,
        )


@dataclass(frozen=True)
class Answer:
    """An answer in seconds since the question: ``first`` and ``last`` part with text. ``chunks``: parts with text."""

    first: float = 0.0
    last: float = 0.0
    chunks: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    answer_tokens: int = 0
    text: str = ""
    failure: Failure | None = None
    error: str = ""


def prompt(seed: int, words: int, mark: str) -> str:
    """A prompt of random words, the same for the same seed. ``mark`` makes its beginning one that no cache has."""
    chosen = random.Random(seed).choices(_WORDS, k=max(words, 1))
    return f"{mark}: continue this list of words for as long as you can. {' '.join(chosen)}"


def ask(target: Target, client: httpx2.Client, text: str, tokens: int, exact: bool = True) -> Answer:
    """Ask once. ``exact``: an answer of just so many tokens, which servers that know only OpenAI's fields refuse."""
    answer = _ask(target, client, text, tokens, exact)
    return replace(answer, error=heard(answer.error, target.key))


def _ask(target: Target, client: httpx2.Client, text: str, tokens: int, exact: bool) -> Answer:
    body: dict[str, Any] = {
        "model": target.model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": tokens,
        "temperature": 0,
        "seed": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if exact:
        # `ignore_eos`: vLLM's and llama.cpp's. `cache_prompt`: llama.cpp's; vLLM passes over what it does not know.
        body |= {"ignore_eos": True, "cache_prompt": False}
    stream = _Stream(time.perf_counter())
    try:
        with client.stream("POST", "/v1/chat/completions", json=body) as response:
            if response.status_code != 200:
                response.read()
                failure: Failure = "no-answer" if response.status_code >= 500 else "refused"
                return Answer(failure=failure, error=f"status {response.status_code}: {_message(response.text)}")
            for line in response.iter_lines():
                stream.take(line)
    except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
        return Answer(failure="unreachable", error=str(error))
    except httpx2.TimeoutException:
        return stream.answer("no-answer", f"nothing came for {target.timeout:.0f} s")
    except httpx2.HTTPError as error:
        return stream.answer("truncated" if stream.chunks else "no-answer", str(error) or type(error).__name__)
    return stream.answer()


class _Stream:
    """The lines of a stream as they come."""

    def __init__(self, started: float) -> None:
        self._started = started
        self._first = self._last = 0.0
        self._usage: dict[str, Any] = {}
        self._texts: list[str] = []
        self._error = ""
        self._finished = self._done = False
        self.chunks = 0

    def take(self, line: str) -> None:
        """A line, at the time at which it came."""
        now = time.perf_counter() - self._started
        if not line.startswith("data:"):
            return
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            self._done = True
            return
        try:
            event = json.loads(data)
        except ValueError:
            self._error = f"an event that is no JSON: {data[:200]}"
            return
        if not isinstance(event, dict):
            return
        if event.get("error"):
            self._error = _message(data)
        self._usage = event.get("usage") or self._usage
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            text = "".join(str(delta.get(name) or "") for name in _TEXT)
            if text:
                self._first = self._first or now
                self._last = now
                self.chunks += 1
                self._texts.append(text)
            self._finished = self._finished or bool(choice.get("finish_reason"))

    def answer(self, failure: Failure | None = None, error: str = "") -> Answer:
        """The answer that these lines make."""
        if failure is None and self._error:
            failure, error = "no-answer", self._error
        if failure is None and not (self._finished and self._done):
            missing = "[DONE]" if self._finished else "a finish_reason"
            failure, error = "truncated", f"the stream ended after {self.chunks} parts without {missing}"
        if failure is None and not self.chunks:
            failure, error = "no-answer", "the answer has no text"
        details = self._usage.get("prompt_tokens_details") or {}
        return Answer(
            first=self._first,
            last=self._last,
            chunks=self.chunks,
            prompt_tokens=int(self._usage.get("prompt_tokens") or 0),
            cached_tokens=int(details.get("cached_tokens") or 0),
            answer_tokens=int(self._usage.get("completion_tokens") or self.chunks),
            text="".join(self._texts),
            failure=failure,
            error=error,
        )


def _message(text: str) -> str:
    """The message in an error's body, on one line."""
    try:
        found = json.loads(text)
        error = found.get("error", found) if isinstance(found, dict) else found
        text = str(error.get("message", error)) if isinstance(error, dict) else str(error)
    except ValueError:
        pass
    return " ".join(text.split())[:300]
