"""A server under question: requests by OpenAI's client, its metrics, and what it shows of itself."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2
import openai
from openai.types.chat import ChatCompletion

from ojai import counters
from ojai.serving import Server
from ojai.smoke import Abilities, configured

#: What belongs to the model's own format and never into an answer: whole forms, which random words do not make.
_RAW = re.compile(
    r"<\|channel>\s*\w+|^\s*thought\n|<think>.*</think>|<\|tool_call>\s*call:\w+|<tool_call>\s*\{|```tool_code|<\|turn>\w+\n",
    re.DOTALL,
)

#: The longest answer whose form alone is judged, where nothing holds it to an end.
_FORM_TOKENS = 24

#: Prompt tokens a second that even a slow server reads: a long prompt is given this much more time.
_SLOWEST_READING = 50


class Unexpected(Exception):
    """An expectation that was not met: ``came`` instead of ``expected``."""

    def __init__(self, came: str, expected: str) -> None:
        super().__init__(came)
        self.came, self.expected = came, expected


class NotApplicable(Exception):
    """The check does not apply to this server; the message says why."""


@dataclass(frozen=True)
class Rules:
    """How strict a run is: form only, seconds a request may take, seconds to the first token."""

    form_only: bool = False
    timeout: float = 600
    first_token: float = 10


@dataclass
class Stream:
    """What a stream brought: text, and how long its first content and its end took."""

    text: str = ""
    reasoning: str = ""
    first: float | None = None
    end: float = 0
    chunks: int = 0
    finish: str | None = None
    usage: Any = None
    calls: dict[int, dict[str, str]] = field(default_factory=dict)


class Asker:
    """Puts requests to a server, and remembers the last one in words.

    + abilities: what it should be able to do; what it shows of itself fills what is not known
    + owner: who it says it is (``vllm``, ``llamacpp``)
    """

    def __init__(self, server: Server, rules: Rules) -> None:
        self.server, self.rules = server, rules
        self.client = server.client(rules.timeout)
        self.abilities = configured(server.service) if server.service else Abilities()
        self.owner: str | None = server.service.engine.name if server.service else None
        self.asked = ""
        self.without_thinking: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": False}}

    # -- expectations ----------------------------------------------------------------------------------------

    def expect(self, met: object, came: object, expected: str) -> None:
        """An expectation of the form, which every model must meet."""
        if not met:
            raise Unexpected(_short(came), expected)

    def expect_of_the_model(self, met: object, came: object, expected: str) -> None:
        """An expectation of the content, which a model with random weights cannot meet."""
        if not self.rules.form_only:
            self.expect(met, came, expected)

    def expect_clean(self, text: str | None) -> None:
        """Nothing of the model's own format is in an answer."""
        found = _RAW.search(text or "")
        self.expect(
            not found,
            text,
            "no marks of the model's own format: thoughts and tool calls have fields of their own",
        )

    # -- requests --------------------------------------------------------------------------------------------

    def chat(self, content: Any, *, think: bool | None = False, describe: str = "", **more: Any) -> ChatCompletion:
        """Ask, and check the form that every answer has. ``content``: of a user's message, or a list of messages."""
        arguments = self._arguments(content, think, describe, more)
        answer: ChatCompletion = self.client.chat.completions.create(**arguments)
        self.expect(getattr(answer, "choices", None), answer, "an answer with one choice")
        choice, usage = answer.choices[0], answer.usage
        self.expect(choice.message.role == "assistant", choice.message.role, "the role `assistant`")
        finishes = ("stop", "length", "tool_calls")
        self.expect(choice.finish_reason in finishes, choice.finish_reason, f"a finish reason ({', '.join(finishes)})")
        self.expect(usage and usage.prompt_tokens > 0, usage, "a count of the prompt's tokens")
        if usage:
            total = usage.prompt_tokens + usage.completion_tokens
            self.expect(usage.total_tokens == total, usage, "a total that is the sum of prompt and answer")
        self.expect_clean(choice.message.content)
        return answer

    def stream(self, content: Any, *, think: bool | None = False, describe: str = "", **more: Any) -> Stream:
        """Ask for a stream, and read it to its end, which must be there."""
        arguments = self._arguments(content, think, describe or "streamed", more)
        found, started = Stream(), time.monotonic()
        chunks = self.client.chat.completions.create(**arguments, stream=True, stream_options={"include_usage": True})
        for chunk in chunks:
            found.chunks += 1
            found.usage = chunk.usage or found.usage
            for choice in chunk.choices:
                found.finish = choice.finish_reason or found.finish
                reasoning = reasoning_of(choice.delta)
                if (choice.delta.content or reasoning or choice.delta.tool_calls) and found.first is None:
                    found.first = time.monotonic() - started
                found.text += choice.delta.content or ""
                found.reasoning += reasoning
                for call in choice.delta.tool_calls or ():
                    kept = found.calls.setdefault(call.index, {"id": "", "name": "", "arguments": ""})
                    kept["id"] += call.id or ""
                    if call.function:
                        kept["name"] += call.function.name or ""
                        kept["arguments"] += call.function.arguments or ""
        found.end = time.monotonic() - started
        self.expect(found.finish, f"a stream of {found.chunks} chunks that ends without a finish reason", "its end")
        self.expect(found.usage, f"a stream of {found.chunks} chunks without usage", "the usage, in the last chunk")
        self.expect_clean(found.text)
        return found

    def last_line(self, content: Any, **more: Any) -> str:
        """The last line of a stream as it is sent."""
        arguments = self._arguments(content, False, "streamed, as it is sent", more)
        with self.client.chat.completions.with_streaming_response.create(**arguments, stream=True) as response:
            lines = [line for line in response.iter_lines() if line.strip()]
        return lines[-1] if lines else ""

    def _arguments(self, content: Any, think: bool | None, describe: str, more: dict[str, Any]) -> dict[str, Any]:
        messages = content if _are_messages(content) else [{"role": "user", "content": content}]
        extra = {**(more.pop("extra_body", None) or {})}
        if think:
            extra = {"chat_template_kwargs": {"enable_thinking": True}, **extra}
        elif think is False:
            extra = {**self.without_thinking, **extra}
        arguments = {"model": self.server.model, "temperature": 0, "max_tokens": 64, **more}
        if self.rules.form_only and (think or not {"tools", "response_format"} & more.keys()):
            arguments["max_tokens"] = min(arguments["max_tokens"], _FORM_TOKENS)
        self.asked = _described(messages, describe, {**more, "thinking": True} if think else more)
        return {**arguments, "messages": messages, "extra_body": extra}

    def patient(self, tokens: int) -> None:
        """Allow for a prompt of so many tokens."""
        self.client = self.client.with_options(timeout=self.rules.timeout + tokens / _SLOWEST_READING)

    @property
    def going_on(self) -> dict[str, Any]:
        """Makes an answer as long as it may be, where it is known how."""
        return dict(counters.engine(self.owner).get("no_end", {}))

    # -- what it shows ---------------------------------------------------------------------------------------

    def look(self) -> list[str]:
        """The ids of its models; what else it shows fills what is not known of it."""
        self.asked = "GET /v1/models"
        models = self.client.models.list().data
        found = next((model for model in models if model.id == self.server.model), models[0] if models else None)
        shown = (found.model_extra or {}) if found else {}
        self.owner = self.owner or (found.owned_by if found else None)
        properties = self._properties() if self.owner == "llamacpp" else {}
        modalities = properties.get("modalities") or {}
        meta = shown.get("meta") or {}
        settings = properties.get("default_generation_settings") or {}
        self._fill(
            context=shown.get("max_model_len") or settings.get("n_ctx") or meta.get("n_ctx"),
            images=modalities.get("vision"),
            audio=modalities.get("audio"),
            # What it says of video is of the model, not of the formats that it can read.
            video=None if modalities.get("video") or not modalities else False,
            named=False if self.owner == "llamacpp" else None,
            users=properties.get("total_slots"),
        )
        return [model.id for model in models]

    def _fill(self, **shown: Any) -> None:
        unknown = {name: value for name, value in shown.items() if getattr(self.abilities, name) is None}
        self.abilities = replace(self.abilities, **unknown)

    def _properties(self) -> dict[str, Any]:
        status, text = self.get("/props")
        try:
            found = json.loads(text) if status == 200 else {}
        except ValueError:
            found = {}
        return found if isinstance(found, dict) else {}

    def get(self, path: str, timeout: float = 20) -> tuple[int, str]:
        """Status and text of a page outside of ``/v1``."""
        try:
            response = self.client.get(
                f"{self.server.url}{path}", cast_to=httpx2.Response, options={"timeout": timeout}
            )
        except openai.APIStatusError as error:
            return error.status_code, error.response.text
        return response.status_code, response.text

    def metrics(self) -> Mapping[str, float]:
        """The server's counters by what they mean. Raises :class:`NotApplicable` where it has none."""
        names = counters.names(self.owner)
        if not names:
            raise NotApplicable(f"it is not known how {self.owner or 'this server'} counts")
        status, text = self.get(self.server.service.engine.api.metrics if self.server.service else "/metrics")
        if status != 200 and not self.abilities.metrics:
            raise NotApplicable(f"/metrics answers {status}")
        self.expect(status == 200, f"/metrics answers {status}", "200, and counters")
        _, found = counters.read(text) or ("", {})
        for meaning in (counters.prompts(names), "generated_tokens"):
            self.expect(meaning in found, f"no {names[meaning]} in /metrics", "the counters of its engine")
        return found

    def moved(self, before: Mapping[str, float], prompt: int, generated: int) -> Mapping[str, float]:
        """How far the counters have moved since ``before``, once they have moved by as much as was asked for."""
        until = time.monotonic() + 5
        while True:
            now = self.metrics()
            moved = {name: value - before.get(name, 0) for name, value in now.items()}
            if (
                moved[counters.prompts(moved)] >= prompt and moved["generated_tokens"] >= generated
            ) or time.monotonic() > until:
                return moved
            time.sleep(0.5)


