"""What a host asks registry and hub before a deploy: real requests to a registry of the test's and to the lab's hub."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ojai.facts.report import Report
from ojai.lab.hub import server as hub
from ojai.lab.hub.faults import Counts, Fault
from ojai.lab.hub.repository import Store
from ojai.preflight import lock, upstream, weights
from ojai.resources import DEPLOY
from ojai.settings import parse
from ojai.settings.lock import Lock, profile_hash
from ojai.settings.secrets import LOOKING
from ojai.weights import upstream as program
from ojai.weights.program import folder_name

MODEL, SIZE = "google/gemma-4-E4B-it", 12_000_000
COMMIT, OTHER = "1" * 40, "2" * 40
DIGEST, NEWER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
IMAGE = "vllm/vllm-openai-rocm:v0.20.1"
BASE, LAYERS = 1_000_000, [1_000_000, 9_000_000]


class Registry(BaseHTTPRequestHandler):
    """A registry that wants a login for a token, and has its layers elsewhere, as Docker Hub does."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[str]] = []

    def log_message(self, format: str, *args: object) -> None: ...

    def do_GET(self) -> None:
        given, here = self.headers.get("Authorization", ""), f"http://{self.headers['Host']}"
        self.seen.append(f"{self.path} {given}".strip())
        if self.path.startswith("/token"):
            right = given == "Basic " + base64.b64encode(b"ada:secret").decode()
            self._answer(200 if right else 401, {"token": "given"} if right else {})
        elif self.path.startswith("/elsewhere"):
            self._answer(400 if given else 206, b"x" * LAYERS[1])
        elif given != "Bearer given":
            self._answer(401, {}, {"WWW-Authenticate": f'Bearer realm="{here}/token",service="s",scope="r"'})
        elif "/manifests/" in self.path:
            layers = [{"digest": f"sha256:{number}", "size": size} for number, size in enumerate(LAYERS)]
            self._answer(200, {"layers": layers, "config": {"digest": "sha256:c"}})
        elif self.path.endswith("sha256:c"):
            self._answer(200, {"rootfs": {"diff_ids": ["base", "ours"]}})
        else:
            self._answer(307, {}, {"Location": f"{here}/elsewhere"})

    def _answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def registry(monkeypatch, tmp_path) -> Iterator[str]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    Registry.seen = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(program, "told", lambda path: {} if path == "/info" else [])
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def models(tmp_path: Path) -> Iterator[hub.Running]:
    counts = Counts(tmp_path / "counts")
    running = hub.start(
        hub.Hub(Store(tmp_path / "models", {MODEL: {"model.safetensors": 0}}, SIZE, frozenset()), counts)
    )
    yield running
    running.stop()


SIZES = {"sizes": True, "mirrors": [], "brief": False}


def test_an_image_is_as_large_as_the_layers_that_the_host_lacks(registry, monkeypatch):
    login = {"username": "ada", "password": "secret"}
    found = program.image(f"{registry}/a/b:v1", SIZES, login)
    assert found["bytes"] == sum(LAYERS) and found["rate"] > 1e6
    assert "/elsewhere" in Registry.seen, "a login or token was shown to the second address"
    answers = {
        "/info": {},
        "/images/json": [{"Id": "one"}, {"Id": "two"}],
        "/images/one/json": {"RootFS": {"Layers": ["base", "theirs", "ours"]}},
        "/images/two/json": {"RootFS": {}},
    }
    monkeypatch.setattr(program, "told", answers.__getitem__)
    assert program.image(f"{registry}/a/b:v1", SIZES, login)["bytes"] == LAYERS[1]
    answers["/images/two/json"] = {"RootFS": {"Layers": ["base", "ours"]}}
    assert program.image(f"{registry}/a/b:v1", SIZES, login) == {"bytes": 0}
    assert program.image(f"{registry}/a/b:v1", SIZES, {}) == {"error": "127.0.0.1: status 401"}


def test_a_model_is_as_large_as_what_the_cache_lacks_and_the_line_is_measured(models, tmp_path):
    asked = {**SIZES, "endpoint": models.url}
    found = program.model(MODEL, "main", "", asked)
    size, digest, there = found["files"]["model.safetensors"]
    assert size >= SIZE and there == 0 and len(digest) == 64 and found["rate"] > 1e6
    assert 0 < models.hub.counts.samples[f"{MODEL} model.safetensors"] <= size
    assert models.hub.counts.bytes == {} and models.hub.counts.tokens_led_astray == 0
    blobs = tmp_path / folder_name(MODEL) / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{digest}.incomplete").write_bytes(b"x" * 5000)
    begun = program.model(MODEL, "main", str(blobs.parent), asked, "hf_labAccepted")
    assert begun["files"]["model.safetensors"][2] == 5000
    assert models.hub.counts.tokens_led_astray == 0
    models.hub.faults.put([Fault("slow", rate=1_000_000)])
    began = time.monotonic()
    assert program.model(MODEL, "main", "", asked)["rate"] == pytest.approx(1e6, rel=0.3)
    assert time.monotonic() - began < program.SECONDS + 2
    assert program.model(MODEL, "main", "", {**asked, "brief": True}) == {"commit": found["commit"]}


