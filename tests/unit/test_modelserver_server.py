"""The stand-in as a process: its phases, its endpoints, its signals, its deaths. Over loopback."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ojai.smoke import media

REPOSITORY = Path(__file__).resolve().parents[2]
MODEL = "google/gemma-4-E4B-it"
NOTICE = "This is the ojai lab's stand-in for vLLM 0.20.1; no model is loaded."
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Identify yourself in one sentence."}]}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A running stand-in on a port of its own."""

    def __init__(self, folder, *words, model=MODEL, port=None, module=("ojai.lab.modelserver",), **variables):
        root = folder / "root"
        for name in ("dev/dri", "sys/class/dmi/id", "hf"):
            (root / name).mkdir(parents=True, exist_ok=True)
        for name in ("dev/kfd", "dev/dri/renderD128"):
            (root / name).touch()
        (root / "sys/class/dmi/id/product_sku").write_text(f"carveout={64 * 2**30}")
        files = root / f"hf/hub/models--{model.replace('/', '--')}/snapshots/0123abc"
        files.mkdir(parents=True, exist_ok=True)
        (files / "model.safetensors").write_bytes(b"\0" * 4096)
        self.port = port or free_port()
        self.log = folder / "log"
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("VLLM", "OJAI", "PYTORCH"))}
        settings = {"OJAI_LAB_ROOT": str(root), "HF_HOME": str(root / "hf"), "OJAI_LAB_LOAD_SECONDS": "0"}
        settings |= {"OJAI_LAB_TOKEN_SECONDS": "0", **variables}
        # -S: the standard library is all it may need.
        command = [sys.executable, "-S", "-m", *module, "serve", model, "--host", "127.0.0.1"]
        with self.log.open("wb") as log:
            self.child = subprocess.Popen(
                [*command, "--port", str(self.port), *words],
                env={**clean, **settings},
                cwd=REPOSITORY,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.child.kill()
        self.child.wait()

    def request(self, method, path, body=None, **headers):
        """Return (status, headers, body)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            data = body if body is None or isinstance(body, str | bytes) else json.dumps(body)
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode()

    def get(self, path, **headers):
        status, _, body = self.request("GET", path, **headers)
        return status, body

    def post(self, path, body, **headers):
        status, _, text = self.request("POST", path, body, **headers)
        return status, json.loads(text)

    def stream(self, body, path="/v1/chat/completions"):
        status, headers, text = self.request("POST", path, {**body, "stream": True})
        assert status == 200
        assert headers["content-type"].startswith("text/event-stream")
        events = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
        assert events[-1] == "[DONE]"
        return [json.loads(event) for event in events[:-1]]

    def health(self):
        try:
            return self.get("/health")[0]
        except OSError:
            return None

    def until(self, expected, seconds=8.0):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.health() == expected:
                return self
            if self.child.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"/health did not become {expected}:\n{self.log.read_text()}")

    def engine(self):
        children = Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children").read_text().split()
        assert len(children) == 1
        assert Path(f"/proc/{children[0]}/comm").read_text() == "VLLM::EngineCor\n"
        return int(children[0])

    def metrics(self):
        values = {}
        for line in self.get("/metrics")[1].splitlines():
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                values[name] = float(value)
        return values


@pytest.fixture
def start(tmp_path):
    running = []

    def begin(*words, **variables):
        running.append(Process(tmp_path, *words, **variables))
        return running[-1]

    yield begin
    for process in running:
        if process.child.poll() is None:
            process.child.kill()
        process.child.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    process = Process(
        tmp_path_factory.mktemp("server"), "--max-model-len", "2048", "--enable-auto-tool-choice",
        "--tool-call-parser", "gemma4", "--reasoning-parser", "gemma4",
    )  # fmt: skip
    yield process.until(200)
    process.child.kill()
    process.child.wait()


# -- endpoints ---------------------------------------------------------------------------------------------------


def test_health_is_empty_and_not_for_head(server):
    assert server.get("/health") == (200, "")
    assert server.get("/ping") == (200, "")
    assert server.request("HEAD", "/health")[0] == 405
    assert server.request("POST", "/health", "")[0] == 405


def test_version_models_and_documents(server):
    assert server.get("/version") == (200, '{"version":"0.20.1"}')
    status, text = server.get("/v1/models")
    card = json.loads(text)["data"][0]
    assert status == 200
    assert (card["id"], card["root"], card["owned_by"], card["max_model_len"]) == (MODEL, MODEL, "vllm", 2048)
    assert card["permission"][0]["object"] == "model_permission"
    assert "/v1/chat/completions" in json.loads(server.get("/openapi.json")[1])["paths"]
    assert NOTICE in server.get("/docs")[1]


def test_a_chat_says_what_it_is(server):
    status, answer = server.post("/v1/chat/completions", CHAT)
    assert status == 200
    choice, usage = answer["choices"][0], answer["usage"]
    assert choice["message"]["content"] == f"{NOTICE} You sent 13 tokens to {MODEL}."
    assert choice["finish_reason"] == "stop"
    assert usage["prompt_tokens"] == 13
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert answer["id"].startswith("chatcmpl-")


def test_a_stream_gives_the_role_first_and_then_the_same_text(server):
    events = server.stream({**CHAT, "stream_options": {"include_usage": True}})
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    deltas = [event["choices"][0]["delta"].get("content", "") for event in events[1:-1]]
    assert "".join(deltas) == f"{NOTICE} You sent 13 tokens to {MODEL}."
    assert events[-2]["choices"][0]["finish_reason"] == "stop"
    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["completion_tokens"] == len(deltas)
    assert not any(event.get("usage") for event in server.stream(CHAT))


def test_completions(server):
    status, answer = server.post("/v1/completions", {"model": MODEL, "prompt": "once", "echo": True})
    assert status == 200
    assert answer["choices"][0]["text"].startswith("onceThis is the ojai lab's")
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"] == {
        "prompt_tokens": 1, "total_tokens": 17, "completion_tokens": 16, "prompt_tokens_details": None,
    }  # fmt: skip
    events = server.stream({"model": MODEL, "prompt": [1, 2, 3], "max_tokens": 4}, "/v1/completions")
    assert "".join(event["choices"][0]["text"] for event in events) == "This is the ojai"


def test_lengths_are_kept(server):
    for more, generated, reason in (
        ({"max_tokens": 5}, 5, "length"),
        ({"max_completion_tokens": 7}, 7, "length"),
        ({"max_tokens": 100, "ignore_eos": True}, 100, "length"),
        ({"max_tokens": 200, "min_tokens": 150}, 150, "stop"),
    ):
        answer = server.post("/v1/chat/completions", {**CHAT, **more})[1]
        assert answer["usage"]["completion_tokens"] == generated, more
        assert answer["choices"][0]["finish_reason"] == reason, more
    answer = server.post("/v1/chat/completions", {**CHAT, "n": 3, "max_tokens": 2})[1]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert answer["usage"]["completion_tokens"] == 6


def test_reasoning_only_when_asked_for(server):
    thinking = {**CHAT, "chat_template_kwargs": {"enable_thinking": True}}
    message = server.post("/v1/chat/completions", thinking)[1]["choices"][0]["message"]
    assert message["reasoning"] == "The stand-in does not think."
    assert message["content"].startswith(NOTICE)
    assert server.post("/v1/chat/completions", CHAT)[1]["choices"][0]["message"]["reasoning"] is None
    deltas = [event["choices"][0]["delta"] for event in server.stream(thinking)]
    assert "".join(delta.get("reasoning", "") for delta in deltas) == "The stand-in does not think."


TOOL = {
    "type": "function",
    "function": {
        "name": "get_rocm_smi",
        "parameters": {
            "type": "object",
            "properties": {"verbose": {"type": "boolean"}, "unit": {"enum": ["C", "F"]}, "gpus": {"type": "array"}},
            "required": ["verbose", "unit", "gpus"],
        },
    },
}


@pytest.mark.parametrize(
    ("choice", "text", "reason"),
    [
        ({"type": "function", "function": {"name": "get_rocm_smi"}}, "hello", "stop"),
        ("required", "hello", "tool_calls"),
        ("auto", "What is my GPU doing right now? Use a tool.", "tool_calls"),
        ("auto", "call get_rocm_smi", "tool_calls"),
    ],
)
def test_tools(server, choice, text, reason):
    body = {"messages": [{"role": "user", "content": text}], "tools": [TOOL], "tool_choice": choice}
    answer = server.post("/v1/chat/completions", body)[1]["choices"][0]
    call = answer["message"]["tool_calls"][0]
    assert answer["finish_reason"] == reason
    assert answer["message"]["content"] is None
    assert call["function"]["name"] == "get_rocm_smi"
    expected = {"verbose": False, "unit": "C", "gpus": []}
    assert json.loads(call["function"]["arguments"]) == expected
    calls = [
        call["function"] for event in server.stream(body) for call in event["choices"][0]["delta"].get("tool_calls", [])
    ]
    assert calls[0]["name"] == "get_rocm_smi"
    assert json.loads("".join(call["arguments"] for call in calls)) == expected


def test_tools_are_not_called_without_a_reason(server):
    body = {**CHAT, "tools": [TOOL]}
    assert server.post("/v1/chat/completions", body)[1]["choices"][0]["message"]["tool_calls"] == []
    body = {**CHAT, "tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "other"}}}
    assert server.post("/v1/chat/completions", body)[0] == 400


def test_asked_for_json_it_gives_json(server):
    schema = {"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]}
    expected = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    answer = server.post("/v1/chat/completions", {**CHAT, "response_format": expected})[1]
    assert json.loads(answer["choices"][0]["message"]["content"]) == {"total": 0.0}


def test_media_are_counted_before_the_text(server):
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{media.encoded(media.png('1'))}"}}
    sound = {"type": "input_audio", "input_audio": {"data": media.encoded(media.wav(2)), "format": "wav"}}
    film = {"type": "video_url", "video_url": {"url": f"data:video/avi;base64,{media.encoded(media.avi('1', 3))}"}}
    for part, tokens, more in (
        (picture, 280, {}),
        (picture, 1120, {"mm_processor_kwargs": {"max_soft_tokens": 1120}}),
        (sound, 50, {}),
        (film, 210, {}),
    ):
        parts = [part, {"type": "text", "text": "hi"}]
        answer = server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": parts}], **more})[1]
        assert answer["usage"]["prompt_tokens"] == 4 + tokens + 1


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}, "cannot identify image file"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,A"}}, "Failed to decode base64"),
        ({"type": "image_url", "image_url": "x"}, "expected an object"),
        ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}, "Failed to load audio"),
    ],
)
def test_media_that_cannot_be_read_are_refused(server, part, said):
    status, answer = server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": [part]}]})
    assert status == 400 and said in answer["error"]["message"]


def test_more_media_than_the_limit_are_refused(tmp_path):
    with Process(tmp_path, "--limit-mm-per-prompt", '{"image": 1}').until(200) as server:
        url = f"data:image/png;base64,{media.encoded(media.png('1'))}"
        for count, expected in ((1, 200), (2, 400)):
            parts = [{"type": "image_url", "image_url": {"url": url}}] * count
            status, answer = server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": parts}]})
            assert status == expected
        assert answer["error"]["message"] == "At most 1 image(s) may be provided in one prompt."


def test_a_tools_result_is_answered_in_words(tmp_path):
    with Process(tmp_path, "--enable-auto-tool-choice", "--tool-call-parser", "gemma4").until(200) as server:
        tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
        messages = [{"role": "user", "content": "look"}]
        called = server.post("/v1/chat/completions", {"messages": messages, "tools": tools})[1]["choices"][0]["message"]
        assert called["tool_calls"][0]["function"]["name"] == "look"
        messages += [called, {"role": "tool", "tool_call_id": called["tool_calls"][0]["id"], "content": "7"}]
        told = server.post("/v1/chat/completions", {"messages": messages, "tools": tools})[1]["choices"][0]
        assert told["finish_reason"] == "stop" and not told["message"]["tool_calls"] and told["message"]["content"]


@pytest.mark.parametrize(
    ("body", "status", "kind", "said"),
    [
        ("{bad", 400, "Bad Request", "JSON decode error"),
        ("[]", 400, "Bad Request", "JSON object"),
        ({"model": "other", "messages": []}, 404, "NotFoundError", "The model `other` does not exist."),
        ({"model": MODEL}, 400, "Bad Request", "'messages'"),
        ({**CHAT, "max_tokens": 0}, 400, "BadRequestError", "max_tokens must be at least 1, got 0."),
        ({**CHAT, "max_tokens": "x"}, 400, "Bad Request", "must be an integer"),
        ({**CHAT, "max_tokens": 2048}, 400, "BadRequestError", "maximum context length is 2048 tokens"),
        ({**CHAT, "stream_options": {"include_usage": True}}, 400, "BadRequestError", "`stream=True`"),
        ({"messages": [{"role": "user", "content": [{"type": "smell"}]}]}, 400, "BadRequestError", "smell"),
        ({"messages": [{"role": "user", "content": "abcd " * 3000}]}, 400, "BadRequestError", "3005 input tokens"),
    ],
)
def test_bad_requests(server, body, status, kind, said):
    got, answer = server.post("/v1/chat/completions", body)
    assert (got, answer["error"]["type"], answer["error"]["code"]) == (status, kind, status)
    assert said in answer["error"]["message"]
    assert set(answer["error"]) == {"message", "type", "param", "code"}


def test_unknown_paths_and_methods(server):
    assert json.loads(server.get("/nosuch")[1])["error"] == {
        "message": "Not Found", "type": "Not Found", "param": None, "code": 404,
    }  # fmt: skip
    status, headers, _ = server.request("GET", "/v1/chat/completions")
    assert (status, headers["allow"]) == (405, "POST")


def test_tokenize_agrees_with_the_usage(server):
    text = "hello  wonderful wörld"
    answer = server.post("/tokenize", {"prompt": text, "return_token_strs": True})[1]
    assert "".join(answer["token_strs"]) == text
    assert answer["count"] == len(answer["tokens"]) == 2 + 3 + 2
    used = server.post("/v1/completions", {"prompt": text})[1]["usage"]["prompt_tokens"]
    assert used == answer["count"]
    chat = server.post("/tokenize", {"messages": CHAT["messages"]})[1]
    assert (chat["count"], chat["max_model_len"]) == (13, 2048)


def test_metrics_count(server):
    def read(values, name, **labels):
        parts = {"engine": "0", "model_name": MODEL, **labels}
        written = ",".join(f'{key}="{parts[key]}"' for key in sorted(parts))
        return values[f"vllm:{name}{{{written}}}"]

    before = server.metrics()
    prompt = {"messages": [{"role": "user", "content": "abcd " * 40}], "max_tokens": 6}
    for _ in range(2):
        server.stream(prompt)
    after = server.metrics()

    def grown(name, **labels):
        return read(after, name, **labels) - read(before, name, **labels)

    assert grown("prompt_tokens_total") == 2 * 45
    assert grown("generation_tokens_total") == 12
    assert grown("request_success_total", finished_reason="length") == 2
    assert grown("prefix_cache_queries_total") == 90
    assert grown("prefix_cache_hits_total") == 32, "the second time, both full blocks of 16 are known"
    assert grown("prompt_tokens_by_source_total", source="local_cache_hit") == 32
    assert grown("prompt_tokens_by_source_total", source="local_compute") == 58
    assert grown("time_to_first_token_seconds_count") == 2
    assert grown("inter_token_latency_seconds_count") == 10
    assert grown("e2e_request_latency_seconds_count") == 2
    assert read(after, "num_requests_running") == read(after, "num_requests_waiting") == 0
    assert read(after, "kv_cache_usage_perc") == 0
    for name in ("num_preemptions_total", "request_time_per_output_token_seconds_sum"):
        assert read(after, name) >= 0
    assert not any("time_per_output_token_seconds" in name and "request_" not in name for name in after)
    assert not any("gpu_cache_usage_perc" in name for name in after)


def test_histograms_are_cumulative_and_end_at_their_count(server):
    server.post("/v1/chat/completions", CHAT)
    values = server.metrics()
    for family in ("time_to_first_token_seconds", "inter_token_latency_seconds", "e2e_request_latency_seconds"):
        buckets = [value for name, value in values.items() if name.startswith(f"vllm:{family}_bucket")]
        count = next(value for name, value in values.items() if name.startswith(f"vllm:{family}_count"))
        assert len(buckets) > 10
        assert buckets == sorted(buckets)
        assert buckets[-1] == count > 0


# -- phases and ends ---------------------------------------------------------------------------------------------


def test_it_loads_first_and_says_503(start):
    process = start(OJAI_LAB_LOAD_SECONDS="1").until(503)
    assert process.get("/health") == (503, "")
    assert process.get("/v1/models")[0] == 503
    process.until(200)
    assert "Application startup complete." in process.log.read_text()


def test_the_engine_holds_a_private_writable_mapping(start):
    process = start().until(200)
    lines = Path(f"/proc/{process.engine()}/maps").read_text().splitlines()
    rights = [line.split()[1] for line in lines if line.endswith("/model.safetensors")]
    assert rights == ["rw-p"], "private and writable is what the kernel counts against its limit"


def test_never_healthy_still_ends_on_sigterm(start):
    process = start(OJAI_LAB_NEVER_HEALTHY="1").until(503)
    time.sleep(0.3)
    assert process.health() == 503
    process.child.send_signal(signal.SIGTERM)
    assert process.child.wait(3) == 0


@pytest.mark.parametrize(
    ("words", "variables", "status", "said"),
    [
        (["--disable-log-requests"], {}, 2, "vllm: error: unrecognized arguments: --disable-log-requests"),
        (["--enable-auto-tool-choice", "--tool-call-parser", "gemma"], {}, 1, "invalid tool call parser: gemma"),
        ([], {"OJAI_LAB_CRASH_AT": "start"}, 1, "told to die here"),
        ([], {"OJAI_LAB_CRASH_AT": "loading"}, 1, "RuntimeError: Engine core initialization failed."),
        ([], {"OJAI_LAB_CRASH_AT": "x"}, 1, "OJAI_LAB_CRASH_AT='x'"),
        ([], {"VLLM_ROCM_USE_AITER": "1"}, 1, "Unquantized MoE backend ROCm AITER does not support"),
        (["--host", "256.1.1.1"], {}, 1, "--host 256.1.1.1"),
    ],
)
def test_it_does_not_start(start, words, variables, status, said):
    process = start(*words, **variables)
    assert process.child.wait(8) == status
    log = process.log.read_text()
    assert said in log
    assert "Traceback" not in log


def test_a_port_that_is_taken(start):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        process = start(port=other.getsockname()[1])
        assert process.child.wait(5) == 1
    assert "OSError: [Errno 98] Address already in use" in process.log.read_text()


def test_sigterm_ends_it_with_0_within_a_second(start):
    process = start().until(200)
    begun = time.monotonic()
    process.child.send_signal(signal.SIGTERM)
    assert process.child.wait(3) == 0
    assert time.monotonic() - begun < 1.5


def open_stream(process):
    """Start a long stream in a thread; return what it read so far (a growing list) and the thread."""
    lines = []

    def read():
        connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=10)
        with contextlib.closing(connection):
            body = {**CHAT, "stream": True, "max_tokens": 24, "ignore_eos": True}
            connection.request("POST", "/v1/chat/completions", json.dumps(body))
            for line in connection.getresponse():
                if line.strip():
                    lines.append(line.decode().strip())

    thread = threading.Thread(target=read)
    thread.start()
    end = time.monotonic() + 5
    while len(lines) < 3 and time.monotonic() < end:
        time.sleep(0.01)
    assert len(lines) >= 3
    return lines, thread


def test_sigterm_cuts_open_streams_with_an_error_and_done(start):
    process = start(OJAI_LAB_TOKEN_SECONDS="0.1").until(200)
    lines, thread = open_stream(process)
    running = process.metrics()
    assert running[f'vllm:num_requests_running{{engine="0",model_name="{MODEL}"}}'] == 1
    assert 0 < running[f'vllm:kv_cache_usage_perc{{engine="0",model_name="{MODEL}"}}'] < 1
    process.child.send_signal(signal.SIGTERM)
    assert process.child.wait(3) == 0
    thread.join(3)
    assert lines[-1] == "data: [DONE]"
    assert json.loads(lines[-2].removeprefix("data: "))["error"]["code"] == 500


def test_with_a_shutdown_timeout_streams_finish_and_health_stays(start):
    process = start("--shutdown-timeout", "10", OJAI_LAB_TOKEN_SECONDS="0.03").until(200)
    lines, thread = open_stream(process)
    process.child.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    assert process.health() == 200
    assert process.post("/v1/chat/completions", CHAT)[0] == 503
    assert process.child.wait(5) == 0
    thread.join(3)
    assert lines[-1] == "data: [DONE]"
    assert json.loads(lines[-2].removeprefix("data: "))["choices"][0]["finish_reason"] == "length"


def test_a_killed_engine_ends_the_server_with_0_and_loses_the_tuning(start, tmp_path):
    results = tmp_path / "tuned.csv"
    process = start(PYTORCH_TUNABLEOP_ENABLED="1", PYTORCH_TUNABLEOP_FILENAME=str(results)).until(200)
    begun = time.monotonic()
    os.kill(process.engine(), signal.SIGKILL)
    process.until(503)
    status, answer = process.post("/v1/chat/completions", CHAT)
    assert (status, answer["error"]["type"]) == (500, "InternalServerError")
    assert process.child.wait(6) == 0
    assert 2 < time.monotonic() - begun < 5
    assert "Engine core died unexpectedly (status -9)" in process.log.read_text()
    assert not (tmp_path / "tuned0.csv").exists()


def test_a_killed_server_takes_the_engine_and_the_tuning_with_it(start, tmp_path):
    results = tmp_path / "tuned.csv"
    process = start(PYTORCH_TUNABLEOP_ENABLED="1", PYTORCH_TUNABLEOP_FILENAME=str(results)).until(200)
    engine = process.engine()
    process.child.kill()
    process.child.wait()
    end = time.monotonic() + 3
    while Path(f"/proc/{engine}/cmdline").exists() and time.monotonic() < end:
        # Gone, or a zombie that nobody here is the parent of.
        if not Path(f"/proc/{engine}/cmdline").read_bytes():
            break
        time.sleep(0.02)
    else:
        assert not Path(f"/proc/{engine}").exists(), "the engine outlived its server"
    assert not (tmp_path / "tuned0.csv").exists()


def test_sigterm_writes_the_tuning(start, tmp_path):
    results = tmp_path / "tuned.csv"
    process = start(PYTORCH_TUNABLEOP_ENABLED="1", PYTORCH_TUNABLEOP_FILENAME=str(results)).until(200)
    process.child.send_signal(signal.SIGTERM)
    assert process.child.wait(3) == 0
    assert (tmp_path / "tuned0.csv").read_text().startswith("Validator,")


def test_the_key_guards_v1_only_and_is_not_logged(start):
    process = start("--api-key", "s3cret", "--served-model-name", "gemma", "other").until(200)
    assert process.get("/v1/models") == (401, '{"error":"Unauthorized"}')
    assert process.get("/v1/models", authorization="Bearer wrong")[0] == 401
    assert process.get("/v1/models", authorization="s3cret")[0] == 401
    status, text = process.get("/v1/models", authorization="Bearer s3cret")
    assert (status, [card["id"] for card in json.loads(text)["data"]]) == (200, ["gemma", "other"])
    for path in ("/health", "/version", "/metrics", "/load"):
        assert process.get(path)[0] == 200
    assert process.post("/tokenize", {"prompt": "x"})[0] == 200
    assert process.post("/invocations", {"model": "gemma", "messages": CHAT["messages"]})[0] == 200
    assert "s3cret" not in process.log.read_text()
    assert '"GET /health HTTP/1.1" 200 OK' in process.log.read_text()


def test_requests_beyond_max_num_seqs_wait(start):
    process = start("--max-num-seqs", "1", OJAI_LAB_TOKEN_SECONDS="0.05").until(200)
    _, first = open_stream(process)
    waiting = threading.Thread(target=process.post, args=("/v1/chat/completions", {**CHAT, "max_tokens": 1}))
    waiting.start()
    name = f'vllm:num_requests_waiting{{engine="0",model_name="{MODEL}"}}'
    end = time.monotonic() + 2
    while (seen := process.metrics()[name]) != 1 and time.monotonic() < end:
        time.sleep(0.02)
    assert seen == 1
    first.join(5)
    waiting.join(5)
    values = process.metrics()
    assert values[name] == 0
    assert values[f'vllm:request_queue_time_seconds_sum{{engine="0",model_name="{MODEL}"}}'] > 0.2


def test_a_client_that_leaves_is_an_abort(start):
    process = start(OJAI_LAB_TOKEN_SECONDS="0.02").until(200)
    with socket.create_connection(("127.0.0.1", process.port)) as client:
        body = json.dumps({**CHAT, "stream": True, "max_tokens": 2000, "ignore_eos": True}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        client.recv(1000)
    name = f'vllm:request_success_total{{engine="0",finished_reason="abort",model_name="{MODEL}"}}'
    end = time.monotonic() + 3
    while (seen := process.metrics()[name]) != 1 and time.monotonic() < end:
        time.sleep(0.05)
    assert seen == 1
