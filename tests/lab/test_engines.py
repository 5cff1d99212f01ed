"""Docker as it is today: with containerd's image store, from Docker's own archive, and what a deploy does with either.

On containers of the lab. `make engines` runs all of it, on both engines; `make test` what is not marked ``whole``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator

import pytest

from tests.lab import manifest, own_docker
from tests.lab.contained import Serving, serving
from tests.lab.machine import ROOT, Deploy, Guest
from tests.operation_names import NAMES

ENGINES = os.environ.get("OJAI_TEST_ENGINES", "overlay2 containerd").split()
IMAGE = "vllm/vllm-openai-rocm"
PULLED = NAMES["vllm-image"]


def service(**values: object) -> dict[str, object]:
    return {"profile": "gemma-4-e4b", "start_timeout": 120, **values}


def releases(guest: Guest) -> dict[str, str]:
    """Of each saved release, the digest of its image."""
    folder = "/var/lib/ojai/releases"
    return {
        slot: json.loads(guest.root(f"cat {folder}/{slot}/release.json"))["services"][0]["contents"]["digest"]
        for slot in guest.root(f"ls {folder}").split()
        if slot in ("healthy", "previous")
    }


def store(guest: Guest) -> str:
    told = guest.root("docker info --format '{{json .DriverStatus}}'")
    return "containerd" if "io.containerd.snapshotter" in told else "overlay2"


def serves(guest: Guest, image: str) -> bool:
    name = guest.root("docker container inspect --format '{{.Config.Image}}' vllm-gemma4")
    models = guest.run("curl -fsS --noproxy '*' -m 5 http://127.0.0.1:8000/v1/models").stdout
    return name == image and "google/gemma-4-E4B-it" in models


def ends_well(done: Deploy, changed: list[str] | None = None) -> None:
    assert done.status == 0 and "Traceback" not in done.output, done.output[-6000:]
    assert changed is None or done.changed == changed


def pruned(guest: Guest, *images: str) -> None:
    """Take images away with every name of theirs, as a person does who needs the room."""
    guest.root(f"docker image rm -f {' '.join(images)} >/dev/null; docker image prune -f >/dev/null")


@pytest.fixture(scope="module", params=ENGINES)
def host(request: pytest.FixtureRequest) -> Iterator[Serving]:
    """A container that nobody has deployed to, with one of the engines."""
    found = serving(ROOT / f".lab-engine-{request.param}", request.param)
    found.renew()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def untouched(host: Serving) -> dict[str, str]:
    return manifest.take(host.guest)


@pytest.mark.whole
def test_first_deploy_second_run_and_verify(host, untouched, request):
    ends_well(host.deploy())
    assert store(host.guest) == request.node.callspec.params["host"]
    ends_well(host.deploy(), [])
    found = host.verify()
    assert found.ok, (found.error, found.failed)
    assert releases(host.guest)["healthy"].startswith(f"{IMAGE}@sha256:")


@pytest.mark.whole
def test_a_release_that_shares_its_image_keeps_the_digest_of_its_own_repository(host):
    """The image has ojai's own tag by then, which comes first in the alphabet."""
    ends_well(host.with_data(services=[service(max_model_len=4096)]).deploy())
    found = releases(host.guest)
    assert set(found) == {"healthy", "previous"}
    assert all(digest.startswith(f"{IMAGE}@sha256:") for digest in found.values()), found
    ends_well(host.deploy())


@pytest.mark.whole
def test_a_failed_upgrade_is_taken_back(host):
    done = host.with_data(services=[service(image=f"{IMAGE}:broken")]).deploy()
    assert done.status == 1 and "was rolled back" in done.output, done.output[-6000:]
    assert serves(host.guest, f"{IMAGE}:v0.20.1")
    ends_well(host.deploy(), [])


