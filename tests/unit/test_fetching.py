"""The program that fetches weights on a host, with the hub's real client, against the lab's hub."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ojai.engines import get
from ojai.lab.hub.faults import Counts, Fault
from ojai.lab.hub.repository import Store
from ojai.lab.hub.server import Hub, Running, start
from ojai.operations.weights import TIMEOUT
from ojai.weights import errors, pack, program
from ojai.weights.program import FetchError, Request, record_name, run

os.environ.update(program.SETTINGS)

from huggingface_hub import constants

MODEL, SHARDED = "google/gemma-4-E4B-it", "google/gemma-4-26B-A4B-it"
TWO = {"model-00001-of-00002.safetensors": 1, "model-00002-of-00002.safetensors": 1}
SIZE = 3_000_000
WEIGHTS = "model.safetensors"
FILES = get("vllm").files(None)


class World:
    """A hub, and a host's cache and records."""

    def __init__(self, folder: Path, gated: frozenset[str] = frozenset()) -> None:
        self.folder, self.gated = folder, gated
        self.hub: Hub
        self.running: Running
        self.files: dict[str, list[str]] = {}
        self.open()

    def open(self) -> None:
        models = {MODEL: {WEIGHTS: 1}, SHARDED: TWO, "x/empty": {}}
        store = Store(self.folder / "models", models, SIZE, self.gated)
        self.folder.mkdir(exist_ok=True)
        self.hub = Hub(store, Counts(self.folder / "counts"))
        self.running = start(self.hub)

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def request(self, *models: tuple[str, str | None], **changes: object) -> Request:
        env_file = str(self.folder / "service.env")
        wanted = [{"model": model, "revision": revision} for model, revision in models or [(MODEL, None)]]
        found = Request(
            services=[
                {
                    "name": "svc",
                    "cache": str(self.cache),
                    "env_file": env_file,
                    "models": wanted,
                    "files": self.files or asdict(FILES),
                }
            ],
            state=self.folder / "state",
            status=self.folder / "status",
            endpoint=self.running.url,
            reserve=0,
            patience=2,
            timeout=TIMEOUT,
            workers=2,
            token=None,
        )
        return replace(found, **changes)

    def fetch(self, *models: tuple[str, str | None], **changes: object) -> list[dict]:
        return run(self.request(*models, **changes))

    def fails(self, *models: tuple[str, str | None], **changes: object) -> FetchError:
        with pytest.raises(FetchError) as raised:
            self.fetch(*models, **changes)
        return raised.value

    def sent(self, file: str = WEIGHTS, model: str = MODEL) -> int:
        return self.hub.counts.bytes.get(f"{model} {file}", 0)

    def record(self, model: str = MODEL, asked: str | None = None) -> str:
        return (self.folder / "state" / record_name(model, asked)).read_text()

    def snapshot(self, model: str = MODEL) -> Path:
        (found,) = (self.cache / "hub" / program.folder_name(model) / "snapshots").iterdir()
        return found


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", TIMEOUT)  # less, and a busy machine is a dead hub
    monkeypatch.setattr(program.time, "sleep", lambda seconds: None)  # the client too
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    found = World(tmp_path / "world")
    yield found
    found.running.stop()


def test_only_what_the_engine_reads_is_fetched_and_verified(world):
    (result,) = world.fetch()
    names = {path.relative_to(world.snapshot()).as_posix() for path in world.snapshot().rglob("*")}
    assert names == {
        *("config.json", "generation_config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json"),
        *("chat_template.jinja", WEIGHTS),
    }
    content = (world.snapshot() / WEIGHTS).read_bytes()
    assert hashlib.sha256(content).hexdigest() in world.record() and content[8:9] == b"{"
    assert result["revision"] == world.snapshot().name and result["files"] == 7
    assert result["bytes_fetched"] == result["bytes"] == sum(f.stat().st_size for f in world.snapshot().iterdir())
    assert not list((world.folder / "state").glob("*.part")) and not (world.folder / "status").exists()
    assert (world.cache / "hub" / "models--google--gemma-4-E4B-it" / "blobs").is_dir()


