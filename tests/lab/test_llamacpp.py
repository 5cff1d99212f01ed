"""The real llama.cpp, by Vulkan in software, beside the stand-in of vLLM: from the first deploy to removal.

In a container of the lab: no GPU, so nothing here tells of speed. The models are tiny and random, and so are answers.
Compiled shaders are kept in the lab's cache from one run to the next: without them the first start takes minutes.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ojai import profiles
from ojai.lab import container, image, state
from ojai.lab.llamacpp import image as llamacpp
from ojai.lab.shell import as_root
from tests.lab.contained import Serving, serving
from tests.lab.cutting import using
from tests.lab.machine import ROOT, Deploy, Guest

pytestmark = pytest.mark.whole

PROFILE = profiles.load("gemma-4-e4b", engine="llamacpp")
IMAGE = f"{llamacpp.REPOSITORY}:{llamacpp.BUILD}"
KEY = "a-key-of-the-lab-which-is-long-enough"
VLLM = {"profile": "gemma-4-e4b", "start_timeout": 120}
LLAMA = {
    "name": "llama-gemma4",
    "profile": "gemma-4-e4b",
    "engine": "llamacpp",
    "image": IMAGE,
    "port": 8001,
    "max_model_len": 8192,
    "start_timeout": 900,
    "stop_timeout": 20,
}
#: A random model is judged by its form; the first answers take as long as shaders take to compile.
SMOKE = ("--form-only", "--first-token", "300", "--timeout", "900")
BENCH = [f"--{word}" for word in ("prompt-tokens=128", "users=1", "repeats=1")]


def shaders() -> Path:
    """Where compiled shaders are kept."""
    return image.cache_root() / "llamacpp-mesa"


@dataclass(frozen=True)
class Both(Serving):
    """A container whose registry and hub have llama.cpp too."""

    def renew(self) -> None:
        super().renew()
        with using(self.lab), state.locked():
            folder, registry = llamacpp.build(image.cache_root()), state.read().registry
            assert registry
            llamacpp.push(folder, f"127.0.0.1:{registry.port}")
            served = dict(zip(PROFILE.files, ("edge-Q4_K_M", "mmproj"), strict=True))
            llamacpp.give(folder, state.folder() / "hub" / "models", PROFILE.model, str(PROFILE.revision), served)
        if shaders().exists():
            self.copy(str(shaders()), str(self.place), "-T")

    @property
    def place(self) -> Path:
        with using(self.lab):
            return container.tree("lab") / "srv/ojai/mesa"

    def copy(self, *words: str) -> None:
        subprocess.run(as_root(["mkdir", "-p", str(self.place.parent)]), check=True)
        subprocess.run(as_root(["cp", "-a", *words]), check=True)

    def serves(self, *services: dict[str, object], **data: object) -> Serving:
        return self.with_data(services=list(services), **data)


@pytest.fixture(scope="module")
def host() -> Iterator[Both]:
    """A container that nobody has deployed to."""
    found = Both(serving(ROOT / ".lab-llamacpp", "overlay2").lab).with_data()
    found.renew()
    yield found
    if found.place.exists():
        shutil.rmtree(shaders(), ignore_errors=True)
        found.copy(str(found.place), str(shaders()), "-T")
    found.stop()


def ends_well(done: Deploy, changed: list[str] | None = None) -> None:
    assert done.status == 0 and "Traceback" not in done.output, done.output[-6000:]
    assert changed is None or done.changed == changed


def running(guest: Guest, name: str = "llama-gemma4") -> str:
    return guest.root(f"docker container inspect --format '{{{{.Config.Image}}}}' {name}")


def models(guest: Guest, port: int = 8001, key: str = "") -> str:
    header = f"-H 'Authorization: Bearer {key}'" if key else ""
    return guest.run(f"curl -s --noproxy '*' -m 20 {header} http://127.0.0.1:{port}/v1/models").stdout


def sent(host: Serving) -> int:
    """Bytes that the hub has sent of all models."""
    with using(host.lab):
        lab = state.view(state.read())
    assert lab
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{lab.upstreams.hub_local}/lab/counts") as answer:
        return sum(json.load(answer)["bytes"].values())


def test_both_are_deployed_and_a_second_run_changes_nothing(host):
    both = host.serves(VLLM, LLAMA)
    ends_well(both.deploy())
    assert PROFILE.model in models(host.guest) and "google/gemma-4-E4B-it" in models(host.guest, 8000)
    log = host.guest.root("docker logs llama-gemma4 2>&1 | head -n 3000")
    assert "using device Vulkan0 (llvmpipe" in log and "offloaded 7/7 layers to GPU" in log, log[-3000:]
    assert "Vulkan0 KV buffer size" in log
    ends_well(both.deploy(), [])


def test_drift_is_found_and_mended(host):
    both = host.serves(VLLM, LLAMA)
    found = both.verify()
    assert found.ok, (found.error, found.failed)
    host.guest.root("sed -i 's/--parallel 1/--parallel 2/' /etc/systemd/system/llama-gemma4.service")
    host.guest.root("systemctl daemon-reload; systemctl restart llama-gemma4")
    found = both.verify()
    assert not found.ok and any("the next deploy would" in name for name in found.failed), found.failed
    done = both.deploy()
    ends_well(done)
    assert "--parallel 1" in host.guest.root("systemctl cat llama-gemma4")
    ends_well(both.deploy(), [])


def test_an_upgrade_and_a_failed_one_that_is_taken_back(host):
    ends_well(host.serves(VLLM, {**LLAMA, "image": f"{IMAGE}-next"}).deploy())
    assert running(host.guest) == f"{IMAGE}-next"
    done = host.serves(VLLM, {**LLAMA, "image": f"{IMAGE}-broken"}).deploy()
    assert done.status == 1 and "was rolled back" in done.output, done.output[-6000:]
    assert running(host.guest) == f"{IMAGE}-next" and PROFILE.model in models(host.guest)


def test_without_the_gpu_the_start_fails_and_is_taken_back(host):
    """llama.cpp alone would serve from the CPU, with a line in its log."""
    hidden = {**LLAMA, "environment": {"GGML_VK_VISIBLE_DEVICES": "7"}, "start_timeout": 60}
    done = host.serves(VLLM, hidden).deploy()
    assert done.status == 1 and "was rolled back" in done.output, done.output[-6000:]
    assert "invalid device" in host.guest.root("journalctl -u llama-gemma4 --no-pager -n 400")
    assert PROFILE.model in models(host.guest)


def test_another_engine_by_one_line_and_back(host):
    before = sent(host)
    one = {**LLAMA, "engine": "vllm"}
    del one["image"]
    ends_well(host.serves(VLLM | {"gpu_memory_utilization": 0.4}, one | {"gpu_memory_utilization": 0.4}).deploy())
    assert running(host.guest).startswith("vllm/") and "google/gemma-4-E4B-it" in models(host.guest)
    ends_well(host.serves(VLLM, LLAMA).deploy())
    assert running(host.guest) == IMAGE and PROFILE.model in models(host.guest)
    assert sent(host) == before


def test_a_key_is_in_a_file_and_an_empty_one_starts_no_server(host):
    keyed = {**LLAMA, "secrets": {"LLAMA_API_KEY": {"env": "OJAI_TEST_LLAMA_KEY"}}}
    guarded = host.serves(VLLM, keyed, exposure="loopback")
    guarded = replace(guarded, lab=replace(guarded.lab, env={**guarded.lab.env, "OJAI_TEST_LLAMA_KEY": KEY}))
    ends_well(guarded.deploy())
    assert "401" in models(host.guest) or "error" in models(host.guest)
    assert PROFILE.model in models(host.guest, key=KEY)
    seen = host.guest.root("ps axww -o args; systemctl cat llama-gemma4; docker inspect llama-gemma4")
    assert KEY not in seen
    status = guarded.lab.ojai("status", guarded.lab.inventory, "--json")
    assert status.returncode == 0, status.stdout + status.stderr
    ends_well(guarded.deploy(), [])
    host.guest.root(": > /etc/ojai/llama-gemma4.secrets/LLAMA_API_KEY; systemctl restart llama-gemma4 || true")
    assert models(host.guest) == ""


def test_smoke_and_a_short_bench(host):
    both = host.serves(VLLM, LLAMA)
    ends_well(both.deploy())
    done = both.lab.ojai("smoke", both.lab.inventory, *SMOKE, "--json")
    results = json.loads(done.stdout)["servers"]
    failed = [(one["name"], one["came"]) for one in results[1]["results"] if one["outcome"] == "failed"]
    assert len(results[1]["results"]) > 10 and not failed, (failed, done.stderr[-2000:])
    folder = both.lab.folder / "bench"
    measured = both.lab.ojai("bench", both.lab.inventory, *BENCH, "--results", str(folder), "--json")
    runs = {run["subject"]["service"]: run for run in json.loads(measured.stdout)["runs"]}
    assert runs["llama-gemma4"]["cells"] and not runs["llama-gemma4"].get("failure"), measured.stderr[-2000:]


def test_removal_leaves_nothing_of_it(host):
    ends_well(host.with_data(removed=True, removed_data=True, services=[]).deploy())
    assert host.guest.run("ls /srv/ojai /etc/systemd/system/llama-gemma4.service /etc/ojai").stdout == ""
