"""The step that fetches models, run by this machine's shell and Python against the lab's hub: as on a host."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gevent
import pytest
from real_host import RealHost

from ojai.engines import ResolvedService
from ojai.facts import weights as facts
from ojai.facts.weights import Fetched, FetchedModels
from ojai.lab.hub.faults import Counts, Fault
from ojai.lab.hub.repository import Store
from ojai.lab.hub.server import Hub, Running, start
from ojai.operations import progress, vllm, weights
from ojai.preflight import secrets
from ojai.settings import parse
from ojai.settings.secrets import Source
from ojai.weights.pack import packed

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="the operation gives files to root")

MODEL, DRAFT, SIZE = "google/gemma-4-E4B-it", "google/gemma-4-E4B-it-assistant", 4_000_000
TOKEN = "hf_labAccepted"
GIVEN = Source(env="HF_TOKEN")
TOKENS = {"vllm-gemma4": GIVEN}


class Host(RealHost):
    """This machine, whose commands run beside the test as those of a host do. ``said``: what was told."""

    own_group = True

    def __init__(self, environment: dict[str, str]) -> None:
        super().__init__(environment)
        self.said: list[str] = []
        self.processes: list[str] = []
        self.during: Any = lambda: None

    def sh(self, command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return gevent.get_hub().threadpool.apply(super().sh, (command, stdin))


@pytest.fixture
def hub(tmp_path) -> Iterator[Running]:
    models = {MODEL: {"model.safetensors": 15_200_000_000}, DRAFT: {"model.safetensors": 1}}
    folder = tmp_path / "hub"
    folder.mkdir()
    running = start(Hub(Store(folder, models, SIZE, frozenset({MODEL})), Counts(tmp_path / "counts")))
    yield running
    running.stop()


@pytest.fixture
def host(tmp_path, monkeypatch) -> Host:
    for module, name, place in (
        (facts, "STATE", "state"),
        (weights, "STATE", "state"),
        (weights, "CLIENT", "lib/client.pyz"),
        (weights, "STATUS", "run/fetch"),
    ):
        monkeypatch.setattr(module, name, str(tmp_path / place))
    monkeypatch.setattr(weights, "RESERVE", 0)
    monkeypatch.setattr(weights, "PATIENCE", 0)
    monkeypatch.setattr(weights, "TIMEOUT", 5)
    monkeypatch.setattr(progress, "HEARTBEAT", 0.5)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    clean = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "")
    found = Host({**clean, "HF_TOKEN": ""})
    for module in (weights, progress):
        monkeypatch.setattr(module, "say", lambda host, line: found.said.append(line))
    monkeypatch.setattr(weights, "complain", lambda host, text: found.errors.append(text))
    assert found.apply(weights.client, pack=packed)
    return found


def services(tmp_path: Path, **values: Any) -> list[ResolvedService]:
    data = {"data_directory": str(tmp_path / "data"), "services": [{"profile": "gemma-4-e4b", **values}]}
    return list(parse("mini", data).resolved)


def drafted(tmp_path: Path) -> list[ResolvedService]:
    return services(tmp_path, image="vllm/vllm-openai-rocm:v0.28.0", speculative=True)


def test_the_client_is_sent_once(host):
    assert not host.apply(weights.client, pack=packed)
    place = Path(weights.CLIENT)
    assert oct(place.stat().st_mode)[-3:] == "644"
    place.write_bytes(place.read_bytes()[:4096])
    assert host.apply(weights.client, pack=packed) and place.read_bytes() == packed()


def test_a_model_and_its_assistant_are_fetched_and_the_second_run_asks_nobody(host, hub, tmp_path):
    wanted = drafted(tmp_path)
    before = host.get_fact(FetchedModels, cache=f"{tmp_path}/data/huggingface", records=("x@main",))
    assert before == {}
    assert host.apply(weights.fetched, services=wanted, endpoint=hub.url, tokens=TOKENS)
    assert [line.split(": ")[1].split(" at ")[0] for line in host.said[-2:]] == [MODEL, DRAFT]
    assert all("verified in" in line for line in host.said[-2:])
    asked = hub.hub.counts.shown()
    hub.stop()
    assert not host.apply(weights.fetched, services=wanted, endpoint=hub.url, tokens=TOKENS)
    assert hub.hub.counts.shown() == asked
    # The unit has both commits, and needs no hub.
    with_commits = placed(host, wanted[0])
    argv = with_commits.command.docker_argv
    commits = {one.name: one.head for one in hub.hub.store._made.values()}
    assert argv[argv.index("--revision") + 1] == commits[MODEL] and "HF_HUB_OFFLINE=1" in argv
    assert json.loads(argv[argv.index("--speculative-config") + 1])["revision"] == commits[DRAFT]


def placed(host: Host, service: ResolvedService) -> ResolvedService:
    from pyinfra.context import ctx_host

    with ctx_host.use(host):
        return service.on_host({"video": 44, "render": 992}, None, weights.revisions(service))


def test_what_is_not_fetched_yet_is_said_so_in_the_plan(host, tmp_path):
    assert weights.TO_COME in placed(host, services(tmp_path)[0]).command.engine_argv
    from pyinfra.context import ctx_host

    with ctx_host.use(host):
        assert weights.TO_COME in vllm.argv(services(tmp_path)[0])


def test_a_file_that_is_lost_or_cut_short_is_seen(host, hub, tmp_path):
    wanted = services(tmp_path)
    host.apply(weights.fetched, services=wanted, endpoint=hub.url, tokens=TOKENS)
    record = weights.records(wanted[0])[MODEL]
    words = {"cache": f"{tmp_path}/data/huggingface", "records": (record, "models--x--y@main")}
    (found,) = host.get_fact(FetchedModels, **words).values()
    assert found == Fetched(hub.hub.store.find(MODEL).head, True, 7, found.size) and found.size > SIZE
    (blob,) = [path for path in (tmp_path / "data").rglob("blobs/*") if path.stat().st_size > SIZE]
    os.truncate(blob, 10)
    assert not host.get_fact(FetchedModels, **words)[record].whole
    assert host.apply(weights.fetched, services=wanted, endpoint=hub.url, tokens=TOKENS)
    assert host.get_fact(FetchedModels, **words)[record].whole
    next((tmp_path / "data").rglob("snapshots/*/config.json")).unlink()
    assert not host.get_fact(FetchedModels, **words)[record].whole


def test_a_run_that_is_killed_is_continued_and_progress_is_told(host, hub, tmp_path):
    """As when the power fails: the program is gone in the middle of a file."""
    wanted = services(tmp_path)
    hub.hub.faults.put([Fault("slow", "*model.safetensors", rate=1_000_000)])
    part = tmp_path / "data/huggingface/hub"

    def kill() -> None:
        while not [one for one in part.rglob("*.incomplete") if one.stat().st_size >= 2 << 20]:
            time.sleep(0.05)
        for place in Path("/proc").glob("[0-9]*/cmdline"):
            words = place.read_bytes().split(b"\0") if place.exists() else []
            if weights.CLIENT.encode() in words:
                os.kill(int(place.parent.name), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(AssertionError):
        host.apply(weights.fetched, services=wanted, endpoint=hub.url, tokens=TOKENS)
    killer.join()
    assert any("ended without a word" in line for line in host.errors)
    assert any(line.startswith(f"fetching {MODEL}: ") and line.endswith(" left") for line in host.said), host.said
    hub.hub.faults.put([])
    assert host.apply(weights.fetched, services=wanted, endpoint=hub.url, tokens=TOKENS)
    # A piece of 1 MiB that was not written yet, and what was on its way, at most.
    assert hub.hub.counts.bytes[f"{MODEL} model.safetensors"] < SIZE + (3 << 20)
    assert hub.hub.counts.requests[f"{MODEL} config.json"] == 1  # finished files are not asked for again


def test_the_token_is_in_no_argument_list_no_file_and_no_output(host, hub, tmp_path):
    hub.hub.faults.put([Fault("slow", "*model.safetensors", rate=4_000_000)])
    seen: list[bytes] = []
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.05):
            for place in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.append(place.read_bytes())
                except OSError:
                    continue

    looking = threading.Thread(target=look)
    looking.start()
    host.apply(weights.fetched, services=services(tmp_path), endpoint=hub.url, tokens=TOKENS)
    done.set()
    looking.join()
    assert any(weights.CLIENT.encode() in line for line in seen), "the program itself was not seen"
    assert not any(TOKEN.encode() in line for line in seen)
    assert hub.hub.counts.tokens_led_astray == 0
    assert TOKEN not in "".join(host.said + host.errors)
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or TOKEN.encode() not in file.read_bytes(), file


def test_a_failure_is_told_and_the_caller_decides_what_becomes_of_the_host(host, hub, tmp_path, monkeypatch):
    called = []
    with pytest.raises(AssertionError):
        host.apply(
            weights.fetched,
            services=services(tmp_path),
            endpoint=hub.url,
            on_failure=lambda state, host: called.append(host.name),
        )
    (text,) = host.errors
    assert called == ["mini"] and text.startswith("vllm-gemma4: weights of google/gemma-4-E4B-it: found no token")
    assert "https://huggingface.co/google/gemma-4-E4B-it" in text and "HF_TOKEN" in text


def test_the_report_is_given_where_all_is_there_too(host, hub, tmp_path):
    reports: list[list[dict[str, Any]]] = []
    for _ in range(2):
        host.apply(weights.fetched, services=services(tmp_path), endpoint=hub.url, tokens=TOKENS, report=reports.append)
    (first,), (again,) = reports
    assert (first["service"], first["model"], first["asked"]) == ("vllm-gemma4", MODEL, "main")
    assert first["bytes_fetched"] == first["bytes"] == again["bytes_before"] and again["bytes_fetched"] == 0


@pytest.mark.parametrize("token", ["hf_x\nVLLM_API_KEY=y", '"hf_x"', "hf x", "HF_TOKEN=hf_x"])
def test_a_token_that_is_none_is_refused_without_its_value(monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", token)
    (refused,) = secrets.failed(parse("mini", {}))
    assert "hf_x" not in str(refused) and "HF_TOKEN" in str(refused)


def test_a_model_is_asked_for_with_the_token_of_its_service(host, hub, tmp_path, monkeypatch):
    monkeypatch.setenv("WRONG", "hf_wrong")
    (one,) = drafted(tmp_path)
    other = replace(one, name="other", model=DRAFT)
    with pytest.raises(AssertionError):
        host.apply(
            weights.fetched,
            services=[other, one],
            endpoint=hub.url,
            tokens={"other": GIVEN, one.name: Source(env="WRONG")},
        )
    assert "found a token" in host.errors[-1] and "hf_wrong" not in host.errors[-1]
    assert host.apply(weights.fetched, services=[one], endpoint=hub.url, tokens={one.name: GIVEN})
