"""The life of a tuning file: made on purpose, kept by image and GPU, used, stale with another image, never a surprise.

In a container of the lab, against the stand-in, whose results file has a real one's form.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.lab.conftest import KEEP
from tests.lab.contained import Serving, serving
from tests.lab.machine import ROOT, Deploy

pytestmark = pytest.mark.whole

SERVICE = {"profile": "gemma-4-e4b", "start_timeout": 120, "tunableop": "use"}
FILES = "find /srv/ojai/tunableop -type f | sort"


@pytest.fixture(scope="module")
def host() -> Iterator[Serving]:
    found = serving(ROOT / ".lab-tune", "overlay2")
    if not KEEP or found.guest.run("true").returncode != 0:
        found.renew()
    found = found.with_data(services=[SERVICE])
    ends_well(found.deploy())
    yield found
    if not KEEP:
        found.stop()


def ends_well(done: Deploy) -> Deploy:
    assert done.status == 0 and "Traceback" not in done.output, done.output[-6000:]
    return done


def state(host: Serving) -> str:
    done = host.lab.ojai("status", host.lab.inventory, "--json")
    (found,) = json.loads(done.stdout)["services"]
    return str(found["tuning"])


def tuning(host: Serving, *words: str) -> subprocess.CompletedProcess[str]:
    return host.lab.ojai("tune", host.lab.inventory, "--yes", *words)


def serves(host: Serving) -> None:
    """By its own unit, with tuning off, and nothing of the tuning is left."""
    ask = "curl -q -s -f -m 5 -o /dev/null http://127.0.0.1:8000/health"
    host.guest.text(f"for i in $(seq 60); do {ask} && exit 0; sleep 1; done; exit 1")
    assert host.guest.text("systemctl is-active vllm-gemma4") == "active"
    variables = host.guest.root("docker inspect -f '{{json .Config.Env}}' vllm-gemma4")
    assert "PYTORCH_TUNABLEOP_TUNING=0" in variables
    left = "systemctl list-units --all --no-legend 'ojai-tune-*'; ls /run/ojai-tune-* 2>/dev/null || true"
    assert host.guest.root(left) == ""
    assert "tuning0.csv" not in host.guest.root(FILES)


def test_a_service_never_tunes_by_surprise(host: Serving) -> None:
    """Neither as it serves nor as it ends: there is no file, and it says so."""
    assert state(host) == "missing"
    host.guest.root("systemctl restart vllm-gemma4")
    serves(host)
    assert host.guest.root(FILES) == ""
    again = host.deploy()
    assert (again.status, again.changed) == (0, []), again.output[-3000:]


def test_one_that_is_interrupted_leaves_the_service_as_it_was(host: Serving) -> None:
    """Once by the end of the command's process, once by its bound, once by a request for its end on the host."""
    slow = {**SERVICE, "environment": {"OJAI_LAB_LOAD_SECONDS": "20"}}
    late = host.with_data(services=[slow])
    ends_well(late.deploy())
    sums = "sha256sum /etc/systemd/system/vllm-gemma4.service*; ls -d /run/systemd/system/vllm* 2>/dev/null || true"
    unit = late.guest.root(sums)
    argv = [sys.executable, "-m", "ojai", "tune", late.lab.inventory, "--yes", "--no-bench"]
    running = subprocess.Popen(
        argv, cwd=ROOT, env=late.lab.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    active = "systemctl is-active ojai-tune-vllm-gemma4"
    late.guest.text(f"for i in $(seq 90); do {active} && exit 0; sleep 1; done; exit 1")
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    late.guest.root("systemctl stop ojai-tune-vllm-gemma4 || true")
    serves(late)
    assert late.guest.root(FILES) == "" and late.guest.root(sums) == unit
    time.sleep(35)  # the lock of the run that died
    bounded = host.with_data(
        services=[{**SERVICE, "environment": {"OJAI_LAB_LOAD_SECONDS": "100"}, "start_timeout": 300}]
    )
    ends_well(bounded.deploy())
    done = tuning(bounded, "--no-bench", "--minutes", "1")
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    assert "not within 1 minutes; the service is started again as it was" in done.stdout + done.stderr
    bounded.guest.text(
        "for i in $(seq 150); do curl -sf -m 5 http://127.0.0.1:8000/health && exit 0; sleep 1; done; exit 1"
    )
    serves(bounded)
    assert bounded.guest.root(FILES) == ""
    ends_well(host.deploy())


def test_it_is_made_kept_by_image_and_gpu_and_used(host: Serving) -> None:
    done = tuning(host)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-4000:]
    image = host.guest.root(
        "docker inspect -f '{{index .RepoDigests 0}}' $(docker inspect -f '{{.Image}}' vllm-gemma4)"
    )
    key = image.partition("@sha256:")[2][:12]
    kept = f"/srv/ojai/tunableop/{key}/gemma4_gfx11500.csv"
    assert host.guest.root(FILES) == kept
    assert f"tune: kept {kept}" in said, "progress is not shown"
    text = host.guest.root(f"cat {kept}")
    assert "Validator,PT_VERSION," in text and "Validator,GCN_ARCH_NAME,gfx1150" in text and "Gemm" in text
    print(f"key: {kept}\n{text}")
    serves(host)
    assert "TunableOp: read 1 result(s)" in host.guest.root("docker logs vllm-gemma4 2>&1")
    assert state(host) == "kept"
    # Before and after, by `ojai bench`.
    assert said.count("kept in") >= 2 and "tokens/s" in said, said[-3000:]
    again = tuning(host, "--no-bench")
    assert again.returncode == 0 and "tune: stopping" not in again.stdout + again.stderr, "it is there"
    converged = host.deploy()
    assert (converged.status, converged.changed) == (0, []), converged.output[-3000:]
    stamp = f"stat -c %Y {kept}"
    before = host.guest.root(stamp)
    host.guest.root("systemctl restart vllm-gemma4")
    serves(host)
    assert host.guest.root(stamp) == before, "a start wrote to it"


def test_another_image_makes_it_stale_and_a_new_one_is_made_for_it(host: Serving) -> None:
    before = host.guest.root(FILES)
    other = host.with_data(services=[{**SERVICE, "image": "vllm/vllm-openai-rocm:v0.20.1-next"}])
    done = ends_well(other.deploy())
    assert "its tuning file is stale" in done.output and "until `ojai tune` makes it" in done.output
    assert state(other) == "stale"
    found = other.verify()
    assert found.ok, found.failed
    assert other.guest.root(FILES) == before
    made = tuning(other, "--no-bench")
    assert made.returncode == 0, made.stdout + made.stderr
    both = other.guest.root(FILES).split()
    assert len(both) == 2 and before in both and state(other) == "kept"
    ends_well(host.deploy())
    assert state(host) == "kept", "going back, the file of the image of before is there"


def test_the_guides_choice_is_one_setting(host: Serving) -> None:
    guides = host.with_data(services=[{**SERVICE, "tunableop": "tune"}])
    ends_well(guides.deploy())
    assert state(guides) == "tunes"
    refused = tuning(guides, "--no-bench")
    assert refused.returncode == 1 and "no service with `tunableop: use`" in refused.stderr
    ends_well(host.deploy())