def test_what_is_complete_is_never_asked_for_again_even_with_the_hub_away(world):
    world.fetch()
    world.running.stop()
    (again,) = world.fetch()
    assert (again["bytes_fetched"], again["bytes_before"]) == (0, again["bytes"])
    world.open()


def test_where_nothing_may_be_fetched_no_hub_is_asked(world):
    """What the cache has is verified and recorded; what it lacks, or has damaged, is said."""
    assert world.fails(local_only=True).code == "local-only"
    assert world.hub.counts.requests == {}
    world.fetch()
    asked = world.hub.counts.shown()
    shutil.rmtree(world.folder / "state")
    assert world.fetch(local_only=True)[0]["bytes_fetched"] == 0
    shutil.rmtree(world.folder / "state")
    blob = (world.snapshot() / WEIGHTS).resolve()
    content = bytearray(blob.read_bytes())
    content[SIZE // 2] ^= 1
    blob.write_bytes(content)
    assert world.fails(local_only=True).code == "local-only"
    (world.snapshot() / "tokenizer.json").unlink()
    assert world.fails(local_only=True).code == "local-only"
    assert world.hub.counts.shown() == asked


def test_a_verified_file_that_is_gone_is_named_where_nothing_may_be_fetched(world):
    """What the record lists counts, and not what the cache has left of it."""
    world.fetch()
    asked = world.hub.counts.shown()
    (world.snapshot() / "tokenizer.json").unlink()
    (world.snapshot() / "tokenizer_config.json").write_text("{}")
    found = world.fails(local_only=True)
    assert (found.code, found.words["why"]) == ("local-only", "no whole tokenizer.json")
    assert world.hub.counts.shown() == asked
    world.fetch()
    assert world.fetch(local_only=True)[0]["bytes_fetched"] == 0


def test_what_the_line_gave_is_kept_for_the_plan(world, monkeypatch):
    world.fetch()
    assert not (world.folder / "state" / "line").exists()  # a few bytes tell nothing
    monkeypatch.setattr(program, "ENOUGH", 1000)
    shutil.rmtree(world.cache)
    world.fetch()
    rate, moment = map(int, (world.folder / "state" / "line").read_text().split())
    assert rate > 0 and abs(moment - time.time()) < 600


def test_two_services_of_one_model_fetch_once(world):
    found = world.fetch((MODEL, None), (MODEL, None))
    assert [one["bytes_fetched"] > 0 for one in found] == [True, False]
    assert world.hub.counts.requests[f"{MODEL} {WEIGHTS}"] == 1


def test_a_branch_that_moves_on_changes_nothing(world):
    (first,) = world.fetch()
    moved = world.hub.store.add_commit(MODEL)
    (again,) = world.fetch()
    assert again["revision"] == first["revision"] != moved
    (named,) = world.fetch((MODEL, moved))
    assert named["revision"] == moved
    # What the two commits have in common is not fetched twice.
    assert world.hub.counts.bytes[f"{MODEL} config.json"] == (world.snapshot_of(moved) / "config.json").stat().st_size


def snapshot_of(self: World, commit: str) -> Path:
    return self.cache / "hub" / program.folder_name(MODEL) / "snapshots" / commit


World.snapshot_of = snapshot_of


def test_a_file_that_is_lost_is_fetched_at_the_recorded_commit(world):
    (first,) = world.fetch()
    world.hub.store.add_commit(MODEL)
    (world.snapshot() / WEIGHTS).resolve().unlink()
    (again,) = world.fetch()
    assert again["revision"] == first["revision"] and world.sent() == 2 * (world.snapshot() / WEIGHTS).stat().st_size


def test_a_cut_off_download_is_continued_where_it_stopped(world):
    world.hub.faults.put([Fault("drop", WEIGHTS_PATTERN, after=program.PIECE, times=2)])
    (result,) = world.fetch()
    assert world.sent() == (world.snapshot() / WEIGHTS).stat().st_size  # not a byte twice
    assert world.hub.counts.tokens_led_astray == 0 and result["files"] == 7


WEIGHTS_PATTERN = f"*{WEIGHTS}"


def test_what_an_earlier_run_left_is_continued_and_finished_files_are_not_fetched_again(world):
    part = "*model-00002*"
    world.hub.faults.put([Fault("drop", part, after=program.PIECE, times=1), Fault("drop", part)])
    failed = world.fails((SHARDED, None))
    assert failed.code in ("cut-off", "hub-dead")
    world.hub.faults.put([])
    world.running.stop()
    world.open()  # the hub was away too
    (result,) = world.fetch((SHARDED, None))
    for file in TWO:
        size = (world.snapshot(SHARDED) / file).stat().st_size
        assert world.sent(file, SHARDED) == size, file
    assert result["bytes_before"] > SIZE and result["bytes_fetched"] < SIZE


def test_a_model_in_the_cache_is_taken_as_it_is_without_a_question(world):
    world.fetch()
    shutil.rmtree(world.folder / "state")
    world.running.stop()
    (found,) = world.fetch()
    assert found["bytes_fetched"] == 0 and found["revision"] == world.snapshot().name
    assert world.record().endswith("complete\n")
    world.open()


def test_a_listing_of_files_that_nobody_reads_does_not_stop_an_offline_start(world):
    """huggingface_hub 2 keeps one, and offline refuses a snapshot that lacks a file of it."""
    world.fetch()
    shutil.rmtree(world.folder / "state")
    listing = world.cache / "hub" / program.folder_name(MODEL) / "trees" / f"{world.snapshot().name}.json"
    listing.parent.mkdir()
    listing.write_text(json.dumps({"format_version": 1, "files": {"README.md": {}}}))
    world.fetch()
    assert not listing.exists()


def test_a_damaged_file_in_the_cache_is_found_and_fetched_again(world):
    world.fetch()
    shutil.rmtree(world.folder / "state")
    blob = (world.snapshot() / WEIGHTS).resolve()
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    world.fetch()
    assert hashlib.sha256((world.snapshot() / WEIGHTS).read_bytes()).hexdigest() == blob.name


def test_a_wrong_checksum_is_tried_once_more_then_said_and_the_rest_stays(world):
    world.hub.faults.put([Fault("corrupt", WEIGHTS_PATTERN, times=1)])
    world.fetch()
    size = (world.snapshot() / WEIGHTS).stat().st_size
    assert world.sent() == 2 * size
    world.hub.faults.put([Fault("corrupt", "*model-00001*")])
    failed = world.fails((SHARDED, None))
    assert (failed.code, failed.words["file"]) == ("checksum", "model-00001-of-00002.safetensors")
    world.hub.faults.put([])
    world.fetch((SHARDED, None))
    assert world.sent("model-00002-of-00002.safetensors", SHARDED) == size


def test_a_hub_that_lies_about_a_checksum_is_not_believed(world):
    world.hub.faults.put([Fault("lie", WEIGHTS)])
    assert world.fails().code == "checksum"
    assert not list((world.cache / "hub").rglob(WEIGHTS))


@pytest.mark.parametrize(
    ("faults", "code"),
    [
        ([Fault("status", "api", status=503)], "hub-down"),
        ([Fault("status", WEIGHTS, status=500)], "hub-down"),
        ([Fault("status", "api", status=429)], "hub-busy"),
        ([Fault("status", WEIGHTS, status=429)], "hub-busy"),
        ([Fault("status", "api", status=418)], "refused"),
        ([Fault("status", WEIGHTS, status=404)], "refused"),
        ([Fault("stall", WEIGHTS_PATTERN, after=1000, seconds=20)], "hub-dead"),
        ([Fault("drop", WEIGHTS_PATTERN, after=0)], "cut-off"),
        ([Fault("expired", WEIGHTS)], "cut-off"),
        ([Fault("page", "api")], "not-a-hub"),
        ([Fault("page", WEIGHTS)], "not-a-hub"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value[0].kind}-{value[0].status}-{value[0].file}",
)
def test_each_fault_of_the_hub_is_told_from_the_others(world, faults, code, monkeypatch):
    world.hub.faults.put(faults)
    with monkeypatch.context() as patched:
        if faults[0].kind == "stall":
            patched.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
        found = world.fails()
    assert found.code == code, (found.code, found.words, found.__cause__)
    told(found, world)
    # And once it is gone, the same command goes through.
    world.hub.faults.put([])
    assert world.fetch()[0]["files"] == 7


def test_an_address_that_has_expired_is_asked_for_anew(world):
    world.hub.faults.put([Fault("expired", WEIGHTS, times=1)])
    assert world.fetch()[0]["files"] == 7
    assert world.hub.counts.requests[f"{MODEL} {WEIGHTS}"] == 2


def test_a_hub_that_stalls_is_not_waited_for_over_and_over(world, monkeypatch):
    """The client tries six times itself, and that is enough."""
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    world.hub.faults.put([Fault("stall", WEIGHTS_PATTERN, after=1000, seconds=20)])
    assert world.fails(timeout=0.5).code == "hub-dead"
    assert world.hub.counts.requests[f"{MODEL} {WEIGHTS}"] == 1
    assert world.sent() == 6 * 1000


@pytest.mark.parametrize("status", [429, 503])
def test_a_hub_that_is_busy_for_a_moment_is_waited_for(world, status):
    world.hub.faults.put([Fault("status", WEIGHTS, status=status, times=2), Fault("status", "api", times=2)])
    assert world.fetch()[0]["bytes_fetched"] > SIZE


def told(found: FetchError, world: World) -> str:
    text = errors.text(found.code, found.words, world.running.url)
    assert errors.NOT_KNOWN not in text and "{" not in text and "\n" not in text, text
    assert text.startswith("svc: weights of ") and "; expected " in text and "What to do: " in text
    return text


@pytest.fixture
def gated(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", TIMEOUT)
    monkeypatch.setattr(program.time, "sleep", lambda seconds: None)
    found = World(tmp_path / "world", frozenset({MODEL}))
    yield found
    found.running.stop()


def test_a_gated_model_names_the_page_of_its_licence(gated):
    missing = gated.fails()
    assert missing.code == "token-missing" and f"https://huggingface.co/{MODEL}" in told(missing, gated)
    refused = gated.fails(token="hf_labNotAccepted")
    assert refused.code == "gated" and f"https://huggingface.co/{MODEL}" in told(refused, gated)
    kind = gated.fails(token="hf_labFineGrained")
    assert kind.code == "token-kind" and "fine-grained" in told(kind, gated)
    assert gated.fetch(token="hf_labAccepted")[0]["files"] == 7
    assert gated.hub.counts.tokens_led_astray == 0  # the second address never sees it


def test_a_wrong_token_is_told_from_a_model_that_is_not_there(world):
    wrong = world.fails(token="hf_wrong")
    assert wrong.code == "token-wrong" and "hf_wrong" not in told(wrong, world)
    nobody = world.fails(("google/gemma-9", None))
    assert nobody.code == "model-unknown-no-token" and "google/gemma-9" in told(nobody, world)
    assert world.fails(("google/gemma-9", None), token="hf_labAccepted").code == "model-unknown"
    told(world.fails(("google/gemma-9", None), token="hf_labAccepted"), world)


@pytest.mark.parametrize("revision", ["f" * 40, "v9"])
def test_a_revision_that_is_gone(world, revision):
    found = world.fails((MODEL, revision))
    assert found.code == "revision" and revision in told(found, world)


def test_a_model_without_weights(world):
    found = world.fails(("x/empty", None))
    assert found.code == "no-weights" and "*.safetensors" in told(found, world)


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(world):
    found = world.fails(reserve=1 << 60)
    assert found.code == "disk" and "still to come" in told(found, world)
    assert world.sent() == 0


def test_a_disk_that_fills_up(world, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    found = world.fails()
    assert found.code == "disk-full" and "continues where it stopped" in told(found, world)


def test_a_cache_that_cannot_be_written(world):
    world.cache.write_text("a file where the cache should be")
    found = world.fails()
    assert found.code == "cache"
    told(found, world)


def test_a_file_that_is_listed_and_not_there(world):
    repository = world.hub.store.find(MODEL)
    files = repository.commits[repository.head]
    listed = dict(files)

    class Listed(dict):
        def items(self):
            return listed.items()

    repository.commits[repository.head] = Listed({name: file for name, file in files.items() if name != WEIGHTS})
    found = world.fails()
    assert found.code == "file-gone", found.words
    told(found, world)


def test_a_file_of_another_size_than_the_hub_lists(world, monkeypatch):
    from ojai.lab.hub import server

    def wrong(files):
        return [{**one, "size": one["size"] + (one["rfilename"] == WEIGHTS)} for one in siblings(files)]

    siblings = server.siblings
    monkeypatch.setattr(server, "siblings", wrong)
    found = world.fails()
    assert found.code == "size" and WEIGHTS in told(found, world)
    assert not (world.snapshot() / WEIGHTS).exists()


def test_what_nobody_has_thought_of_is_said_in_one_line(world, monkeypatch):
    def odd(*_, **__):
        raise RuntimeError("something\nodd")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", odd)
    found = world.fails()
    assert found.code == "unknown" and "RuntimeError: something odd" in told(found, world)


def test_nobody_answers(world):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        found = world.fails(endpoint=f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert found.code == "hub-dead" and "continues where it stopped" in told(found, world)


def test_a_proxy_that_is_not_there_or_refuses(world, monkeypatch):
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(407)

        do_HEAD = do_GET

        def log_message(self, *words):
            pass

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    monkeypatch.setenv("no_proxy", "")
    for port in (proxy.server_address[1], 9):
        monkeypatch.setenv("http_proxy", f"http://user:s3cret@127.0.0.1:{port}")
        found = world.fails(endpoint="http://hub.invalid")
        assert found.code == "proxy", (found.code, found.words)
        assert "s3cret" not in told(found, world)
    proxy.shutdown()
    proxy.server_close()


def test_a_certificate_that_the_host_does_not_trust_and_then_does(world, tmp_path, monkeypatch):
    import ssl

    pem = tmp_path / "own.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", pem, "-out", tmp_path / "own.crt"),
            *("-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "own.crt", pem)
    world.running.site.socket = context.wrap_socket(world.running.site.socket, server_side=True)
    port = world.running.site.server_address[1]
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    found = world.fails(endpoint=f"https://localhost:{port}")
    assert found.code == "certificate" and "ca_certificates" in told(found, world)
    # Once the host trusts it, as update-ca-certificates has it.
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "")
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    monkeypatch.setattr(program, "AUTHORITIES", tmp_path / "own.crt")
    assert world.fetch(endpoint=f"https://localhost:{port}")[0]["files"] == 7


@pytest.mark.parametrize(
    ("line", "said"),
    [("HF_TOKEN= hf_x", "white space"), ('HF_TOKEN="hf_x"', "quotes"), ("HF_TOKEN=hf_x=y", "a character")],
)
def test_a_token_that_cannot_be_one_is_refused_without_being_shown(world, line, said):
    env_file = world.folder / "service.env"
    env_file.write_text(f"# secrets\n{line}\n")
    with pytest.raises(FetchError) as raised:
        program.read_request(argument(world), "{}")
    text = errors.text(raised.value.code, raised.value.words, "https://huggingface.co")
    assert raised.value.code == "token-form" and said in text and "hf_x" not in text


def test_the_token_is_the_given_one_else_the_services_own(world, monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    env_file = world.folder / "service.env"
    env_file.write_text("VLLM_API_KEY=other\nHF_TOKEN=hf_of_the_host\n")
    assert program.read_request(argument(world), '{"token": "hf_given"}').token == "hf_given"
    assert program.read_request(argument(world), '{"token": null}').token == "hf_of_the_host"
    env_file.unlink()
    assert program.read_request(argument(world), "").token is None


def argument(world: World) -> str:
    found = vars(world.request()).copy()
    del found["token"]
    return json.dumps({**found, "state": str(found["state"]), "status": str(found["status"])})


def test_every_text_is_tried_here():
    tried = Path(__file__).read_text()
    assert {code for code in errors.load() if f'"{code}"' not in tried} == set()


def test_progress_is_bytes_rate_and_time_left(tmp_path):
    progress = program.Progress(tmp_path / "status")
    assert progress.line() == "asking the hub"
    progress.begin("fetching m", 4_000_000_000, lambda: 1_000_000_000)
    began, _ = progress._began
    progress._began = began - 10, 900_000_000
    assert progress.line().startswith("fetching m: 1.0 GB of 4.0 GB, ") and progress.line().endswith(" left")
    progress._began = began - 10, 1_000_000_000
    assert progress.line().endswith("0 bytes/s, nothing comes")


# --- The file that is carried to a host --------------------------------------------------------------------------


def test_the_packed_program_fetches_with_nothing_but_python(world, tmp_path):
    """In a process of its own, isolated from everything that is installed here."""
    client = tmp_path / "client.pyz"
    client.write_bytes(pack.packed())
    secret = "hf_labAccepted"
    done = subprocess.run(
        [sys.executable, "-I", "-S", client, argument(world)],
        input=json.dumps({"token": secret}), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout.removeprefix(program.RESULT))
    assert result["bytes_fetched"] == result["bytes"] > SIZE and secret not in done.stdout + done.stderr
    failed = subprocess.run(
        [sys.executable, "-I", "-S", client, argument(world).replace(MODEL, "x/none")],
        input=json.dumps({"token": secret}), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert failed.returncode == 1 and "Traceback" not in failed.stderr
    assert json.loads(failed.stdout.removeprefix(program.FAILURE))["code"] == "model-unknown"


def test_the_pack_is_the_same_each_time_and_has_nothing_compiled(monkeypatch):
    import zipfile
    from io import BytesIO

    first = pack.packed()
    pack.packed.cache_clear()
    assert pack.packed() == first
    names = zipfile.ZipFile(BytesIO(first)).namelist()
    assert not [name for name in names if name.endswith((".so", ".pyc"))]
    assert {"huggingface_hub/file_download.py", "certifi/cacert.pem", "yaml/__init__.py"} <= set(names)
    assert not [name for name in names if name.startswith("hf_xet")]


def test_another_client_than_the_pinned_one_is_refused(monkeypatch):
    pack.packed.cache_clear()
    monkeypatch.setattr(pack, "digest", lambda files: "0" * 64)
    with pytest.raises(pack.PackError, match=r"found huggingface-hub 0\.36\.2 with other content; expected 0\.36\.2"):
        pack.packed()


def test_files_that_are_wanted_by_their_names(tmp_path):
    """Of a repository of GGUF files, the one that is served and its projector; neither may be missing."""
    world, name, commit = World(tmp_path), "unsloth/gemma-4-E4B-it-GGUF", "a" * 40
    place = tmp_path / "models" / "given" / name / commit
    place.mkdir(parents=True)
    for file in ("a-Q4_K_M.gguf", "a-Q8_0.gguf", "mmproj-F16.gguf"):
        (place / file).write_bytes(file.encode() * 999)
    world.files = {"allow": ["mmproj-F16.gguf"], "weights": ["a-Q4_K_M.gguf"], "ignore": []}
    (found,) = world.fetch((name, commit))
    assert (found["files"], found["revision"]) == (2, commit)
    assert {line.split("\t")[-1] for line in world.record(name, commit).splitlines()} >= {
        "a-Q4_K_M.gguf",
        "mmproj-F16.gguf",
    }
    assert world.fetch((name, commit))[0]["bytes_fetched"] == 0
    lacking = World(tmp_path / "other")
    lacking.files = {**world.files, "allow": ["mmproj-BF16.gguf"]}
    shutil.copytree(tmp_path / "models" / "given", tmp_path / "other" / "models" / "given")
    assert lacking.fails((name, commit)).words["forms"] == "mmproj-BF16.gguf"
