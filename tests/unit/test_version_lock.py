"""The lock: its form and its faults, what it makes of a service, how it is made from what hosts answer, and moved."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from ojai.settings import lock as locks
from ojai.settings import parse
from ojai.settings.lock import Lock, LockError
from ojai.versions import newer
from ojai.weights import program, upstream

ROOT = Path(__file__).resolve().parents[2]
IMAGE, MODEL = "vllm/vllm-openai-rocm:v0.20.1", "google/gemma-4-E4B-it"
#: What the question for an image begins with, and nothing else does.
INSPECT = "docker image inspect --format '{{json .}}'"
OLD, NEW = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
COMMIT, MOVED = "1" * 40, "2" * 40
FILES = {"config.json": [1234, "3" * 40], "model.safetensors": [15_000_000_000, "4" * 64], "README.md": [9, "5" * 40]}
RECORD = [
    "ojai-weights\t1", f"model\t{MODEL}", "asked\tmain", f"commit\t{COMMIT}",
    *(f"file\t{size}\t{digest}\t{path}" for path, (size, digest) in FILES.items() if path != "README.md"), "complete",
]  # fmt: skip

INVENTORY = """
from ojai.fake import fake_host

def host(name, answers, **data):
    known, found = fake_host(name, data)
    return known, {{**found, "fake_responses": {{**answers, **found["fake_responses"]}}}}

