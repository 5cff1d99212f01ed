"""The checks, in their order. The first line of each says what is expected; what it returns is what came."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx2
import openai

from ojai import counters
from ojai.heard import heard
from ojai.serving import Server
from ojai.smoke import Result, media
from ojai.smoke.asking import Asker, NotApplicable, Rules, Stream, Unexpected, reasoning_of, told

_WEATHER = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city, as it is now.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "enum": ["Lisbon", "Oslo", "Nairobi"]},
                    "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
                },
                "required": ["city", "unit"],
                "additionalProperties": False,
            },
        },
    }
]
_WEATHER_QUESTION = "What is the weather in Lisbon now, in celsius? Use a tool to find out."

_CITY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["Lisbon", "Oslo", "Nairobi"]},
        "capital": {"type": "boolean"},
        "continent": {"type": "string", "enum": ["Africa", "Europe"]},
    },
    "required": ["city", "capital", "continent"],
    "additionalProperties": False,
}

#: Gemma 4's budgets of an image (vLLM's usage guide).
_BUDGETS = (70, 140, 280, 560, 1120)

#: Tokens of a long prompt that hold no filler: the template, the needle, the question and its answer.
_AROUND = 160


@dataclass(frozen=True)
class Check:
    """A check; ``ability`` is what of :class:`ojai.smoke.Abilities` it needs."""

    name: str
    expected: str
    ability: str | None
    run: Callable[[Asker], str]


CHECKS: list[Check] = []


def _check(name: str, ability: str | None = None) -> Callable[[Callable[[Asker], str]], Callable[[Asker], str]]:
    def add(function: Callable[[Asker], str]) -> Callable[[Asker], str]:
        expected = (function.__doc__ or "").strip().splitlines()[0].rstrip(".")
        CHECKS.append(Check(name, expected, ability, function))
        return function

    return add


def _number() -> str:
    """Four digits that no model can guess."""
    return str(random.randint(1000, 9999))


def _quoted(text: str | None) -> str:
    return json.dumps((text or "")[:80], ensure_ascii=False)


# -- the server ------------------------------------------------------------------------------------------------


@_check("model listed")
def model_listed(ask: Asker) -> str:
    """The model is among those that the server lists."""
    names = ask.look()
    ask.expect(ask.server.model in names, f"models {', '.join(names) or 'none'}", f"{ask.server.model} among them")
    return ", ".join(names)


@_check("self-introduction")
def introduction(ask: Asker) -> str:
    """The model answers, under the name it was asked by, and says that it is Gemma."""
    question = "Who are you, and who made you? Answer in one sentence."
    try:
        answer = ask.chat(question)
    except openai.BadRequestError:
        # Servers that do not know this argument have no switch for thinking.
        ask.without_thinking = {}
        answer = ask.chat(question)
    said = answer.choices[0].message.content
    ask.expect(answer.model == ask.server.model, f"an answer by {answer.model}", f"one by {ask.server.model}")
    ask.expect_of_the_model("gemma" in (said or "").lower(), said, "its name, Gemma")
    return _quoted(said)


@_check("system role")
def system_role(ask: Asker) -> str:
    """A system message is part of the prompt, and is followed."""
    word = f"LIMA-{_number()}"
    user = {"role": "user", "content": "What is the capital of Portugal?"}
    system = {"role": "system", "content": f"Whatever you are asked, answer with this word alone: {word}"}
    alone = ask.chat([user], max_tokens=1)
    answer = ask.chat([system, user], max_tokens=24)
    counts = _prompt(answer), _prompt(alone)
    ask.expect(counts[0] > counts[1], f"{counts[0]} prompt tokens with it, {counts[1]} without", "more with it")
    said = answer.choices[0].message.content
    ask.expect_of_the_model(word in (said or ""), said, f"the word {word}")
    return _quoted(said)


@_check("streaming")
def streaming(ask: Asker) -> str:
    """A stream with content from early on, a finish reason, the usage, and [DONE] at its end."""
    found = ask.stream("Count from one to twenty in words.", extra_body=ask.going_on)
    ask.expect(found.first is not None, f"{found.chunks} chunks without content", "chunks with content")
    first = found.first or 0.0
    most = ask.rules.first_token
    ask.expect(first <= most, f"the first content after {first:.1f} s", f"within {most:g} s (--first-token)")
    tokens = found.usage.completion_tokens
    # A diffusion model makes a few hundred tokens at a time.
    pieces = tokens < 8 or found.chunks > 3 or "diffusion" in ask.server.model.lower()
    ask.expect(pieces, f"{found.chunks} chunks for {tokens} tokens", "a chunk every few tokens")
    last = ask.last_line("Say hello.", max_tokens=4)
    # The space behind the colon is optional.
    ask.expect(re.fullmatch(r"data: ?\[DONE\]", last), last, "data: [DONE] in the last line")
    return f"first content after {first:.2f} s, {tokens} tokens in {found.end:.1f} s"


@_check("fresh answers")
def fresh_answers(ask: Asker) -> str:
    """Every request is answered anew: ids and prompt tokens are those of the request."""
    word = _number()
    first, again = (ask.chat(f"Repeat this number: {word}", max_tokens=16) for _ in range(2))
    ask.expect(first.id != again.id, f"the id {first.id} twice", "an id a request")
    other = _number()
    longer = ask.chat("Here is some text to pass over. " * 20 + f"Repeat this number: {other}", max_tokens=16)
    ask.expect(longer.id not in (first.id, again.id), f"the id {longer.id} again", "an id a request")
    counts = _prompt(first), _prompt(longer)
    ask.expect(counts[1] > counts[0] + 20, f"{counts[0]} and {counts[1]} prompt tokens", "more for a longer prompt")
    said = longer.choices[0].message.content
    ask.expect_of_the_model(other in (said or ""), said, f"the number of this request, {other}")
    return f"three ids, {counts[0]} and {counts[1]} prompt tokens"


@_check("metrics", "metrics")
def metrics(ask: Asker) -> str:
    """The server's counters move by what was asked and answered."""
    before = ask.metrics()
    answer = ask.chat(f"Write a sentence about the number {_number()}.", max_tokens=32, extra_body=ask.going_on)
    usage = answer.usage
    prompt, generated = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
    # A prompt may come from a cache in part, and a counter of what was computed then moves by the rest.
    least = prompt if "prompt_tokens" in before else 1
    moved = ask.moved(before, least, generated)
    counted = moved[counters.prompts(moved)], moved["generated_tokens"]
    came = f"{counted[0]:g} prompt and {counted[1]:g} generated tokens more"
    ask.expect(counted[0] >= least and counted[1] >= generated, came, f"{prompt} and {generated} at least")
    return came


