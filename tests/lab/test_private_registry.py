"""An image from a registry of the owner's own, a model from a disk: on a container of the lab that nobody deployed to.

The registry is the real one, with a login and a certificate by an authority that nobody else knows.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import bcrypt
import pytest

from ojai.lab import state, upstreams, vm
from tests.lab.contained import Serving
from tests.lab.cutting import using
from tests.lab.test_weights import MODEL, argv, ends_well, fetch, healthy, host, hub

__all__ = ["host"]

IMAGE = "vllm/vllm-openai-rocm:v0.20.1"
PASSWORD = "NobodyElsesWord4Word"
FOLDER = "/mnt/usb/gemma-4-E4B-it"

CONFIG = """\
version: 0.1
storage: {{filesystem: {{rootdirectory: {storage}}}}}
auth: {{htpasswd: {{realm: lab, path: {work}/htpasswd}}}}
http:
  addr: 127.0.0.1:{port}
  tls: {{certificate: {work}/own.crt, key: {work}/own.pem}}
"""


@contextmanager
def registry(host: Serving, work: Path) -> Iterator[tuple[str, dict[str, object]]]:
    """A registry with a login and an authority of its own: its name, and what the inventory says of it."""
    port = vm.free_port()
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=lab"]
    made += ["-keyout", str(work / "own.pem"), "-out", str(work / "own.crt"), "-addext", "subjectAltName=IP:10.0.2.2"]
    subprocess.run(made, check=True, capture_output=True)
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(6)).decode()
    (work / "htpasswd").write_text(f"ada:{hashed}\n")
    with using(host.lab):
        storage = state.folder() / "registry" / "storage"
    (work / "config.yml").write_text(CONFIG.format(storage=storage, work=work, port=port))
    with (work / "log").open("wb") as log:
        words = [upstreams.registry_program(), "serve", work / "config.yml"]
        running = subprocess.Popen(words, stdout=log, stderr=log)
    name = f"10.0.2.2:{port}"
    service = {"profile": "gemma-4-e4b", "start_timeout": 120, "model": FOLDER, "image": f"{name}/{IMAGE}"}
    login = {name: {"env": "REGISTRY_LOGIN"}}
    yield name, {"services": [service], "registry_credentials": login, "ca_certificates": [str(work / "own.crt")]}
    running.terminate()
    running.wait(20)


@pytest.fixture(scope="module")
def private(host: Serving, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """The host, whose service's image is in such a registry, and whose model is on the disk."""
    with registry(host, tmp_path_factory.mktemp("registry")) as (_, data):
        yield host.with_data(**data)


def with_login(host: Serving, login: str) -> Serving:
    return replace(host, lab=replace(host.lab, env={**host.lab.env, "REGISTRY_LOGIN": login}))


@pytest.mark.whole
def test_a_folder_that_is_not_there_and_a_wrong_login_are_said(host, private):
    done = with_login(private, f"ada:{PASSWORD}").deploy()
    assert done.status == 1 and f"no whole model in {FOLDER}" in done.output, done.output[-3000:]
    assert done.changed == []
    status, _, said = fetch(host)
    assert status == 0, said
    blobs = f"/srv/ojai/huggingface/hub/models--{MODEL.replace('/', '--')}"
    host.guest.root(f"mkdir -p /mnt/usb && cp -rL {blobs}/snapshots/* {FOLDER} && rm -r {blobs} /var/lib/ojai/weights")
    done = with_login(private, "ada:wrongWord").deploy()
    assert done.status == 1 and "wrongWord" not in done.output and "Traceback" not in done.output
    assert "unauthorized" in done.output and "registry_credentials" in done.output, done.output[-3000:]


@pytest.mark.whole
def test_it_serves_the_folder_and_the_password_is_nowhere(host, private):
    before = hub(host, "/lab/counts")
    there = with_login(private, f"ada:{PASSWORD}")
    done = there.deploy()
    ends_well(done)
    # The registry was asked by the host, with the login.
    assert re.search(rf"/{IMAGE}: [\d.]+ MB to pull; about \d+ s at [\d.]+ [MG]B/s \(measured now\)", done.output)
    assert healthy(host) and hub(host, "/lab/counts") == before
    words = argv(host)
    assert words[words.index("--model") + 1] == FOLDER if "--model" in words else FOLDER in words
    ends_well(there.deploy(), [])
    assert PASSWORD not in done.output
    kept = host.guest.root(
        f"grep -rIl {PASSWORD[:-4]} /etc /root /home /run /tmp /var/lib/ojai /var/log 2>/dev/null; "
        f"journalctl --output=cat | grep -v 'grep ' | grep -c {PASSWORD[:-4]}; true"
    )
    assert kept == "0", kept
    found = there.verify()
    assert found.ok, (found.error, found.failed)


@pytest.mark.whole
def test_a_docker_that_runs_trusts_another_registry_without_a_restart(host, private, tmp_path):
    """Of an authority that was made after Docker's start. Removal takes the trust back."""
    with registry(host, tmp_path) as (name, data):
        there = with_login(host.with_data(**data), f"ada:{PASSWORD}")
        running = "systemctl show --property MainPID docker.service"
        before = host.guest.root(running)
        refused = host.guest.run(f"sudo docker pull {name}/{IMAGE}")
        assert refused.returncode != 0 and "x509" in refused.stderr, refused
        done = there.deploy()
        ends_well(done)
        # It was asked before its authority was trusted. All layers of the image are there.
        assert f"{name}/{IMAGE}: 0 bytes to pull" in done.output
        assert healthy(host) and host.guest.root(running) == before
        assert name in host.guest.root("docker container inspect --format '{{.Config.Image}}' vllm-gemma4")
        assert host.guest.root("ls /etc/docker/certs.d") == name
        ends_well(there.deploy(), [])
        ends_well(there.deploy("--data", "removed=true"))
    assert host.guest.run("test -e /etc/docker || test -e /usr/local/share/ca-certificates/ojai-0.crt").returncode != 0