def ask(hidden: dict[str, Any] | None = None, **asked: Any) -> dict[str, Any]:
    """The program, as the host runs it."""
    whole = {"images": [], "models": [], "mirrors": [], "environment": {}, "endpoint": "http://127.0.0.1:9"}
    whole |= {**SIZES, "timeout": 2, "patience": 4, "hidden": hidden is not None, **asked}
    argv = [sys.executable, "-I", "-c", Path(program.__file__).read_text(), json.dumps(whole)]
    done = subprocess.run(argv, input=json.dumps(hidden), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_program_gets_its_logins_by_standard_input_and_says_who_did_not_answer(registry, models):
    image = f"{registry}/a/b:v1"
    hidden = {"logins": {registry: {"username": "ada", "password": "secret"}}, "tokens": {}, "authorities": ""}
    dead = "127.0.0.1:9/x/y:1"
    found = ask(hidden, images=[image, dead], models=[[MODEL, "main", ""]], endpoint=models.url)
    assert found["images"][image]["bytes"] == sum(LAYERS)
    assert "127.0.0.1: ConnectionRefusedError" in found["images"][dead]["error"]
    assert found["models"][f"{MODEL}@main"]["rate"]
    assert "error" in ask(images=[image])["images"][image], "it has no login"
    gone = ask(models=[[MODEL, "main", ""]])["models"][f"{MODEL}@main"]
    assert gone == {"error": "127.0.0.1: ConnectionRefusedError: [Errno 111] Connection refused"}


def test_a_server_that_is_silent_holds_nobody_up(models):
    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as silent:  # accepts, and never answers
        began = time.monotonic()
        found = ask(
            models=[[MODEL, "main", ""], ["x/y", "main", ""]],
            endpoint=f"http://127.0.0.1:{silent.server_port}",
            timeout=30,
            patience=2,
        )
    assert found["models"]["x/y@main"] == {"error": "no answer within 2 s"}
    assert time.monotonic() - began < 15


FILES = {
    "config.json": [1_000, "3" * 40, 0],
    "model.safetensors": [15_000_000_000, "4" * 64, 0],
    "README.md": [9, "5" * 40, 0],
}


def of_host(images: Any = None, files: Any = FILES, **report: Any) -> Report:
    """A host that lacks everything, and what registry and hub said to it."""
    image = images or {"bytes": 8_000_000_000, "rate": 5e6}
    model = {"commit": COMMIT, "files": files, "rate": 1e7} if files else {"error": "hub.test: status 503"}
    return Report(upstream={"images": {IMAGE: image}, "models": {f"{MODEL}@main": model}}, **report)


def test_a_plan_says_how_much_is_fetched_and_how_long_that_takes():
    wanted = parse("mini", {})
    assert list(weights.remarks(wanted, of_host())) == [
        f"{IMAGE}: 8.0 GB to pull; about 27 min at 5.0 MB/s (measured now)",
        f"vllm-gemma4: 15.0 GB of {MODEL} to fetch; about 25 min at 10.0 MB/s (measured now)",
        "in all 23.0 GB to fetch; about 52 min",
    ]
    begun = {**FILES, "model.safetensors": [15_000_000_000, "4" * 64, 5_000_000_000]}
    assert (
        list(weights.remarks(wanted, of_host(files=begun)))[1]
        == f"vllm-gemma4: 10.0 GB of {MODEL} to fetch, 5.0 GB are there; about 17 min at 10.0 MB/s (measured now)"
    )
    silent = of_host({"error": "registry-1.docker.io: status 401"}, None, line=(10_000_000, 1_795_000_000))
    assert list(weights.remarks(wanted, silent)) == [
        f"{IMAGE}: to be pulled; how large it is, the registry does not say (registry-1.docker.io: status 401)",
        f"vllm-gemma4: about 15.2 GB of {MODEL} to fetch; about 25 min at 10.0 MB/s (measured 2026-11-18); the size is "
        "the profile's (hub.test: status 503)",
    ]
    whole = {path: [size, digest, size] for path, (size, digest, _) in FILES.items()}
    service = wanted.resolved[0]
    there = of_host(files=whole, images=None, models=(service.model_directory,))
    (image, remark) = weights.remarks(wanted, there)
    assert "is restarted once" in remark and "to pull" in image


def locked(**models: str) -> Any:
    images = {IMAGE: {"digest": DIGEST, "engine": "vllm 0.20.1", "contract": "0" * 64}}
    files = {"config.json": {"size": 1, "hash": "3" * 40}}
    found = {"images": images, "models": {f"{MODEL}@main": {"commit": COMMIT, "files": files}}}
    profiles = {"gemma-4-e4b": profile_hash("gemma-4-e4b")}
    return parse("mini", {}).locked(Lock.model_validate({"ojai": "0", **found, "profiles": profiles}))


def test_what_is_newer_than_the_lock_is_said_and_how_to_move_to_it():
    answers = {"images": {IMAGE: {"digest": NEWER}}, "models": {f"{MODEL}@main": {"commit": OTHER}}}
    said = [line for line in lock.remarks(locked(), Report(newer=answers)) if "newer" in line]
    assert said == [
        f"lock: newer at the registry: {IMAGE} {NEWER[:19]} (locked: {DIGEST[:19]}); "
        f"`ojai lock --upgrade INVENTORY {IMAGE}` moves to it",
        f"lock: newer at the hub: {MODEL}@main {OTHER[:12]} (locked: {COMMIT[:12]}); "
        f"`ojai lock --upgrade INVENTORY {MODEL}@main` moves to it",
    ]
    same = {"images": {IMAGE: {"digest": DIGEST}}, "models": {f"{MODEL}@main": {"error": "hub.test: status 503"}}}
    assert not any("newer" in line for line in lock.remarks(locked(), Report(newer=same)))


class Asked:
    """A host that is asked for facts."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(self, fact: type, **arguments: Any) -> dict[str, Any]:
        self.calls.append(arguments)
        return {"images": {}, "models": {}}


def whole(settings: Any) -> Report:
    """A host that has it all."""
    records = tuple(f"{folder_name(MODEL)}@{name}" for name in ("main", COMMIT))
    images = tuple(service.image for service in settings.resolved)
    return Report(images=images, fetched=records, models=(settings.resolved[0].model_directory,))


def test_a_host_that_has_it_all_is_asked_only_for_what_a_lock_has_and_without_a_secret(monkeypatch):
    asked = Asked()
    plain = parse("mini", {})
    upstream.asked(asked, plain, whole(plain))
    assert asked.calls == []
    upstream.asked(asked, locked(), whole(locked()))
    (call,) = asked.calls  # no `_stdin`: it is read ahead with the other facts
    assert "_stdin" not in call and call["brief"] and not call["hidden"]
    assert call["images"] == (IMAGE,) and call["models"] == ((MODEL, "main", ""),)
    for settings, report in (
        (locked().model_copy(update={"local_only": True}), Report()),
        (locked(), Report(python="none")),
    ):
        assert upstream.asked(asked, settings, report) == report
    monkeypatch.setenv(LOOKING, "1")
    upstream.asked(asked, locked(), Report())
    assert len(asked.calls) == 1, "`ojai verify` asks nobody"


def test_what_is_missing_is_asked_for_with_logins_and_authorities(monkeypatch, tmp_path):
    monkeypatch.setenv("LOGIN", "ada:NobodyElsesWord")
    monkeypatch.setenv("HF_TOKEN", "hf_token")
    pem = Path(__file__).resolve().parents[1] / "roles" / "inventories" / "authority.pem"
    data = {"registry_credentials": {"docker.io": {"env": "LOGIN"}}, "ca_certificates": [str(pem), "/not/there"]}
    asked = Asked()
    upstream.asked(asked, parse("mini", data), Report(line=(1, 1)))
    (call,) = asked.calls
    hidden = json.loads(*call["_stdin"].readlines())
    assert hidden["logins"] == {"docker.io": {"username": "ada", "password": "NobodyElsesWord"}}
    assert hidden["tokens"] == {MODEL: "hf_token"} and hidden["authorities"] in pem.read_text()
    assert "Nobody" not in f"{call}", "pyinfra says the arguments of a fact in its log"
    command = str(upstream.Upstream().command(**{key: value for key, value in call.items() if key[0] != "_"}))
    assert "Nobody" not in command and "hf_token" not in command
    monkeypatch.delenv("LOGIN")  # preflight refuses that; a plan goes on
    upstream.asked(asked, parse("mini", data), replace(Report(), python="3.12"))
    assert json.loads(*asked.calls[1]["_stdin"].readlines())["logins"] == {}


INVENTORY = """
from ojai.fake import fake_host

name, found = fake_host("mini", {{}})
answers = {{"What registries and the hub have": [{answer!r}], **found["fake_responses"]}}
hosts = [(name, {{**found, "fake_responses": answers}})]
"""


def test_a_plan_and_the_deploy_before_it_asks_say_it(tmp_path):
    """By the commands, on a host that is made of air."""
    inventory = tmp_path / "hosts.py"
    inventory.write_text(INVENTORY.format(answer=json.dumps(of_host().upstream)))
    environment = {**os.environ, "NO_COLOR": "1"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", *words]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=900, check=False)

    image = f"{IMAGE}: 8.0 GB to pull; about 27 min at 5.0 MB/s (measured now)"
    planned = run("ojai", "plan", "--facts", str(inventory))
    assert f"{image}.\n" in planned.stdout, planned
    assert "in all 23.0 GB to fetch; about 52 min.\n" in planned.stdout
    (found,) = json.loads(run("ojai", "plan", "--facts", "--json", str(inventory)).stdout)["hosts"]
    assert [(one["what"], one["size"], one["rate"]) for one in found["fetches"]] == [
        (IMAGE, 8_000_000_000, 5e6),
        (MODEL, 15_000_001_000, 1e7),
    ]
    dry = run("pyinfra", "--dry", str(inventory), str(DEPLOY))
    assert f"] {image}\n" in dry.stderr and "Traceback" not in dry.stderr, dry.stderr