@_check("prefix cache", "prefix_cache")
def prefix_cache(ask: Asker) -> str:
    """A second question on the same text costs less, by the server's own counters."""
    rooms = min(200, (ask.abilities.context or 8192) // 32)
    text = f"Report {_number()}. " + "".join(f"Room {at} has {at % 7 + 2} windows. " for at in range(rooms))
    ask.chat(f"{text}\nHow many windows has room 5?", max_tokens=4)
    time.sleep(1)
    before = ask.metrics()
    answer = ask.chat(f"{text}\nHow many windows has room 9?", max_tokens=4, describe="the same text before")
    prompt = _prompt(answer)
    moved = ask.moved(before, prompt if "prompt_tokens" in before else 1, 1)
    cached = moved["cached_tokens"] if "cached_tokens" in before else prompt - moved["computed_tokens"]
    if ask.abilities.prefix_cache is None and cached <= 0:
        raise NotApplicable("nothing came from a cache, and it is not known that there should be one")
    came = f"{cached:g} of {prompt} prompt tokens from the cache"
    ask.expect(cached >= prompt / 2, came, "half of them at least")
    return came


# -- thinking --------------------------------------------------------------------------------------------------

_RIDDLE = (
    "A snail climbs 3 feet a day and slips back 2 feet a night. After how many days is it out of a well of 20 feet?"
)


@_check("thinking on", "thinking")
def thinking_on(ask: Asker) -> str:
    """Thoughts are in a field of their own, and not in the answer."""
    answer = ask.chat(_RIDDLE, think=True, max_tokens=400)
    message = answer.choices[0].message
    thoughts = reasoning_of(message)
    if not thoughts and ask.abilities.thinking is None:
        raise NotApplicable("no thoughts came, and it is not known that the server splits them off")
    ask.expect_of_the_model(thoughts, f"an answer without thoughts: {message.content}", "thoughts in `reasoning`")
    return f"{len(thoughts)} characters of thoughts, then {_quoted(message.content)}"


@_check("thinking, streamed", "thinking")
def thinking_streamed(ask: Asker) -> str:
    """Thoughts come in a field of their own in a stream too."""
    found = ask.stream(_RIDDLE, think=True, max_tokens=400)
    if not found.reasoning and ask.abilities.thinking is None:
        raise NotApplicable("no thoughts came, and it is not known that the server splits them off")
    ask.expect_of_the_model(found.reasoning, f"a stream without thoughts: {found.text}", "thoughts in `reasoning`")
    return f"{len(found.reasoning)} characters of thoughts, then {_quoted(found.text)}"


@_check("thinking off", "thinking")
def thinking_off(ask: Asker) -> str:
    """Without thinking there are no thoughts, neither in their field nor in the answer."""
    answer = ask.chat("What is the capital of Portugal? Answer in one word.", max_tokens=24)
    message = answer.choices[0].message
    ask.expect_of_the_model(not reasoning_of(message).strip(), reasoning_of(message), "no thoughts")
    ask.expect_of_the_model("lisbon" in (message.content or "").lower(), message.content, "Lisbon")
    return _quoted(message.content)


@_check("thoughts in history", "thinking")
def thoughts_in_history(ask: Asker) -> str:
    """Thoughts of an earlier turn are not read again."""
    thoughts = "I go through what I know of capitals, one by one. " * 30

    def history(**more: Any) -> int:
        asked = {"role": "user", "content": "What is the capital of Portugal?"}
        next_one = {"role": "user", "content": "And of Norway?"}
        answered = {"role": "assistant", "content": "Lisbon.", **more}
        return _prompt(ask.chat([asked, answered, next_one], max_tokens=1))

    plain, with_thoughts = history(), history(reasoning=thoughts, reasoning_content=thoughts)
    came = f"{with_thoughts} prompt tokens with thoughts in the history, {plain} without"
    ask.expect(with_thoughts <= plain + 8, came, "as many")
    return came


# -- tools and structure ---------------------------------------------------------------------------------------


def _arguments(ask: Asker, text: str) -> dict[str, Any]:
    """A call's arguments: JSON, with what the tool requires."""
    try:
        found = json.loads(text)
    except ValueError:
        raise Unexpected(f"the arguments {_quoted(text)}", "arguments that are JSON") from None
    ask.expect(isinstance(found, dict), f"the arguments {_quoted(text)}", "a JSON object")
    ask.expect_of_the_model(
        (found.get("city"), found.get("unit")) == ("Lisbon", "celsius"), text, "city Lisbon and unit celsius"
    )
    return dict(found)


def _until_it_ends(ask: Asker, request: Callable[[int], openai.types.chat.ChatCompletion]) -> Any:
    """The first answer that is not cut off: random words, held to a grammar, may go on and on."""
    for seed in range(4 if ask.rules.form_only else 1):
        choice = request(seed).choices[0]
        held = not choice.message.content or choice.message.content.lstrip().startswith(("{", "["))
        if choice.finish_reason != "length" or not held:
            break
    return choice


def _unless_random(ask: Asker, choice: Any, what: str) -> None:
    """vLLM holds a model to a grammar only after its thoughts, and random words never end them."""
    if ask.rules.form_only and ask.abilities.thinking is not False and ask.owner != "llamacpp":
        raise NotApplicable(f"no {what}: vLLM's grammar waits for the end of thoughts, which random words do not make")
    if ask.rules.form_only and choice.finish_reason == "length":
        raise NotApplicable(f"no {what}: random words did not come to an end")


@_check("tool call", "tools")
def tool_call(ask: Asker) -> str:
    """A call with arguments that are JSON, whose result is used in the answer."""
    user = {"role": "user", "content": _WEATHER_QUESTION}
    choice = ask.chat([user], tools=_WEATHER, tool_choice="auto", max_tokens=100).choices[0]
    calls: list[Any] = list(choice.message.tool_calls or ())
    ask.expect_of_the_model(calls, f"no call, but {choice.message.content}", "a call of get_weather")
    came = f"get_weather({calls[0].function.arguments})" if calls else "no call; the result of a made-up one"
    if not calls:
        calls = [openai.types.chat.ChatCompletionMessageFunctionToolCall.model_validate(_CALL)]
    else:
        names = [call.function.name for call in calls]
        ask.expect(names[0] == "get_weather", f"a call of {names[0]}", "one of get_weather")
        ask.expect(calls[0].id, "a call without an id", "an id")
        ask.expect(choice.finish_reason == "tool_calls", choice.finish_reason, "the finish reason `tool_calls`")
        _arguments(ask, calls[0].function.arguments)
    degrees = str(random.randint(31, 39))
    call = calls[0]
    given = {
        "id": call.id,
        "type": "function",
        "function": {"name": "get_weather", "arguments": call.function.arguments},
    }
    result = {"role": "tool", "tool_call_id": call.id, "content": json.dumps({"degrees": int(degrees), "sky": "clear"})}
    history = [user, {"role": "assistant", "content": None, "tool_calls": [given]}]
    before = _prompt(ask.chat([*history, {**result, "content": ""}], tools=_WEATHER, max_tokens=1))
    answer = ask.chat([*history, result], tools=_WEATHER, describe="the tool's result")
    ask.expect(
        _prompt(answer) > before, f"{_prompt(answer)} prompt tokens, {before} without the result", "more with it"
    )
    said = answer.choices[0].message.content
    ask.expect_of_the_model(degrees in (said or ""), said, f"the {degrees} degrees of the result")
    return f"{came}, then {_quoted(said)}"


_CALL = {
    "id": "call_0",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city": "Lisbon", "unit": "celsius"}'},
}


@_check("tool call, required", "tools")
def tool_required(ask: Asker) -> str:
    """A call that is required comes, with arguments that are JSON."""
    choice = _until_it_ends(
        ask,
        lambda seed: ask.chat(
            _WEATHER_QUESTION, tools=_WEATHER, tool_choice="required", max_tokens=100, seed=seed, temperature=0.7
        ),
    )
    calls = choice.message.tool_calls or []
    if not calls:
        _unless_random(ask, choice, "call")
    ask.expect(calls, f"no call, but {choice.message.content}", "a call of get_weather")
    ask.expect(calls[0].function.name == "get_weather", f"a call of {calls[0].function.name}", "one of get_weather")
    _arguments(ask, calls[0].function.arguments)
    return f"get_weather({calls[0].function.arguments})"


@_check("tool call, streamed", "tools")
def tool_streamed(ask: Asker) -> str:
    """The pieces of a streamed call make a call, with arguments that are JSON."""
    found = ask.stream(_WEATHER_QUESTION, tools=_WEATHER, tool_choice="auto", max_tokens=100)
    ask.expect_of_the_model(found.calls, f"no call, but {found.text}", "a call of get_weather")
    for call in found.calls.values():
        ask.expect(call["name"] == "get_weather", f"a call of {call['name']}", "one of get_weather")
        if found.finish != "length":
            _arguments(ask, call["arguments"])
    return "; ".join(f"{call['name']}({call['arguments']})" for call in found.calls.values()) or _quoted(found.text)


@_check("tool call with thinking", "tools")
def tool_with_thinking(ask: Asker) -> str:
    """A call after thoughts, each in its own field."""
    if ask.abilities.thinking is False:
        raise NotApplicable("the service does not split thoughts off")
    answer = ask.chat(_WEATHER_QUESTION, think=True, tools=_WEATHER, tool_choice="auto", max_tokens=500)
    message = answer.choices[0].message
    calls = message.tool_calls or []
    ask.expect_of_the_model(calls, f"no call, but {message.content}", "a call of get_weather")
    for call in calls:
        if answer.choices[0].finish_reason != "length" and call.type == "function":
            _arguments(ask, call.function.arguments)
    return f"{len(reasoning_of(message))} characters of thoughts, {len(calls)} calls"


@_check("structured output")
def structured_output(ask: Asker) -> str:
    """JSON that a schema takes."""
    schema = {"type": "json_schema", "json_schema": {"name": "city", "schema": _CITY, "strict": True}}
    question = "Tell of Lisbon as JSON: city, whether it is a capital, continent."
    choice = _until_it_ends(
        ask, lambda seed: ask.chat(question, response_format=schema, max_tokens=120, seed=seed, temperature=0.7)
    )
    text = choice.message.content or ""
    try:
        found = json.loads(text)
    except ValueError:
        _unless_random(ask, choice, "JSON")
        raise Unexpected(_quoted(text), "JSON") from None
    properties = _CITY["properties"]
    ask.expect(isinstance(found, dict) and set(found) == set(_CITY["required"]), text, "the three keys of the schema")
    right = found["city"] in properties["city"]["enum"] and isinstance(found["capital"], bool)
    ask.expect(right and found["continent"] in properties["continent"]["enum"], text, "values that the schema takes")
    expected = {"city": "Lisbon", "capital": True, "continent": "Europe"}
    ask.expect_of_the_model(found == expected, text, json.dumps(expected))
    return text


# -- media -----------------------------------------------------------------------------------------------------


def _image(number: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{media.encoded(media.png(number))}"}}


def _words(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


_READ = "Read the number. Answer with its digits alone."


@_check("image", "images")
def image(ask: Asker) -> str:
    """A picture before its question is part of the prompt, and its number is read."""
    number = _number()
    without = _prompt(ask.chat([{"role": "user", "content": [_words(_READ)]}], max_tokens=1))
    answer = ask.chat([{"role": "user", "content": [_image(number), _words(_READ)]}], max_tokens=16)
    tokens = _prompt(answer) - without
    ask.expect(tokens >= 16, f"{tokens} prompt tokens for the picture", "the tokens of a picture (70 to 1120)")
    said = answer.choices[0].message.content
    ask.expect_of_the_model(number in (said or ""), said, f"the number {number}")
    return f"{tokens} tokens, {_quoted(said)}"


@_check("several images", "images")
def several_images(ask: Asker) -> str:
    """Two pictures in one question, read in their order."""
    service = ask.server.service
    if service and service.features.images == 1:
        raise NotApplicable("the service takes one picture a request")
    numbers = _number(), _number()
    question = [*map(_image, numbers), _words("Read both numbers, in their order. Answer with their digits alone.")]
    answer = ask.chat([{"role": "user", "content": question}], max_tokens=32)
    one = _prompt(ask.chat([{"role": "user", "content": question[1:]}], max_tokens=1))
    tokens = _prompt(answer) - one
    ask.expect(tokens >= 16, f"{tokens} prompt tokens for the second picture", "the tokens of a picture")
    said = answer.choices[0].message.content or ""
    places = [said.find(number) for number in numbers]
    ask.expect_of_the_model(0 <= places[0] < places[1], said, f"{numbers[0]}, then {numbers[1]}")
    return f"{tokens} tokens for the second, {_quoted(said)}"


@_check("image budgets", "images")
def image_budgets(ask: Asker) -> str:
    """A larger budget gives a picture more tokens, in each of the model's five."""
    if ask.owner == "llamacpp":
        raise NotApplicable("llama.cpp has no budget a request")
    picture = _image(_number())
    counts = []
    for budget in _BUDGETS:
        content = [{"role": "user", "content": [picture, _words(_READ)]}]
        extra = {"mm_processor_kwargs": {"max_soft_tokens": budget}}
        counts.append(_prompt(ask.chat(content, max_tokens=1, describe=f"a budget of {budget}", extra_body=extra)))
    came = ", ".join(f"{budget}: {count}" for budget, count in zip(_BUDGETS, counts, strict=True))
    if ask.server.service is None and len(set(counts)) == 1:
        raise NotApplicable("the server gives every budget the same tokens: it knows none a request")
    ask.expect(counts == sorted(set(counts)), f"prompt tokens {came}", "more tokens with each budget")
    return f"prompt tokens {came}"


@_check("audio", "audio")
def audio(ask: Asker) -> str:
    """Sound is part of the prompt: a longer one takes more tokens. What is heard is not judged."""

    def tokens(seconds: int) -> int:
        sound = {"type": "input_audio", "input_audio": {"data": media.encoded(media.wav(seconds)), "format": "wav"}}
        question = [sound, _words("Describe the sound in one sentence.")]
        return _prompt(ask.chat([{"role": "user", "content": question}], max_tokens=16, describe=f"{seconds} s"))

    short, long = tokens(1), tokens(4)
    came = f"{short} prompt tokens for 1 s, {long} for 4 s"
    ask.expect(long > short, came, "more for the longer one")
    return came


@_check("video", "video")
def video(ask: Asker) -> str:
    """A film is part of the prompt, and the number in it is read."""
    number = _number()
    without = _prompt(ask.chat([{"role": "user", "content": [_words(_READ)]}], max_tokens=1))
    film = {"type": "video_url", "video_url": {"url": f"data:video/avi;base64,{media.encoded(media.avi(number))}"}}
    answer = ask.chat([{"role": "user", "content": [film, _words(_READ)]}], max_tokens=16)
    tokens = _prompt(answer) - without
    ask.expect(tokens >= 16, f"{tokens} prompt tokens for the film", "the tokens of its pictures")
    said = answer.choices[0].message.content
    ask.expect_of_the_model(number in (said or ""), said, f"the number {number}")
    return f"{tokens} tokens, {_quoted(said)}"


# -- language, length, load ------------------------------------------------------------------------------------


@_check("multilingual")
def multilingual(ask: Asker) -> str:
    """Other scripts go in and come out whole."""
    question = "Переведи слово «вода» на японский, корейский, арабский и греческий. Только четыре слова."
    answer = ask.chat(question, max_tokens=48)
    # Arabic may be written with its vowels.
    said = re.sub("[\u064b-\u0652]", "", answer.choices[0].message.content or "")
    for word in ("水", "물", "ماء", "νερό"):
        ask.expect_of_the_model(word in said, said, f"the word {word}")
    ask.expect_of_the_model("\ufffd" not in said, said, "no broken characters")
    return _quoted(said)


def _needle(ask: Asker, target: int) -> str:
    """Ask for a number that stands in the middle of a text of so many tokens."""
    limit = ask.abilities.context
    if limit and target > limit:
        raise NotApplicable(f"the limit is {limit} tokens")
    number = _number()

    def text(lines: int) -> str:
        filler = [f"Shelf {at:05} in the old library holds {at % 89 + 11} books about the sea." for at in range(lines)]
        filler.insert(lines // 2, f"The key to the tower has the number {number}.")
        return " ".join(filler) + "\nWhich number has the key to the tower? Answer with its digits alone."

    # How many tokens a line is, by the server's own count.
    few = (
        _prompt(ask.chat(f"{_number()} {text(20)}", max_tokens=1)),
        _prompt(ask.chat(f"{_number()} {text(40)}", max_tokens=1)),
    )
    line = (few[1] - few[0]) / 20
    ask.expect(line > 1, f"{few[0]} prompt tokens, and {few[1]} with 20 lines more", "more for a longer prompt")
    lines = int((target - _AROUND) / (line * 1.02))
    ask.patient(target)
    answer = ask.chat(f"{_number()} {text(lines)}", max_tokens=24, describe=f"about {target} tokens")
    prompt = _prompt(answer)
    # A server that cuts a prompt off, without a word, counts fewer.
    least = int(lines * line * 0.95)
    ask.expect(prompt >= least, f"{prompt} prompt tokens", f"{least} at least: the whole prompt")
    said = answer.choices[0].message.content
    ask.expect_of_the_model(number in (said or ""), said, f"the number {number}")
    return f"{prompt} prompt tokens, {_quoted(said)}"


@_check("needle in 1 K")
def needle_1k(ask: Asker) -> str:
    """A number in the middle of a text of 1024 tokens is found."""
    return _needle(ask, 1024)


@_check("needle in 8 K")
def needle_8k(ask: Asker) -> str:
    """A number in the middle of a text of 8192 tokens is found."""
    return _needle(ask, 8192)


@_check("needle in 32 K")
def needle_32k(ask: Asker) -> str:
    """A number in the middle of a text of 32768 tokens is found."""
    return _needle(ask, 32768)


@_check("needle at the limit", "context")
def needle_at_the_limit(ask: Asker) -> str:
    """A number in the middle of the longest text that the service takes is found."""
    if ask.abilities.context is None:
        raise NotApplicable("the server does not say how long a request may be")
    return _needle(ask, ask.abilities.context)


@_check("concurrent users")
def concurrent_users(ask: Asker) -> str:
    """Several streams at once come to their ends, each with its own answer, and side by side."""
    users = min(ask.abilities.users or 4, 4)
    numbers = [_number() for _ in range(users)]

    def one(number: str) -> tuple[float, float, Stream]:
        started = time.monotonic()
        found = ask.stream(f"Write the number {number}, then count up from it.", max_tokens=48, extra_body=ask.going_on)
        return started + (found.first or found.end), started + found.end, found

    with ThreadPoolExecutor(max_workers=users) as pool:
        answers = list(pool.map(one, numbers))
    for number, (_, _, found) in zip(numbers, answers, strict=True):
        ask.expect_of_the_model(number in found.text, found.text, f"the number of its own question, {number}")
    together = max(first for first, _, _ in answers) < min(end for _, end, _ in answers)
    if users > 1 and ask.going_on:
        ask.expect(together, "answers one after the other", f"{users} answers side by side")
    return f"{users} at once, in {max(end for _, end, _ in answers) - min(first for first, _, _ in answers):.1f} s"


# -- what is refused -------------------------------------------------------------------------------------------


def _refusal(ask: Asker, statuses: Sequence[int], content: Any, **more: Any) -> str:
    try:
        answer = ask.chat(content, max_tokens=4, **more)
    except openai.APIStatusError as error:
        words = told(error, ask.rules.timeout)
        ask.expect(error.status_code in statuses, words, f"HTTP {' or '.join(map(str, statuses))}")
        ask.chat("Say hello.", max_tokens=4, describe="after the refusal")
        return words
    raise Unexpected(f"an answer: {answer.choices[0].message.content}", "a refusal")


@_check("refuses what is too long", "context")
def refuses_too_long(ask: Asker) -> str:
    """A prompt beyond the limit is refused with HTTP 400, and the server goes on."""
    if ask.abilities.context is None:
        raise NotApplicable("the server does not say how long a request may be")
    # A word of this kind is a token at least.
    return _refusal(ask, (400,), "one two three four " * (ask.abilities.context // 4 + 64))


@_check("refuses a wrong model", "named")
def refuses_wrong_model(ask: Asker) -> str:
    """A model that is not there is refused with HTTP 404 (or 400), and the server goes on."""
    if counters.engine(ask.owner).get("any_name"):
        raise NotApplicable("this server has one model, and answers whatever name a request has")
    return _refusal(ask, (400, 404), "Say hello.", describe="of the model no-such-model", model="no-such-model")


@_check("refuses a bad image", "images")
def refuses_bad_image(ask: Asker) -> str:
    """A picture that is none is refused as the client's fault, and the server goes on."""
    broken = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{media.encoded(b'not a picture')}"}}
    return _refusal(ask, (400, 415, 422), [{"role": "user", "content": [broken, _words("What is this?")]}])


def _prompt(answer: openai.types.chat.ChatCompletion) -> int:
    return answer.usage.prompt_tokens if answer.usage else 0


# -- the run ---------------------------------------------------------------------------------------------------

NAMES = tuple(check.name for check in CHECKS)

#: Without these, nothing else can be told.
_FIRST = ("model listed", "self-introduction")


def run(server: Server, rules: Rules, only: Sequence[str] = ()) -> Iterator[Result]:
    """Check a server, and yield each result as it is there. ``only``: names of checks; none means all."""
    ask = Asker(server, rules)
    dead = ""
    for check in CHECKS:
        chosen = not only or check.name in only
        if not chosen and check.name not in _FIRST:
            continue
        if dead:
            if chosen:
                yield Result(check.name, "skipped", 0, "", f"not asked: {dead}", check.expected)
            continue
        result, fatal = _run(check, ask)
        if check.name in _FIRST and result.outcome == "failed":
            dead = fatal
        if chosen or dead:
            yield result


def _run(check: Check, ask: Asker) -> tuple[Result, str]:
    """The result, and why nothing more can be asked of the server, if so."""
    ask.asked, started = "", time.monotonic()

    def result(outcome: Any, came: str, expected: str = check.expected) -> Result:
        texts = (heard(text, ask.server.key) for text in (ask.asked, came, expected))
        return Result(check.name, outcome, time.monotonic() - started, *texts)

    able = getattr(ask.abilities, check.ability) if check.ability else None
    if able is False:
        return result("skipped", _WHY_NOT[check.ability or ""]), ""
    try:
        return result("passed", " ".join(check.run(ask).split())), ""
    except Unexpected as found:
        return result("failed", found.came, found.expected), ""
    except NotApplicable as reason:
        return result("skipped", str(reason)), ""
    except (openai.OpenAIError, httpx2.HTTPError) as error:
        words = told(error, ask.rules.timeout)
        refused = isinstance(error, openai.APIStatusError) and error.status_code in (400, 404, 415, 422, 501)
        if refused and able is None and check.ability:
            return result("skipped", f"the server refuses: {words}"), ""
        failed = result("failed", words)
        return failed, f"the server does not answer ({failed.came})"
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        return result("failed", f"an answer of another form: {type(error).__name__}: {error}"), ""


_WHY_NOT = {
    "tools": "the service has no tool calling",
    "thinking": "the service does not split thoughts off",
    "images": "the service takes no images",
    "audio": "the service takes no audio",
    "video": "the service takes no video",
    "prefix_cache": "the service has no prefix cache",
    "named": "the server has one model and does not look at its name",
}
