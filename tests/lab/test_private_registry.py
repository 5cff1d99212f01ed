"""An image from a registry of the owner's own, a model from a disk: on a container of the lab that nobody deployed to.

The registry is the real one, with a login and a certificate by an authority that nobody else knows.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace

import bcrypt
import pytest

from ojai.lab import state, upstreams, vm
from tests.lab.contained import Serving
from tests.lab.cutting import using
from tests.lab.test_weights import MODEL, argv, ends_well, fetch, healthy, host, hub

__all__ = ["host"]

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


@pytest.fixture(scope="module")
def private(host: Serving, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """The host, whose service's image is in that registry, and whose model is on the disk."""
    work, port = tmp_path_factory.mktemp("registry"), vm.free_port()
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
        registry = subprocess.Popen(words, stdout=log, stderr=log)
    service = {"profile": "gemma-4-e4b", "start_timeout": 120, "model": FOLDER}
    service["image"] = f"10.0.2.2:{port}/vllm/vllm-openai-rocm:v0.20.1"
    login = {f"10.0.2.2:{port}": {"env": "REGISTRY_LOGIN"}}
    yield host.with_data(services=[service], registry_credentials=login, ca_certificates=[str(work / "own.crt")])
    registry.terminate()
    registry.wait(20)


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