hosts = [{hosts}]
"""


def whole(**changes) -> Lock:
    return Lock.model_validate(
        {
            "ojai": "0.9.0",
            "images": {IMAGE: {"digest": OLD, "engine": "vllm 0.20.1", "contract": "0" * 64}},
            "models": {f"{MODEL}@main": {"commit": COMMIT, "files": {"config.json": {"size": 1, "hash": "3" * 40}}}},
            "packages": {"docker": {"taken": "20261101T000000Z", "versions": {"docker.io": "26.1.5-1"}}},
            "profiles": {"gemma-4-e4b": locks.profile_hash("gemma-4-e4b")},
            **changes,
        }
    )


VERSIONS = [
    "1.0", "1.0-0", "1.0-1", "1.0~rc1", "1.0~", "1.0~~", "1.0a", "1.0+b", "1.0.", "1:0.1", "0:1.0", "0",
    "5:29.1.3-1~ubuntu.24.04~noble", "26.1.5+dfsg1-9+b9", "26.1.5+dfsg1-9", "1.10", "1.9", "1.09", "1.0-1ubuntu2",
    "1.0-1ubuntu10", "6.17.0-1018.18", "6.17.0.1018.18", "1.0.0.70200-43~24.04",
]  # fmt: skip


@pytest.mark.skipif(not shutil.which("dpkg"), reason="dpkg is the judge")
def test_versions_are_in_the_order_that_dpkg_has_them_in():
    pairs = list(itertools.product(VERSIONS, repeat=2))
    ask = "\n".join(f"dpkg --compare-versions '{one}' gt '{two}' && echo yes || echo no" for one, two in pairs)
    answers = subprocess.run(["sh", "-c", ask], capture_output=True, text=True, check=True).stdout.split()
    assert [pair for pair, said in zip(pairs, answers, strict=True) if newer(*pair) != (said == "yes")] == []


def test_a_lock_is_read_as_it_was_written_and_sorted(tmp_path):
    file = tmp_path / "fleet.lock"
    file.write_text(whole().text())
    assert locks.read(file) == whole()
    lines = file.read_text().splitlines()
    keys = [line.split(":")[0] for line in lines if line and line[0].isalpha()]
    assert keys == sorted(keys) and all(len(line.split(": ")) <= 2 for line in lines[1:])
    assert locks.read(tmp_path / "none.lock") is None


TEXT = whole().text()
BROKEN = {
    "a conflict of git's": (f"<<<<<<< ours\n{TEXT}", "not YAML"),
    "another program's": ('{"lockfileVersion": 3}', "found no `format:`"),
    "a list": ("- 1\n", "found no `format:`"),
    "empty": ("", "found no `format:`"),
    "a newer format": (TEXT.replace("format: 1", "format: 2"), "found format 2, of ojai 0.9.0; expected 1"),
    "a digest cut short": (TEXT.replace(OLD, OLD[:-1]), f"images.{IMAGE}.digest: found '{OLD[:-1]}'"),
    "a branch for a commit": (TEXT.replace(COMMIT, "main"), f"models.{MODEL}@main.commit: found 'main'"),
    "a line deleted": (TEXT.replace("    taken: 20261101T000000Z\n", ""), "packages.docker.taken: found nothing"),
    "a key misspelt": (TEXT.replace("images:", "image:"), "image: found"),
    "a number for a version": (TEXT.replace("26.1.5-1", "26"), "packages.docker.versions.docker.io: found 26"),
    "no text": (b"\xff\xfe", "cannot be read"),
}


@pytest.mark.parametrize(("text", "said"), BROKEN.values(), ids=BROKEN)
def test_a_broken_lock_is_one_line_with_place_and_remedy(tmp_path, text, said):
    file = tmp_path / "fleet.lock"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(LockError) as raised:
        locks.read(file)
    found = str(raised.value)
    assert found.startswith(str(file)) and said in found and "expected" in found and "\n" not in found, found


def test_a_service_gets_digest_and_commit_and_what_is_missing_is_named():
    (service,) = parse("mini", {}).locked(whole()).resolved
    assert service.image == f"{IMAGE}@{OLD}"
    assert [(one.model, one.revision) for one in service.wanted] == [(MODEL, COMMIT)]
    with pytest.raises(LockError, match=r"found no google/gemma-4-26B-A4B-it@main, no profile gemma-4-26b-a4b in it"):
        parse("mini", {"services": [{"profile": "gemma-4-26b-a4b"}]}).locked(whole())
    with pytest.raises(LockError, match=r"found a profile gemma-4-e4b that says something else.*ojai 0.9.0"):
        parse("mini", {}).locked(whole(profiles={"gemma-4-e4b": "0" * 64}))


def test_an_assistant_is_locked_too_and_a_digest_of_the_inventory_wins():
    image = "vllm/vllm-openai-rocm:v0.30.0"
    data = {"services": [{"speculative": True, "image": image, "image_digest": NEW}]}
    settings = parse("mini", data)
    (service,) = settings.resolved
    models = {one: {"commit": MOVED, "files": {"x": {"size": 1, "hash": "3" * 40}}} for one in locks.models_of(service)}
    assert len(models) == 2
    (service,) = settings.locked(whole(models=models)).resolved
    assert service.image == f"{image}@{NEW}" and {one.revision for one in service.wanted} == {MOVED}


def test_caches_that_were_adopted_leave_the_lock_in_force():
    settings = parse("mini", {}).locked(whole()).using({"huggingface": "/home/ada/hf"})
    assert settings.resolved[0].image.endswith(OLD) and settings.lock == whole()


# The command, and the deploy, on hosts made of air.


def answers(digest=OLD, record=RECORD, docker="26.1.5-1", candidate="26.1.5-1", upstream=None) -> dict[str, list[str]]:
    return {
        INSPECT: [json.dumps({"Id": "sha256:1", "RepoDigests": [f"vllm/vllm-openai-rocm@{digest}"]})],
        "models--*@*": [f"models--google--gemma-4-E4B-it@main\t{line}" for line in record],
        "for family; do": [
            *([f"installed\tdocker.io\t{docker}\t, containerd", "installed\tcontainerd\t1.7-1\t"] if docker else []),
            f"candidate\tdocker\tdocker.io\t{candidate}", "candidate\tdocker\tlibc6\t2.41",
            "candidate\tdocker\trunc\t1.1",
        ],
        "What registries and the hub have": [json.dumps(upstream or {})],
    }  # fmt: skip


UPSTREAM = {"images": {IMAGE: {"digest": NEW}}, "models": {f"{MODEL}@main": {"commit": MOVED, "files": FILES}}}


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path


def write(folder: Path, *hosts: tuple[str, dict]) -> Path:
    inventory = folder / "hosts.py"
    inventory.write_text(INVENTORY.format(hosts=", ".join(f"host({name!r}, {given!r})" for name, given in hosts)))
    return inventory


def ojai(command: str, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ojai", command, *map(str, words)],
        cwd=ROOT, env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200"}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def read(folder: Path) -> Lock:
    found = locks.read(folder / "hosts.lock")
    assert found
    return found


def test_what_a_host_has_is_locked_and_locked_again_nothing_changes(folder):
    inventory = write(folder, ("one", answers()))
    done = ojai("lock", inventory)
    assert done.returncode == 0, done.stderr
    found = read(folder)
    assert found.images[IMAGE].digest == OLD and found.images[IMAGE].engine == "vllm 0.20.1"
    assert found.models[f"{MODEL}@main"].commit == COMMIT
    assert sorted(found.models[f"{MODEL}@main"].files) == ["config.json", "model.safetensors"]
    assert found.packages["docker"].versions == {"docker.io": "26.1.5-1", "containerd": "1.7-1"}
    assert "rocm 7.2: no host knows its packages yet" in done.stderr
    text = (folder / "hosts.lock").read_text()
    done = ojai("lock", inventory)
    assert done.returncode == 0 and "nothing to change" in done.stdout and (folder / "hosts.lock").read_text() == text


def test_a_bare_host_gets_what_registry_hub_and_archive_have(folder):
    bare = {**answers(record=[], docker="", upstream=UPSTREAM), INSPECT: []}
    assert ojai("lock", write(folder, ("one", bare))).returncode == 0
    found = read(folder)
    assert found.images[IMAGE].digest == NEW and found.models[f"{MODEL}@main"].commit == MOVED
    assert "README.md" not in found.models[f"{MODEL}@main"].files
    # Of what docker.io needs, only what is Docker's.
    assert found.packages["docker"].versions == {"docker.io": "26.1.5-1", "runc": "1.1"}


def test_upgrade_moves_what_is_named_and_prints_old_and_new(folder):
    inventory = write(folder, ("one", answers(candidate="28.5.2-1")))
    assert ojai("lock", inventory).returncode == 0
    write(folder, ("one", answers(candidate="28.5.2-1", upstream=UPSTREAM)))
    done = ojai("lock", "--upgrade", inventory, "docker.io")
    assert done.returncode == 0, done.stderr
    assert "26.1.5-1" in done.stdout and "28.5.2-1" in done.stdout and IMAGE not in done.stdout
    assert (
        read(folder).packages["docker"].versions["docker.io"] == "28.5.2-1" and read(folder).images[IMAGE].digest == OLD
    )
    done = ojai("lock", "--upgrade", inventory)
    assert done.returncode == 0 and f"{OLD[:19]}" in done.stdout and f"{NEW[:19]}" in done.stdout
    assert read(folder).models[f"{MODEL}@main"].commit == MOVED
    done = ojai("lock", "--upgrade", inventory, "nonsense")
    assert done.returncode == 2 and "found nothing of that name" in done.stderr and "docker" in done.stderr


def test_the_newest_package_of_all_hosts_is_locked_and_who_has_another_image_is_told(folder):
    inventory = write(folder, ("one", answers()), ("two", answers(digest=NEW, docker="26.1.10-1")))
    done = ojai("lock", inventory)
    assert done.returncode == 0, done.stderr
    found = read(folder)
    assert found.images[IMAGE].digest == OLD and found.packages["docker"].versions["docker.io"] == "26.1.10-1"
    assert f"@fake/two: has another {IMAGE}" in done.stderr


def test_what_cannot_be_found_out_leaves_the_lock_as_it_is(folder):
    down = {"images": {IMAGE: {"error": "registry.test: status 503"}}, "models": {}}
    inventory = write(folder, ("one", {**answers(upstream=down), INSPECT: []}))
    done = ojai("lock", inventory)
    assert done.returncode == 1 and "registry.test: status 503" in done.stderr and "not written" in done.stderr
    assert not (folder / "hosts.lock").exists() and "Traceback" not in done.stderr


ROCM = "1.0.0.70200-43~24.04"
ROCM_THERE = [
    f"installed\t{name}\t{version}\t, {needs}"
    for name, version, needs in (
        ("rocminfo", ROCM, "rocm-core"), ("rocm-core", "7.2.0.70200-43~24.04", ""),
        ("amd-smi-lib", "26.2.1.70200-43~24.04", "rocm-core"),
    )
]  # fmt: skip
#: A host that nobody answers for.
OFF = '("mini-07", {"ssh_hostname": "127.0.0.1", "ssh_port": 9, "data_owner": "root"})'


def saying(found: dict[str, list[str]], *lines: str) -> dict[str, list[str]]:
    """The answers of a host that has more to say of packages."""
    return {**found, "for family; do": [*found["for family; do"], *lines]}


def test_a_host_that_is_not_reached_is_named_and_leaves_its_entries(folder):
    inventory = write(folder, ("one", answers()), ("two", saying(answers(), *ROCM_THERE)))
    assert ojai("lock", inventory).returncode == 0
    rocm = read(folder).packages["rocm 7.2"]
    assert rocm.versions["rocminfo"] == ROCM
    # The one that knew of ROCm is off; the other has moved on with all else.
    moved = saying(answers(candidate="28.5.2-1", upstream=UPSTREAM), "candidate\tdocker\tcontainerd\t1.8-1")
    write(folder, ("one", moved))
    inventory.write_text(inventory.read_text().replace("hosts = [", f"hosts = [{OFF}, "))
    done = ojai("lock", "--upgrade", inventory)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "mini-07: found no answer (" in done.stderr and "stays as it was locked" in done.stderr
    assert "rocm 7.2: stays as it was locked: mini-07, @fake/one could not say what it has" in done.stderr
    assert "hosts.lock: written" in done.stdout and "rocminfo" not in done.stdout
    found = read(folder)
    assert found.packages["rocm 7.2"] == rocm
    assert found.images[IMAGE].digest == NEW and found.packages["docker"].versions["docker.io"] == "28.5.2-1"


def test_a_family_moves_as_a_whole_or_not_at_all(folder):
    inventory = write(folder, ("one", answers()), ("two", answers()))
    text = whole().text().replace("docker.io: 26.1.5-1", "docker-compose-plugin: 2.1-1\n      docker.io: 26.1.5-1")
    (folder / "hosts.lock").write_text(text)
    write(folder, ("one", answers(candidate="28.5.2-1", upstream=UPSTREAM)))
    inventory.write_text(inventory.read_text().replace("hosts = [", f"hosts = [{OFF}, "))
    done = ojai("lock", "--upgrade", inventory, "docker")
    assert "docker: stays as it was locked: mini-07 could not" in done.stderr, done.stderr
    assert read(folder).packages["docker"].versions["docker.io"] == "26.1.5-1"
    # With every host there, what no host has any more is no part of it.
    write(folder, ("one", answers(candidate="28.5.2-1", upstream=UPSTREAM)))
    assert ojai("lock", "--upgrade", inventory, "docker").returncode == 0
    assert read(folder).packages["docker"].versions == {"docker.io": "28.5.2-1", "runc": "1.1"}


def test_a_lock_of_which_no_host_says_anything_is_not_written(folder):
    inventory = write(folder)
    inventory.write_text(inventory.read_text().replace("hosts = [", f"hosts = [{OFF}"))
    done = ojai("lock", inventory)
    assert done.returncode == 1 and "mini-07: " in done.stderr and "hosts.lock was not written" in done.stderr, done
    (folder / "hosts.lock").write_text(TEXT)
    done = ojai("lock", "--upgrade", inventory)
    assert done.returncode == 1 and "hosts.lock was not changed" in done.stderr
    assert (folder / "hosts.lock").read_text() == TEXT


def test_lists_of_last_week_are_said(folder):
    inventory = write(folder, ("one", saying(answers(), "age\t700000")))
    done = ojai("lock", inventory)
    assert done.returncode == 0 and "apt-get update" not in done.stderr
    done = ojai("lock", "--upgrade", inventory, "docker")
    assert done.returncode == 0 and "one: apt there read what the archives have 8 days ago" in done.stderr, done.stderr


def test_a_snapshot_is_of_when_the_archive_had_it(folder):
    """A host that was installed in spring has what the archive of today has no more."""

    def taken(candidate: str) -> str:
        found = answers(candidate=candidate)
        lines = [
            f"installed\tdocker.io\t26.1.5-1\t, runc\t{1_780_000_000}", f"installed\trunc\t1.1\t\t{1_770_000_000}"
        ]  # fmt: skip
        (folder / "hosts.lock").unlink(missing_ok=True)
        assert ojai("lock", write(folder, ("one", {**found, "for family; do": [
            *lines, *found["for family; do"][2:]]}))).returncode == 0  # fmt: skip
        return read(folder).packages["docker"].taken

    assert taken("28.5.2-1") == "20260528T202640Z"
    assert abs(datetime.strptime(taken("26.1.5-1"), "%Y%m%dT%H%M%S%z") - datetime.now(UTC)) < timedelta(minutes=5)


def test_an_inventory_s_data_have_its_lock(folder):
    """NAME.yaml is read by NAME.py, and stands for it."""
    for name in ("fleet.py", "fleet.yaml"):
        (folder / name).write_text("")
        assert locks.place(str(folder / name)) == folder / "fleet.lock"
    done = ojai("lock", folder / "fleet.yaml")
    assert done.returncode == 2 and "fleet.py: found no host." in done.stderr
    assert not (folder / "fleet.lock").exists()


def test_a_broken_lock_stops_every_command_and_connects_to_no_host(folder):
    inventory = write(folder, ("one", answers()))
    (folder / "hosts.lock").write_text(f"<<<<<<< ours\n{TEXT}")
    for command in ("plan", "lock"):
        done = ojai(command, inventory)
        assert done.returncode in (1, 2) and re.search(r"hosts\.lock:\d+: found what is not", done.stderr), done
        assert "Traceback" not in done.stderr
    deploy = subprocess.run(
        [sys.executable, "-m", "pyinfra", "--dry", str(inventory), "deploy.py"],
        cwd=ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert deploy.returncode == 1 and re.search(r"hosts\.lock:\d+: found what is not YAML", deploy.stderr)
    assert "no host was connected to" in deploy.stderr and "Traceback" not in deploy.stderr


def test_a_deploy_with_a_lock_pins_and_names_the_digest_and_without_one_does_not(folder):
    inventory = write(folder, ("one", answers()))

    def dry() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pyinfra", "--dry", "--diff", str(inventory), "deploy.py"],
            cwd=ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    before = dry()
    assert before.returncode == 0 and "Pin the locked" not in before.stderr and "@sha256" not in before.stderr
    assert ojai("lock", inventory).returncode == 0
    done = dry()
    assert done.returncode == 0, done.stderr
    assert "Pin the locked package versions" in done.stderr and "+Pin: version 26.1.5-1" in done.stderr
    assert "+ExecStart=/usr/bin/docker" in done.stderr and f"{IMAGE}@{OLD}" in done.stderr
    assert "lock: it has no linux-oem-6.17" in done.stderr
    plan = ojai("plan", inventory)
    assert f"{IMAGE}@{OLD}" in plan.stdout


# What the host asks.


class Registry(BaseHTTPRequestHandler):
    """Gives a digest to who brings the token that it hands out, as Docker Hub does."""

    def do_GET(self) -> None:
        self.answer(200, json.dumps({"token": "given"}).encode())

    def do_HEAD(self) -> None:
        if self.headers.get("Authorization") != "Bearer given":
            self.send_response(401)
            where = f"http://127.0.0.1:{self.server.server_port}/token"
            self.send_header("WWW-Authenticate", f'Bearer realm="{where}",service="s",scope="repository:x/y:pull"')
            self.end_headers()
        elif self.path == "/v2/x/y/manifests/v1" and "image.index" in self.headers["Accept"]:
            self.send_response(200)
            self.send_header("Docker-Content-Digest", OLD)
            self.end_headers()
        else:
            self.send_response(404)
            self.end_headers()

    def answer(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_registry_is_asked_with_the_token_that_it_gives(registry):
    here = registry.removeprefix("http://")
    asked = {"sizes": False, "mirrors": []}
    assert upstream.image(f"{here}/x/y:v1", asked, {}) == {"digest": OLD}
    assert upstream.image(f"{here}/x/y:v2", asked, {}) == {"error": "127.0.0.1: status 404"}
    dead = upstream.image("127.0.0.1:9/x/y:v1", asked, {})
    assert "127.0.0.1: ConnectionRefusedError" in dead["error"]


def test_docker_hub_is_asked_by_its_mirrors_first():
    def places(reference: str, *mirrors: str) -> list[str]:
        return [server for server, _ in upstream.servers(upstream.Image.of(reference), {}, mirrors)]

    assert places("x/y:v1", "http://m/") == ["http://m", upstream.HUB_SERVER]
    assert places("docker.io/x/y:v1") == places("index.docker.io/x/y:v1") == [upstream.HUB_SERVER]
    assert places("r.test:5000/x:v1", "http://m") == ["https://r.test:5000"]


def test_a_commit_that_was_fetched_as_a_branch_is_neither_asked_for_nor_read_again(tmp_path):
    """A host that served `main` gets a lock with the commit that it was."""
    state, hub = tmp_path / "state", tmp_path / "cache" / "hub"
    place = hub / "models--x--y" / "snapshots" / COMMIT
    place.mkdir(parents=True)
    (place / "config.json").write_text("{}")
    before = program.Record(state, "x/y", None)
    before.begin(COMMIT)
    before.add(program.File("config.json", 2, "3" * 40))
    before.complete()
    asked = SimpleNamespace(state=state)  # whatever else it would ask of the request, and so of the hub, is an error
    model = program.Model(
        asked, program.Progress(tmp_path / "status"), tmp_path / "cache", "x/y", COMMIT, program.Files([], [], [])
    )
    model.ensure()
    assert model.there == 2 and model.fetched == 0
    assert program.Record(state, "x/y", COMMIT).file.exists() and program.Record(state, "x/y", COMMIT).whole
    assert not program.Record(state, "x/y", MOVED).whole and program.Record(state, "x/y", None).commit == COMMIT


def test_what_is_about_to_be_fetched_is_noted_once_and_not_what_was_there(tmp_path):
    asked = SimpleNamespace(state=tmp_path / "state")
    model = program.Model(
        asked, program.Progress(tmp_path / "status"), tmp_path / "cache", "x/y", None, program.Files([], [], [])
    )
    for _ in range(2):
        model._note("snapshots", COMMIT)
        model._note("refs", "main")
    folder = tmp_path / "cache" / "hub" / "models--x--y"
    noted = (tmp_path / "state" / program.OURS).read_text()
    assert noted == f"{folder}\tsnapshots\t{COMMIT}\n{folder}\trefs\tmain\n"
