"""The lab's stand-in with the answers of a model that can do all it is asked, and with one fault, if it is told one.

``python -m tests.unit.knowing_server FAULT serve MODEL …``. Standard library only, as the stand-in.
"""

import base64
import json
import re
import struct
import sys
import time
import zlib

from ojai.lab.modelserver import answers, api, media, metrics, server, state, tokens

DIGITS = {
    (14, 17, 19, 21, 25, 17, 14): "0",
    (4, 12, 4, 4, 4, 4, 14): "1",
    (14, 17, 1, 2, 4, 8, 31): "2",
    (31, 2, 4, 2, 1, 17, 14): "3",
    (2, 6, 10, 18, 31, 2, 2): "4",
    (31, 16, 30, 1, 1, 17, 14): "5",
    (6, 8, 16, 30, 17, 17, 14): "6",
    (31, 1, 2, 4, 8, 8, 8): "7",
    (14, 17, 17, 14, 17, 17, 14): "8",
    (14, 17, 17, 15, 1, 2, 12): "9",
}


def seen(part):
    """The number in a picture or a film."""
    data = base64.b64decode(part[part["type"]]["url"].rpartition(",")[2])
    if data[:4] == b"RIFF":
        start = data.index(b"00db") + 8
        (size,) = struct.unpack("<I", data[64:68])
        rows = [data[start + 3 * size * y :][: 3 * size] for y in range(size)]
    else:
        (size,) = struct.unpack(">I", data[16:20])
        length = struct.unpack(">I", data[33:37])[0]
        plain = zlib.decompress(data[41 : 41 + length])
        rows = [plain[y * (3 * size + 1) + 1 :][: 3 * size] for y in range(size)]
    dark = [y for y, row in enumerate(rows) if b"\0\0\0" in row]
    scale = len(dark) // 7
    left = (size - scale * 23) // 2
    number = ""
    for place in range(4):
        glyph = []
        for line in range(7):
            row = rows[dark[0] + scale * line + scale // 2]
            bits = (row[3 * (left + scale * (6 * place + column) + scale // 2)] == 0 for column in range(5))
            glyph.append(int("".join("01"[bit] for bit in bits), 2))
        number += DIGITS[tuple(glyph)]
    return number


def reply(body, prompt_tokens, model):
    """What a good model says."""
    messages = body.get("messages") or [{"role": "user", "content": body.get("prompt")}]
    last = messages[-1]
    parts = last["content"] if isinstance(last["content"], list) else [{"type": "text", "text": last["content"]}]
    text = " ".join(part["text"] for part in parts if part["type"] == "text")
    if last["role"] == "tool":
        return f"It is {json.loads(last['content'] or '{}').get('degrees')} degrees."
    if messages[0]["role"] == "system":
        return messages[0]["content"].rpartition(": ")[2]
    pictures = [part for part in parts if part["type"] in ("image_url", "video_url")]
    if pictures:
        return " ".join(map(seen, pictures)) if FAULT != "images ignored" else "I see no picture."
    for pattern in (r"Repeat this number: (\d+)", r"has the number (\d+)", r"Write the number (\d+)"):
        if found := re.search(pattern, text):
            return f"{found[1]}, and on I go: " + " ".join(map(str, range(30)))
    for word, said in (
        ("Who are you", "I am Gemma, made by Google DeepMind."),
        ("Portugal", "Lisbon"),
        ("snail", "It takes 18 days."),
        ("Переведи", "水 물 ماء νερό"),
        ("Count", "one two three four five six seven eight nine ten eleven twelve"),
    ):
        if word in text:
            return said
    return "Hello."


FAULT = sys.argv.pop(1)
answers.reply = reply
PREPARE, EVENTS, GENERATE, COST = answers.prepare, api.Handler._events, api.Handler._generate, media.cost
answers._wanted_json = lambda body: (
    body.get("response_format")
    and json.dumps(
        {"city": "Lisbon", "capital": True, "continent": "Europe"} if FAULT != "JSON cut off" else {"city": "Lisbon"}
    )
)


def said(text):
    return [answers.Part("content", piece) for piece in tokens.pieces(text)]


def prepare(body, chat, names, arguments, most):
    """A job with the fault in it."""
    if FAULT == "prompt cut off":
        for message in body["messages"]:
            if isinstance(message["content"], str):
                message["content"] = message["content"][-6000:]
    job = PREPARE(body, chat, names, arguments, most)
    if job.tool and FAULT == "wrong parser":
        job.tool, job.finish_reason = None, "stop"
        job.parts = said('<|tool_call>call:get_weather{city:<|"|>Lisbon<|"|>}<tool_call|>')
    if job.tool and FAULT == "tool arguments that are no JSON":
        job.tool["arguments"] = "{city: Lisbon}"
        job.parts = [answers.Part("tool", piece) for piece in tokens.pieces(job.tool["arguments"])]
    thoughts = job.joined("reasoning")
    if thoughts and FAULT == "reasoning leaking":
        job.parts = said(f"<|channel>thought\n{thoughts}<channel|>{job.joined('content')}")
    if thoughts and FAULT == "reasoning leaking without marks":
        job.parts = said(f"thought\n{thoughts}{job.joined('content')}")
    if FAULT == "no thoughts":
        job.parts = [part for part in job.parts if part.field != "reasoning"] or said("18")
    if FAULT == "answers of another model":
        job.model = "google/gemma-4-E2B-it"
    return job


def events(self, job):
    """A stream with the fault in it."""
    if FAULT == "slow first token":
        time.sleep(3)
    whole = list(EVENTS(self, job)) if FAULT.startswith("stream") else EVENTS(self, job)
    if FAULT == "stream truncated":
        whole = whole[: len(whole) // 2]
    if FAULT == "stream without [DONE]":
        whole = whole[:-1]
    if FAULT == "stream at the end only":
        texts = [json.loads(event) for event in whole[:-1]]
        joined = "".join(text["choices"][0]["delta"].get("content") or "" for text in texts if text["choices"])
        first = {**texts[0], "choices": [{"index": 0, "delta": {"content": joined}, "finish_reason": "length"}]}
        whole = [json.dumps(first), whole[-2], whole[-1]]
    yield from whole


KEPT = {}


def generate(self, chat):
    """The server's answer, with the fault in it."""
    if FAULT == "dead engine":
        raise answers.RequestError(state.DEAD_MESSAGE, 500, "InternalServerError")
    if FAULT == "engine that hangs":
        time.sleep(60)
    if FAULT == "bad image ends the engine" and b"bm90IGEgcGljdHVyZQ" in self._body:
        raise answers.RequestError(state.DEAD_MESSAGE, 500, "InternalServerError")
    if FAULT != "cached answers" or self._parsed().get("stream"):
        GENERATE(self, chat)
        return
    key = json.dumps(self._parsed()["messages"])
    if key not in KEPT:
        send, kept = self._json, []
        self._json = lambda value, *rest, **more: (kept.append(value), send(value, *rest, **more))
        GENERATE(self, chat)
        del self._json
        KEPT[key] = kept[0]
    else:
        self._json(KEPT[key])


answers.prepare, api.Handler._events, api.Handler._generate = prepare, events, generate
if FAULT == "metrics that stand still":
    metrics.Metrics.add = lambda self, *args, **labels: None
if FAULT == "images ignored":
    media.cost = lambda part, picture: 0 if part["type"] == "image_url" else COST(part, picture)
if FAULT == "one after the other":
    READY = state.State.ready
    state.State.ready = lambda self, loaded: (
        READY(self, loaded),
        setattr(self, "_slots", __import__("threading").Semaphore(1)),
    )
server.main()
