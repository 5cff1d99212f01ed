"""What is answered: requests checked as vLLM checks them, and texts that say what they are."""

from __future__ import annotations

import argparse
import json
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

from . import NOTICE, media, tokens

MAX_N = 128


class RequestError(Exception):
    """A request is refused; carries vLLM's error object."""

    def __init__(
        self, message: str, status: int = 400, kind: str = "BadRequestError", param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = error_body(message, status, kind, param)


def error_body(message: str, status: int, kind: str, param: str | None = None) -> dict[str, Any]:
    """Return the body of an error as vLLM writes it."""
    return {"error": {"message": message, "type": kind, "param": param, "code": status}}


def random_id() -> str:
    """Return 16 hexadecimal digits."""
    return secrets.token_hex(8)


@dataclass(frozen=True)
class Part:
    """One token of an answer: the field it belongs to (`content` or `reasoning`) and its text."""

    field: str
    text: str


@dataclass
class Job:
    """A checked request, ready to run."""

    chat: bool
    model: str
    prompt_tokens: list[int]
    max_tokens: int
    n: int
    stream: bool
    include_usage: bool
    parts: list[Part]
    finish_reason: str
    tool: dict[str, str] | None = None
    echo: str = ""
    identifier: str = field(default_factory=random_id)
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def name(self) -> str:
        """The request's id."""
        return f"{'chatcmpl' if self.chat else 'cmpl'}-{self.identifier}"

    def joined(self, which: str) -> str:
        """Return the whole text of one field."""
        return "".join(part.text for part in self.parts if part.field == which)

    def usage(self, generated: int) -> dict[str, Any]:
        """Return the usage object after so many generated tokens."""
        prompt = len(self.prompt_tokens)
        return {
            "prompt_tokens": prompt,
            "total_tokens": prompt + generated,
            "completion_tokens": generated,
            "prompt_tokens_details": None,
        }


def message_text(content: Any, picture: int, seen: Counter[str]) -> tuple[str, int]:
    """Return a message's text and how many tokens its media count for, `picture` each image; `seen` counts them."""
    if content is None:
        return "", 0
    if isinstance(content, str):
        return content, 0
    if not isinstance(content, list):
        raise RequestError("message content must be a string or a list of parts", kind="Bad Request")
    texts, cost = [], 0
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            texts.append(str(part.get("text", "")))
        elif kind in media.KINDS:
            seen[media.KINDS[kind]] += 1
            try:
                cost += media.cost(part, picture)
            except ValueError as bad:
                raise RequestError(str(bad)) from None
        else:
            raise RequestError(f"Unknown part type: {kind}")
    return "\n".join(texts), cost


def chat_prompt(body: dict[str, Any], arguments: argparse.Namespace) -> tuple[list[int], str]:
    """Return the prompt's token numbers and the last user message's text. Thoughts of earlier turns are left out."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestError("'messages' must be a list with at least one message", kind="Bad Request")
    numbers: list[int] = []
    asked = ""
    seen: Counter[str] = Counter()
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise RequestError("each message must be an object with a 'role'", kind="Bad Request")
        text, cost = message_text(message.get("content"), media.budget(arguments, body), seen)
        numbers += tokens.identifiers([message["role"]]) * tokens.MESSAGE_TOKENS
        numbers += [0] * cost + tokens.identifiers(tokens.pieces(text))
        for call in message.get("tool_calls") or ():
            numbers += tokens.identifiers(tokens.pieces(json.dumps(call.get("function"))))
        if message["role"] == "user":
            asked = text
    for kind, count in seen.items():
        most = media.limit(arguments.limit_mm_per_prompt, kind)
        if most is not None and count > most:
            raise RequestError(f"At most {most} {kind}(s) may be provided in one prompt.")
    return numbers, asked


def minimal_instance(schema: Any, depth: int = 0) -> Any:
    """Return a small value that a JSON schema takes (types, enum, const, required properties)."""
    if not isinstance(schema, dict) or depth > 8:
        return {}
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for several in ("anyOf", "oneOf"):
        if schema.get(several):
            return minimal_instance(schema[several][0], depth + 1)
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: minimal_instance(properties.get(name), depth + 1) for name in schema.get("required", [])}
    if kind == "array":
        return [minimal_instance(schema.get("items"), depth + 1)] * int(schema.get("minItems", 0))
    return {"string": "stand-in", "integer": 0, "number": 0.0, "boolean": False}.get(str(kind))


def choose_tool(body: dict[str, Any], asked: str, arguments: argparse.Namespace) -> tuple[str, str] | None:
    """Return the tool to call and the finish reason, or None to answer in words.

    A forced tool is called. With `auto`, which the real model decides, the rule is: the first tool whose
    name stands in the last user message, or the first of all where that message says "use a tool".
    """
    tools, choice = body.get("tools"), body.get("tool_choice")
    if not tools or choice == "none" or body["messages"][-1]["role"] == "tool":
        return None
    names = []
    for tool in tools if isinstance(tools, list) else []:
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise RequestError("each tool must be a function with a name", kind="Bad Request", param="tools")
        names.append(function["name"])
    if isinstance(choice, dict):
        expected = choice.get("function", {}).get("name")
        if expected not in names:
            raise RequestError(
                "The tool specified in `tool_choice` does not match any of the specified `tools`",
                kind="Bad Request",
                param="tool_choice",
            )
        return str(expected), "stop"
    if choice == "required":
        return names[0], "tool_calls"
    if not arguments.enable_auto_tool_choice or not arguments.tool_call_parser:
        raise RequestError('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set')
    named = [name for name in names if name in asked]
    if named or "use a tool" in asked.lower():
        return (named or names)[0], "tool_calls"
    return None


def _whole(body: dict[str, Any], name: str, default: int | None, least: int) -> int | None:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise RequestError(f"{name} must be an integer, got {value!r}.", kind="Bad Request", param=name)
    if value < least:
        raise RequestError(f"{name} must be at least {least}, got {value}.", param=name)
    return value


def _thinks(body: dict[str, Any], arguments: argparse.Namespace) -> bool:
    chosen = {**(arguments.default_chat_template_kwargs or {}), **(body.get("chat_template_kwargs") or {})}
    return bool(arguments.reasoning_parser) and chosen.get("enable_thinking") is True


def _wanted_json(body: dict[str, Any]) -> str | None:
    """Return the answer for a request that asks for JSON, or None."""
    expected = body.get("response_format")
    kind = expected.get("type") if isinstance(expected, dict) else None
    if kind == "json_object":
        return json.dumps({"stand_in": NOTICE})
    if kind == "json_schema":
        return json.dumps(minimal_instance((expected or {}).get("json_schema", {}).get("schema")))
    return None


def reply(body: dict[str, Any], prompt_tokens: int, model: str) -> str:
    """Return the answer in words."""
    return f"{NOTICE} You sent {prompt_tokens} tokens to {model}."


def _prompt_of(body: dict[str, Any]) -> tuple[list[int], str]:
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return tokens.identifiers(tokens.pieces(prompt)), prompt
    if isinstance(prompt, list) and prompt and all(type(number) is int for number in prompt):
        return list(prompt), ""
    raise RequestError(
        "'prompt' must be a text or a list of token numbers (the stand-in takes one prompt a request)",
        kind="Bad Request",
        param="prompt",
    )


def prepare(body: Any, chat: bool, names: list[str], arguments: argparse.Namespace, max_model_len: int) -> Job:
    """Check a request's body and return the job; RequestError as vLLM would refuse it."""
    if not isinstance(body, dict):
        raise RequestError("the body must be a JSON object", kind="Bad Request")
    model = body.get("model") or names[0]
    if model not in names:
        raise RequestError(f"The model `{model}` does not exist.", 404, "NotFoundError", "model")
    options = body.get("stream_options")
    if options and not body.get("stream"):
        raise RequestError("Stream options can only be defined when `stream=True`.", param="stream_options")
    numbers, asked = chat_prompt(body, arguments) if chat else _prompt_of(body)
    limit_name = "max_completion_tokens" if chat and body.get("max_completion_tokens") is not None else "max_tokens"
    asked_max = _whole(body, limit_name, None if chat else 16, 1)
    if len(numbers) + (asked_max or 0) > max_model_len or len(numbers) >= max_model_len:
        raise RequestError(
            f"This model's maximum context length is {max_model_len} tokens. However, you requested "
            f"{asked_max or 0} output tokens and your prompt contains {len(numbers)} input tokens, for a total "
            f"of {len(numbers) + (asked_max or 0)} tokens. Please reduce the length of the input prompt or the "
            "number of requested output tokens.",
            param="input_tokens",
        )
    n = _whole(body, "n", 1, 1) or 1
    if n > MAX_N:
        raise RequestError(f"n must be at most {MAX_N}, got {n}.", param="n")
    max_tokens = asked_max or max_model_len - len(numbers)
    tool_call, finish = None, "stop"
    parts: list[Part] = []
    chosen = choose_tool(body, asked, arguments) if chat else None
    if chosen is not None:
        name, finish = chosen
        schema = next(tool["function"].get("parameters") for tool in body["tools"] if tool["function"]["name"] == name)
        tool_call = {"name": name, "arguments": json.dumps(minimal_instance(schema))}
        parts = [Part("tool", piece) for piece in tokens.pieces(tool_call["arguments"])]
    else:
        if chat and _thinks(body, arguments):
            parts += [Part("reasoning", piece) for piece in tokens.pieces("The stand-in does not think.")]
        answer = (_wanted_json(body) if chat else None) or reply(body, len(numbers), model)
        parts += [Part("content", piece) for piece in tokens.pieces(answer)]
    least = max_tokens if body.get("ignore_eos") else min(_whole(body, "min_tokens", 0, 0) or 0, max_tokens)
    if tool_call is None and len(parts) < least:
        # Asked to go on past its end, it says the same again.
        again = [Part("content", " " + parts[0].text.lstrip()), *parts[1:]] if parts else []
        parts += list(islice(cycle([Part("content", part.text) for part in again]), least - len(parts)))
    if len(parts) > max_tokens:
        parts, finish = parts[:max_tokens], "length"
    elif body.get("ignore_eos") and tool_call is None:
        finish = "length"
    return Job(
        chat=chat,
        model=model,
        prompt_tokens=numbers,
        max_tokens=max_tokens,
        n=n,
        stream=bool(body.get("stream")),
        include_usage=bool(isinstance(options, dict) and options.get("include_usage")),
        parts=parts,
        finish_reason=finish,
        tool=tool_call,
        echo=asked if not chat and body.get("echo") else "",
    )


def whole_answer(job: Job) -> dict[str, Any]:
    """Return the body of an answer that is not streamed."""
    choices = []
    for index in range(job.n):
        choice: dict[str, Any] = {"index": index}
        if job.chat:
            calls = []
            if job.tool is not None:
                calls = [{"id": f"chatcmpl-tool-{random_id()}", "type": "function", "function": job.tool}]
            choice["message"] = {
                "role": "assistant",
                "content": None if calls else job.joined("content"),
                "refusal": None,
                "annotations": None,
                "audio": None,
                "function_call": None,
                "tool_calls": calls,
                "reasoning": job.joined("reasoning") or None,
            }
        else:
            choice["text"] = job.echo + job.joined("content")
        choices.append({**choice, "logprobs": None, "finish_reason": job.finish_reason, "stop_reason": None})
    return {
        "id": job.name,
        "object": "chat.completion" if job.chat else "text_completion",
        "created": job.created,
        "model": job.model,
        "choices": choices,
        "service_tier": None,
        "system_fingerprint": None,
        "usage": job.usage(job.n * len(job.parts)),
        "kv_transfer_params": None,
    }


def chunk(job: Job, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """Return one event of a stream."""
    kind = "chat.completion.chunk" if job.chat else "text_completion"
    return {
        "id": job.name,
        "object": kind,
        "created": job.created,
        "model": job.model,
        "choices": choices,
        **more,
    }


def _choice(job: Job, index: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    body: dict[str, Any] = {"index": index, "logprobs": None, "finish_reason": finish}
    if job.chat:
        body["delta"] = delta
    else:
        body |= {"text": delta.get("content", ""), "stop_reason": None}
    return body


def stream(job: Job) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield a stream's events, and with each whether it carries a generated token.

    The first event of a chat carries the role and no token: it says nothing of the time to the first token.
    """
    for index in range(job.n):
        if job.chat:
            yield chunk(job, [_choice(job, index, {"role": "assistant", "content": ""})]), False
        elif job.echo:
            yield chunk(job, [_choice(job, index, {"content": job.echo})]), False
    for index in range(job.n):
        last = len(job.parts) - 1
        for number, part in enumerate(job.parts):
            if part.field == "tool":
                function = {"arguments": part.text}
                if number == 0 and job.tool is not None:
                    function = {"name": job.tool["name"], **function}
                call: dict[str, Any] = {"index": 0, "function": function}
                if number == 0:
                    call |= {"id": f"chatcmpl-tool-{random_id()}", "type": "function"}
                delta: dict[str, Any] = {"tool_calls": [call]}
            else:
                delta = {part.field: part.text}
            finish = job.finish_reason if number == last else None
            yield chunk(job, [_choice(job, index, delta, finish)]), True
    if job.include_usage:
        yield chunk(job, [], usage=job.usage(job.n * len(job.parts))), False
