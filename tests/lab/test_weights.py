"""Models as a step of the deploy, on a container of the lab: fetched, cut off, continued, served without a hub."""

from __future__ import annotations

import json
import os
import re
import urllib.request
from collections.abc import Iterator
from dataclasses import replace

import pytest

from ojai.lab import state
from tests.lab.contained import Serving, serving
from tests.lab.cutting import using
from tests.lab.machine import ROOT, Deploy
from tests.operation_names import NAMES

MODEL, FILE = "google/gemma-4-E4B-it", "model.safetensors"
#: Bytes of the weight file; a release is tested with 200,000,000 and more.
SIZE = int(os.environ.get("OJAI_TEST_WEIGHTS", "30000000"))
CUT = SIZE * 3 // 10 >> 20 << 20  # at the end of a piece, since what is read of one is lost
FETCH = NAMES["weights-fetch"]


@pytest.fixture(scope="module")
def host() -> Iterator[Serving]:
    """A container that nobody has deployed to; the hub's weight files are large enough to be cut off in."""
    found = serving(ROOT / ".lab-weights", "overlay2")
    found = replace(found, lab=replace(found.lab, env={**found.lab.env, "OJAI_LAB_HUB_SIZE": str(SIZE)}))
    found.renew()
    yield found
    found.stop()


def hub(host: Serving, path: str, asked: object = None) -> dict:
    """What the lab's hub says, or is told."""
    with using(host.lab):
        lab = state.view(state.read())
    assert lab
    data = None if asked is None else json.dumps(asked).encode()
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
        f"{lab.upstreams.hub_local}{path}", data
    ) as f:
        return json.load(f)


def sent(host: Serving, file: str = FILE) -> int:
    return hub(host, "/lab/counts")["bytes"].get(f"{MODEL} {file}", 0)


def fetch(host: Serving) -> tuple[int, list[dict], str]:
    done = host.lab.ojai("fetch", host.lab.inventory, "--json")
    return done.returncode, json.loads(done.stdout)["hosts"] if done.stdout else [], done.stderr


def ends_well(done: Deploy, changed: list[str] | None = None) -> None:
    assert done.status == 0 and "Traceback" not in done.output, done.output[-6000:]
    assert changed is None or done.changed == changed


def argv(host: Serving) -> list[str]:
    return json.loads(host.guest.root("docker container inspect --format '{{json .Config.Cmd}}' vllm-gemma4"))


def healthy(host: Serving) -> bool:
    asked = "curl -sf -m 5 -o /dev/null http://127.0.0.1:8000/health"
    return host.guest.run(f"for i in $(seq 60); do {asked} && exit 0; sleep 1; done; exit 1").returncode == 0


@pytest.mark.whole
def test_fetched_before_the_deploy_cut_off_by_the_hub_and_continued(host):
    """By ``ojai fetch`` alone, on a host that has neither Docker nor a service yet."""
    hub(
        host,
        "/lab/faults",
        [{"kind": "drop", "file": f"*{FILE}", "after": CUT, "times": 1}, {"kind": "drop", "file": f"*{FILE}"}],
    )
    status, hosts, said = fetch(host)
    assert (status, hosts[0]["ok"], hosts[0]["models"]) == (1, False, []), said
    assert "cut off again and again" in said and "continues where it stopped" in said and "Traceback" not in said
    begun = sent(host)
    assert CUT <= begun < SIZE
    hub(host, "/lab/faults", [])
    status, hosts, said = fetch(host)
    (model,) = hosts[0]["models"]
    assert status == 0 and model["model"] == MODEL and re.fullmatch("[0-9a-f]{40}", model["revision"]), said
    assert model["bytes_before"] >= CUT and model["bytes_before"] + model["bytes_fetched"] == model["bytes"]
    assert sent(host) < SIZE + (2 << 20)  # the piece that was on its way, at most
    assert host.guest.run("test -e /usr/sbin/dockerd").returncode != 0


@pytest.mark.whole
def test_the_first_deploy_finds_all_of_it_and_the_second_changes_nothing(host):
    before = hub(host, "/lab/counts")
    done = host.deploy()
    ends_well(done)
    assert FETCH not in done.changed and hub(host, "/lab/counts") == before
    ends_well(host.deploy(), [])
    found = host.verify()
    assert found.ok, (found.error, found.failed)


@pytest.mark.whole
def test_it_starts_without_the_hub_at_the_commit_that_was_fetched(host):
    words = argv(host)
    commit = words[words.index("--revision") + 1]
    moved = hub(host, "/lab/commit", MODEL)["commit"]
    hub(host, "/lab/faults", [{"kind": "status", "file": "*", "status": 503}, {"kind": "status", "file": "api"}])
    before = hub(host, "/lab/counts")
    host.guest.root("systemctl restart vllm-gemma4")
    assert healthy(host) and argv(host) == words and commit != moved
    ends_well(host.deploy(), [])
    assert hub(host, "/lab/counts") == before
    assert "HF_HUB_OFFLINE=1" in host.guest.root("docker container inspect --format '{{json .Config.Env}}' vllm-gemma4")


@pytest.mark.whole
def test_what_cannot_be_fetched_leaves_what_serves_alone(host):
    """The hub still fails; another commit is asked for."""
    before = host.guest.root("docker container inspect --format '{{.Id}}' vllm-gemma4")
    service = {"profile": "gemma-4-e4b", "start_timeout": 120, "revision": "v2"}
    done = host.with_data(services=[service]).deploy()
    assert done.status == 1 and "status 503 from http://10.0.2.2" in done.output, done.output[-4000:]
    assert "still serves: nothing of it was touched" in done.output and "Traceback" not in done.output
    assert host.guest.root("docker container inspect --format '{{.Id}}' vllm-gemma4") == before
    hub(host, "/lab/faults", [])
    done = host.with_data(services=[service]).deploy()
    assert done.status == 1 and "no revision v2" in done.output, done.output[-4000:]
    ends_well(host.deploy(), [])


@pytest.mark.whole
def test_another_commit_is_fetched_then_served_and_rolled_back(host):
    words = argv(host)
    moved = hub(host, "/lab/commit", MODEL)["commit"]
    service = {"profile": "gemma-4-e4b", "start_timeout": 120, "revision": moved}
    done = host.with_data(services=[service]).deploy()
    ends_well(done)
    assert FETCH in done.changed and argv(host)[argv(host).index("--revision") + 1] == moved
    rolled = host.lab.ojai("rollback", host.lab.inventory, "--yes")
    assert rolled.returncode == 0, rolled.stderr
    assert argv(host) == words
    ends_well(host.deploy(), [])


@pytest.mark.whole
def test_removal_leaves_no_client_and_no_record(host):
    done = host.deploy("--data", "removed=true")
    ends_well(done)
    assert host.guest.run("test -e /var/lib/ojai").returncode != 0
    assert host.guest.run(f"test -e /srv/ojai/huggingface/hub/models--{MODEL.replace('/', '--')}").returncode == 0