def reasoning_of(message: Any) -> str:
    """The thoughts in a message or a part of one: vLLM calls them ``reasoning``, llama.cpp ``reasoning_content``."""
    extra = message.model_extra or {}
    return str(extra.get("reasoning") or extra.get("reasoning_content") or "")


def _are_messages(content: Any) -> bool:
    return isinstance(content, list) and all(isinstance(one, dict) and "role" in one for one in content)


def _short(value: object, most: int = 300) -> str:
    text = value if isinstance(value, str) else repr(value)
    text = " ".join(text.split()) or "nothing"
    return text if len(text) <= most else f"{text[: most - 20]} … ({len(text)} characters)"


def _described(messages: Sequence[Mapping[str, Any]], describe: str, more: Mapping[str, Any]) -> str:
    parts = []
    for message in messages:
        content = message.get("content")
        texts = [content] if isinstance(content, str) else [_part(part) for part in content or ()]
        parts.append(f"{message['role']}: {_short(' '.join(texts), 160)}")
    said = " / ".join(parts)
    options = [f"{name} {_short(more[name], 60)}" for name in ("tool_choice", "thinking") if more.get(name)]
    options += [name for name in ("tools", "response_format") if more.get(name)]
    return f"{said} ({', '.join(filter(None, [describe, *options]))})" if describe or options else said


def _part(part: Mapping[str, Any]) -> str:
    return str(part["text"]) if part.get("type") == "text" else f"<{str(part.get('type')).partition('_url')[0]}>"


def told(error: openai.OpenAIError | httpx2.HTTPError, timeout: float) -> str:
    """A failed request in words."""
    if isinstance(error, openai.APIStatusError):
        said = error.body.get("message") if isinstance(error.body, dict) else None
        return f"HTTP {error.status_code}: {_short(said or error.message)}"
    if isinstance(error, openai.APITimeoutError | httpx2.TimeoutException):
        return f"no answer within {timeout:.0f} s"
    return f"{_short(str(error.__cause__ or error))}"
