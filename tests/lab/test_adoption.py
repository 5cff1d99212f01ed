"""A host that somebody set up by hand after the guides: refused, adopted, verified, and given back as it was."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ojai.lab import state, upstreams
from tests.lab import manifest
from tests.lab.backends import Container
from tests.lab.cutting import must, using
from tests.lab.machine import ROOT, Deploy, Guest, Lab
from tests.operation_names import NAMES

LAB = Lab(ROOT / ".lab-adoption", "tests/lab/inventories/adopted.py", "tests/lab/adoption_deploy.py")
HERE = Path(__file__).parent
GUIDE = ROOT / "tests" / "unit" / "data" / "guide-e4b.sh"
REVISION = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = f"hub/models--google--gemma-4-E4B-it/snapshots/{REVISION}/model.safetensors"
HOME = "/home/ada/.cache/huggingface"

#: Of an inspection: what two runs of one command do not have in common.
RUN = {
    "Id",
    "Created",
    "State",
    "LogPath",
    "NetworkSettings",
    "ResolvConfPath",
    "HostnamePath",
    "HostsPath",
    "GraphDriver",
}


ASK = "curl -fsS --noproxy '*' -m 5 http://127.0.0.1:8000/v1/models"


def with_data(**data: object) -> Lab:
    return replace(LAB, env={"OJAI_ADOPTION": json.dumps(data)})


def deploy(**data: object) -> Deploy:
    return with_data(**data).deploy()


#: A container's kernel parameters are this machine's: read-only, and not to be touched. So one that says it was set.
SYSCTL = r"""
systemctl unmask systemd-sysctl.service
test -e /usr/sbin/sysctl.real || mv /usr/sbin/sysctl /usr/sbin/sysctl.real
cat > /usr/sbin/sysctl <<'end'
#!/bin/sh
case "$*" in *-load*|*-write*|*-p*) exit 0;; esac
/usr/sbin/sysctl.real "$@" | sed 's/^\(.*overcommit_memory = \)0$/\11/'
end
chmod 755 /usr/sbin/sysctl
"""


def prepare(guest: Guest, *words: str) -> None:
    """Run hand_made.sh there."""
    guest.root(SYSCTL)
    lab = state.view(state.read())
    argv = [lab.upstreams.rocm_url, lab.upstreams.registry_mirror, "/root/guide.sh", *words]
    for name, path in (("hand_made.sh", HERE / "hand_made.sh"), ("guide.sh", GUIDE)):
        guest.root(f"cat > /root/{name} <<'ojai-end'\n{path.read_text()}\nojai-end\n")
    guest.root(f"sh /root/hand_made.sh {shlex.join(argv)}")


def listing(guest: Guest) -> dict[str, str]:
    """All files but those in which docker and containerd have their containers."""
    found = manifest.take(guest)
    return {path: found[path] for path in found if not path.startswith(("/var/lib/docker/", "/var/lib/containerd/"))}


def inspection(guest: Guest, name: str = "vllm-gemma4") -> dict[str, object]:
    found = json.loads(guest.root(f"docker inspect {name}"))[0]
    found["Mounts"] = sorted(found["Mounts"], key=lambda mount: mount["Destination"])  # Docker has both in any order
    found["Config"]["Env"] = sorted(found["Config"]["Env"])
    found["HostConfig"]["Binds"] = sorted(found["HostConfig"]["Binds"] or ())
    return {key: value for key, value in found.items() if key not in RUN}


def serves(guest: Guest) -> bool:
    return "google/gemma-4-E4B-it" in guest.run(ASK).stdout


def comes_back(guest: Guest, was: dict[str, object]) -> None:
    """The container is as it ``was``, and its server answers once it has loaded."""
    assert inspection(guest) == was
    guest.root(f"for second in $(seq 60); do {ASK} && exit 0; sleep 1; done; exit 1")


def fetched() -> list[str]:
    """What the registry, which stands for Docker Hub, has given out."""
    log = LAB.folder / "logs" / "registry.log"
    return [line for line in log.read_text().splitlines() if re.search(r'"GET /v2/\S+/blobs/', line)]


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    """A host that was set up by hand and serves."""
    LAB.ojai("lab", "down", "--destroy")
    must(LAB.ojai("lab", "container", "lab"))
    found = Guest(LAB)
    with using(LAB):
        with state.locked():
            state.write(upstreams.push_images(state.read()))
        prepare(found)
    yield found
    found.root("docker kill $(docker ps -q) >/dev/null 2>&1; true")  # or the container waits for it as it halts
    must(LAB.ojai("lab", "down", "--destroy"))


@pytest.fixture(scope="module")
def before(guest: Guest) -> tuple[dict[str, str], dict[str, object]]:
    """Its files, and its container."""
    return listing(guest), inspection(guest)


def test_without_adopt_it_is_refused_with_all_that_is_there_and_nothing_is_changed(guest, before):
    running = guest.root("docker ps --no-trunc --format '{{.ID}} {{.Names}} {{.Status}}' | cut -d ' ' -f 1,2")
    done = deploy()
    assert (done.status, done.changed) == (1, []), done.output[-4000:]
    assert "Traceback" not in done.output
    for word in (
        "container vllm-gemma4",
        "/etc/apt/sources.list.d/rocm.list",
        "/etc/apt/sources.list.d/amdgpu.list",
        "/etc/sysctl.d/99-rocm-vllm.conf",
        f"{HOME}",
        "gemma4_gfx11500.csv",
        "adopt: true",
    ):
        assert word in done.output, done.output[-4000:]
    assert guest.root("docker ps --no-trunc --format '{{.ID}} {{.Names}}'") == running
    assert manifest.differences(before[0], listing(guest)) == []
    assert serves(guest)


def test_ojai_adopt_shows_the_plan_and_what_forbids_it(guest, before):
    done = LAB.ojai("adopt", LAB.inventory, "--yes")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    for word in ("What adoption does", "container vllm-gemma4", "sets it aside", "Blocked by: preflight: GPU: found"):
        assert word in done.stdout, done.stdout + done.stderr
    assert manifest.differences(before[0], listing(guest)) == []


def test_the_server_is_read_back_as_its_profile(guest):
    done = LAB.ojai("adopt", LAB.inventory, "--from-host", "--json")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    assert found["data"] == {"services": [{"profile": "gemma-4-e4b"}]}
    (server,) = found["servers"]
    assert server["directories"]["huggingface"] == HOME
    assert [change for change in server["changes"] if change["lost"]] == []


def test_a_successor_that_does_not_become_healthy_gives_the_server_back(guest, before):
    done = deploy(adopt=True, services=[{"profile": "gemma-4-e4b", "start_timeout": 1}])
    assert done.status == 1 and "not healthy within 1 s" in done.output, done.output[-6000:]
    assert "The server that was there before is started again, as it was: vllm-gemma4" in done.output
    assert {NAMES["adopt-record"], NAMES["adopt-drop-ins"], NAMES["adopt-sources"]} <= set(done.changed)
    assert NAMES["adopt-stop"] in done.changed
    comes_back(guest, before[1])
    assert guest.root("systemctl is-enabled vllm-gemma4.service || true") == "disabled"


def test_a_restart_of_docker_in_between_is_mended(guest, before):
    guest.root("systemctl restart docker.service")  # what was started in a terminal is gone
    assert guest.root("docker ps --quiet") == ""
    done = deploy(adopt=True)
    assert done.status == 0, done.output[-6000:]
    assert NAMES["adopt-resume"] in done.changed and serves(guest)


def test_adoption_serves_from_the_owners_weights_and_fetches_nothing(guest, before):
    was = fetched()
    done = deploy(adopt=True)
    assert done.status == 0, done.output[-6000:]
    assert serves(guest)
    assert guest.root("systemctl is-active vllm-gemma4.service") == "active"
    inside = guest.root(f"docker exec vllm-gemma4 stat -L -c %i /root/.cache/huggingface/{WEIGHTS}")
    assert inside == guest.root(f"stat -L -c %i {HOME}/{WEIGHTS}")
    assert fetched() == was
    assert "in place of a download" not in guest.root("docker logs vllm-gemma4 2>&1")
    assert guest.root("ls /srv/ojai/huggingface 2>/dev/null || true") == ""
    kept = {path: text for path, text in before[0].items() if path.startswith("/home/ada/")}
    now = listing(guest)
    assert {path: now.get(path) for path in kept if not path.startswith("/home/ada/.cache/vllm")} == {
        path: text for path, text in kept.items() if not path.startswith("/home/ada/.cache/vllm")
    }
    assert not {"rocm.list", "amdgpu.list"} & set(guest.root("ls /etc/apt/sources.list.d").split())


def test_a_second_run_changes_nothing(guest):
    done = deploy(adopt=True)
    assert (done.status, done.changed) == (0, []), done.output[-4000:]


def test_neither_does_one_whose_inventory_has_dropped_adopt(guest):
    done = deploy()
    assert (done.status, done.changed) == (0, []), done.output[-4000:]


def test_caches_are_moved_when_asked_under_the_running_server(guest):
    inode, server = guest.root(f"stat -L -c %i {HOME}/{WEIGHTS}"), guest.root("docker ps --quiet --no-trunc")
    done = deploy(adopt=True, move_adopted_caches=True)
    assert (done.status, done.changed) == (0, [NAMES["adopt-caches"]]), done.output[-4000:]
    assert guest.root(f"readlink {HOME}") == "/srv/ojai/huggingface"
    assert guest.root(f"stat -L -c %i /srv/ojai/huggingface/{WEIGHTS} {HOME}/{WEIGHTS}").split() == [inode, inode]
    assert guest.root("docker ps --quiet --no-trunc") == server and serves(guest)
    guest.root("systemctl restart vllm-gemma4.service")
    guest.root(f"for second in $(seq 120); do {ASK} && exit 0; sleep 1; done; exit 1")
    done = deploy(adopt=True, move_adopted_caches=True)
    assert (done.status, done.changed) == (0, []), done.output[-4000:]


def test_verify_is_green(guest):
    found = Container(with_data(adopt=True)).verify()
    assert found.ok, (found.error, found.failed)


def test_everything_is_given_back(guest, before):
    done = deploy(removed=True, removed_data=True)
    assert done.status == 0, done.output[-6000:]
    left = manifest.unexplained(manifest.differences(before[0], listing(guest)))
    assert left == [], "\n".join(map(str, left))
    comes_back(guest, before[1])


@pytest.mark.whole
@pytest.mark.parametrize("start", ["unit", "compose"])
def test_another_way_to_start_it_is_adopted_and_given_back_too(guest, start):
    guest.root("systemctl disable --now gemma.service 2>/dev/null; docker rm -f vllm-gemma4 2>/dev/null; true")
    with using(LAB):
        prepare(guest, f"--{start}")
    was, container = listing(guest), inspection(guest)
    refused = deploy()
    assert (refused.status, refused.changed) == (1, []) and manifest.differences(was, listing(guest)) == []
    word = "unit gemma.service" if start == "unit" else "compose gemma"
    assert word in refused.output, refused.output[-3000:]
    done = deploy(adopt=True)
    assert done.status == 0 and serves(guest), done.output[-6000:]
    if start == "unit":
        assert guest.root("systemctl is-active gemma.service || true") != "active"
    assert deploy(adopt=True).changed == []
    back = deploy(removed=True, removed_data=True)
    assert back.status == 0, back.output[-6000:]
    left = manifest.unexplained(manifest.differences(was, listing(guest)))
    assert left == [], "\n".join(map(str, left))
    comes_back(guest, container)