@pytest.mark.whole
@pytest.mark.parametrize("noted", ["as it is", "as an earlier ojai did"])
def test_rollback_after_a_prune(host, noted):
    upgraded = host.with_data(services=[service(image=f"{IMAGE}:v0.20.1-next")])
    ends_well(upgraded.deploy())
    assert serves(host.guest, f"{IMAGE}:v0.20.1-next")
    pruned(host.guest, f"{IMAGE}:v0.20.1", "ojai-release:vllm-gemma4-previous")
    assert "v0.20.1 " not in host.guest.root("docker image ls --format '{{.Tag}} '")
    if noted != "as it is":
        host.guest.root(f"sed -i 's|{IMAGE}@|ojai-release@|' /var/lib/ojai/releases/previous/release.json")
    done = host.lab.ojai("rollback", host.lab.inventory, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert serves(host.guest, f"{IMAGE}:v0.20.1")
    ends_well(host.deploy(), [])


@pytest.mark.whole
def test_a_host_that_moved_to_containerd_s_store(host):
    """Its images are out of sight: that is said, and they are pulled again by what no store changes, their digest."""
    if store(host.guest) != "containerd":
        pytest.skip("this engine keeps the store that it has")
    daemon = "/etc/docker/daemon.json"
    host.guest.root(f'sed -i \'s/"containerd-snapshotter": true/"containerd-snapshotter": false/\' {daemon}')
    host.guest.root("systemctl stop vllm-gemma4; systemctl restart docker")
    assert store(host.guest) == "overlay2"
    ends_well(host.deploy())
    ends_well(host.with_data(services=[service(image=f"{IMAGE}:v0.20.1-next")]).deploy())
    host.guest.root(f'sed -i \'s/"containerd-snapshotter": false/"containerd-snapshotter": true/\' {daemon}')
    host.guest.root("systemctl stop vllm-gemma4; systemctl restart docker; docker system prune -af >/dev/null")
    assert store(host.guest) == "containerd"
    done = host.lab.ojai("rollback", host.lab.inventory, "--yes")
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert "'overlay2', where Docker does not look any more" in output and "pulled again by its digest" in output
    said = host.deploy()
    ends_well(said)
    assert "images from before it kept images in containerd's store are out of sight" in said.output
    ends_well(host.deploy(), [])


@pytest.mark.whole
def test_a_rollback_to_what_no_registry_gave_is_refused(host):
    ends_well(host.with_data(services=[service(image=f"{IMAGE}:v0.20.1-next")]).deploy())
    pruned(host.guest, f"{IMAGE}:v0.20.1", "ojai-release:vllm-gemma4-previous")
    host.guest.root('sed -i \'s|"digest":"[^"]*"|"digest":""|\' /var/lib/ojai/releases/previous/release.json')
    done = host.lab.ojai("rollback", host.lab.inventory, "--yes")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "rollback: found no image of the release" in done.stdout + done.stderr
    assert serves(host.guest, f"{IMAGE}:v0.20.1-next"), "something was touched"
    ends_well(host.deploy())


@pytest.mark.whole
def test_removal_takes_the_layers_and_leaves_the_owner_s(host, untouched):
    ends_well(host.with_data(removed=True, removed_data=True).deploy())
    left = manifest.unexplained(manifest.differences(untouched, manifest.take(host.guest)))
    assert left == [], "\n".join(map(str, left))


#: Docker's own packages, and Ubuntu's as the lab has them.
THEIRS = ["containerd.io", "docker-buildx-plugin", "docker-ce", "docker-ce-cli", "docker-compose-plugin"]
UBUNTUS = ["containerd", "docker-cli", "docker.io"]
INSTALLED = (
    "dpkg-query -W -f '${db:Status-Status} ${Package}\\n' 'docker*' 'containerd*' | sed -n 's/^installed //p' | sort"
)


@pytest.fixture(scope="module")
def bare() -> Iterator[Serving]:
    """A container without a service, which may have Docker from Docker's own archive."""
    found = serving(ROOT / ".lab-own-docker", ENGINES[-1]).with_data(services=[])
    found.renew()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def own(bare: Serving) -> Iterator[dict[str, object]]:
    """The settings of a host with Docker from its own archive."""
    shutil.rmtree(bare.lab.folder / "own-docker", ignore_errors=True)
    with own_docker.served(bare.lab) as settings:
        yield settings


@pytest.fixture(scope="module")
def clean(bare: Serving) -> dict[str, str]:
    return manifest.take(bare.guest)


def removed(bare: Serving, clean: dict[str, str], **data: object) -> None:
    """Remove everything: nothing is left, and what was there before is as it was."""
    ends_well(bare.with_data(services=[], **data, removed=True, removed_data=True).deploy())
    assert manifest.unexplained(manifest.differences(clean, manifest.take(bare.guest))) == []


def engine(bare: Serving, **data: object) -> Serving:
    return bare.with_data(services=[], **data)


@pytest.mark.whole
def test_from_ubuntu_s_engine_to_docker_s_own(bare, clean, own):
    ends_well(bare.deploy())
    assert bare.guest.root(INSTALLED).split() == UBUNTUS
    refused = engine(bare, **own).deploy()
    assert (refused.status, refused.changed) == (1, []), refused.output[-3000:]
    assert "Docker packages: found docker.io, which ojai installed" in refused.output
    assert "`removed: true`" in refused.output
    removed(bare, clean)
    ends_well(engine(bare, **own).deploy())
    assert bare.guest.root(INSTALLED).split() == THEIRS
    ends_well(engine(bare, **own).deploy(), [])
    found = engine(bare, **own).verify()
    assert found.ok, (found.error, found.failed)


@pytest.mark.whole
def test_auto_keeps_docker_s_own(bare, own):
    done = engine(bare, **own | {"docker_source": "auto"}).deploy()
    ends_well(done, [])
    assert bare.guest.root(INSTALLED).split() == THEIRS


@pytest.mark.whole
def test_the_key_of_the_archive_is_rotated(bare, own):
    fingerprint = own_docker.sign(bare.lab.folder / "own-docker")
    rotated = engine(bare, **own | {"docker_key_fingerprint": fingerprint})
    done = rotated.deploy()
    ends_well(done, [NAMES["docker-key"], NAMES["docker-lists"]])
    bare.guest.root("apt-get -q update 2>&1 | grep -E '^[WE]:' && exit 1; true")
    ends_well(rotated.deploy(), [])
    # The inventory still has the old one, and the host has lost its keyring.
    bare.guest.root("rm /etc/apt/keyrings/ojai-docker.gpg")
    refused = engine(bare, **own).deploy()
    assert refused.status == 1 and fingerprint in refused.output and "Traceback" not in refused.output
    own["docker_key_fingerprint"] = fingerprint
    ends_well(engine(bare, **own).deploy())


@pytest.mark.whole
def test_and_back_to_ubuntu_s(bare, clean, own):
    refused = engine(bare, docker_source="ubuntu").deploy()
    assert (refused.status, refused.changed) == (1, [])
    assert "Docker packages: found docker-ce, which ojai installed" in refused.output
    removed(bare, clean, **own)
    ends_well(engine(bare, docker_source="ubuntu").deploy())
    assert bare.guest.root(INSTALLED).split() == UBUNTUS
    removed(bare, clean)


@pytest.mark.whole
def test_auto_leaves_docker_ce_of_the_owner_s_alone(bare, own):
    """Installed by Docker's own page, before ojai came: only daemon.json and the service are ojai's business."""
    url = own["docker_mirror"]
    bare.guest.root(
        f"set -e; curl -fsS {url}/gpg -o /etc/apt/keyrings/docker.asc; "
        f"echo 'deb [arch=amd64 signed-by=/etc/apt/keyrings/docker.asc] {url} noble stable' "
        "> /etc/apt/sources.list.d/docker.list; apt-get -q update >/dev/null; "
        f"DEBIAN_FRONTEND=noninteractive apt-get -q -y install {' '.join(THEIRS)} >/dev/null; docker volume create mine"
    )
    before = manifest.take(bare.guest)
    auto = engine(bare, docker_packages=None)
    done = auto.deploy()
    ends_well(done)
    assert re.search(r"Docker: docker-ce \S+ was installed by others: it is used as it is", done.output)
    assert [name for name in done.changed if name.startswith("Docker | ")] == [NAMES["docker-config"]]
    ends_well(auto.deploy(), [])
    found = auto.verify()
    assert found.ok, (found.error, found.failed)
    ends_well(engine(bare, docker_packages=None, removed=True, removed_data=True).deploy())
    assert bare.guest.root(INSTALLED).split() == THEIRS
    assert bare.guest.root("docker volume ls -q") == "mine"
    left = manifest.unexplained(manifest.differences(before, manifest.take(bare.guest)))
    assert [one for one in left if not one.path.startswith(("/var/lib/docker/", "/var/lib/containerd/"))] == []
