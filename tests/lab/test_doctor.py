"""`ojai doctor`, `status` and `logs` over SSH, on containers: one that serves and is broken, and a bare one."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.contained import Serving, serving
from tests.lab.machine import ROOT

UNIT = "/etc/systemd/system/vllm-gemma4.service"
ENV = "/etc/ojai/vllm-gemma4.env"
MODEL = "google/gemma-4-E4B-it"


def ojai(host: Serving, *words: str) -> subprocess.CompletedProcess[str]:
    """`ojai` without the checks of the GPU, which a container has not."""
    command, *rest = words
    return host.lab.run(sys.executable, "-m", "tests.lab.contained_ojai", command, host.lab.inventory, *rest)


def doctor(host: Serving, *words: str) -> tuple[int, dict[str, Any]]:
    done = ojai(host, "doctor", "--json", *words)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)["hosts"][0]


def wrong(found: dict[str, Any]) -> list[str]:
    """The codes of what is wrong now."""
    return [one["code"] for one in found["findings"] if not one["past"]]


def served(host: Serving) -> None:
    """Have the service run again, and wait for it."""
    host.guest.root("systemctl reset-failed vllm-gemma4; systemctl restart vllm-gemma4")
    ready = "curl -fsS -o /dev/null -m 2 --noproxy '*' http://127.0.0.1:8000/health"
    host.guest.root(f"for i in $(seq 120); do {ready} && exit; sleep 1; done; exit 1")


def edited(sed: str) -> tuple[str, str]:
    """A unit that was edited by hand, and its way back."""
    again = "systemctl daemon-reload; systemctl reset-failed vllm-gemma4; systemctl restart vllm-gemma4"
    return f"cp {UNIT} /root/unit; sed -i {shlex.quote(sed)} {UNIT}; {again}", f"cp /root/unit {UNIT}; {again}"


START = "systemctl reset-failed vllm-gemma4; systemctl start vllm-gemma4"

#: Of each trouble: the code that has to come first, how it is made, and how it is undone.
TROUBLES = {
    "Docker is stopped": ("docker-down", "systemctl stop docker.socket docker", "systemctl start docker"),
    "Docker's program is gone": (
        "docker-missing",
        f"systemctl stop vllm-gemma4; mv /usr/bin/docker /root/docker; {START}",
        "mv /root/docker /usr/bin/docker",
    ),
    "no /dev/kfd": (
        "device-missing",
        f"systemctl stop vllm-gemma4; rm /dev/kfd; {START}",
        "mknod /dev/kfd c 1 3; chgrp render /dev/kfd; chmod 660 /dev/kfd",
    ),
    "no room for a container": (
        "disk-full",
        "systemctl stop vllm-gemma4; mount -t tmpfs -o size=64k none /var/lib/docker/containers; "
        f"dd if=/dev/zero of=/var/lib/docker/containers/full bs=64k count=2 2>/dev/null; {START}",
        "systemctl stop vllm-gemma4; umount /var/lib/docker/containers",
    ),
    "somebody else has the port": (
        "port-taken",
        "systemctl stop vllm-gemma4; systemd-run -q --unit other python3 -m http.server 8000 --bind 0.0.0.0; "
        f"sleep 3; {START}",
        "systemctl stop other",
    ),
    "a flag that vLLM does not know": (
        "flag-disable-log-requests",
        *edited("s/google.gemma-4-E4B-it/& --disable-log-requests/"),
    ),
    "the parser's old name": (
        "tool-parser-unknown",
        *edited("s/tool-call-parser\\([ =]\\)gemma4/tool-call-parser\\1gemma/"),
    ),
    "a context beyond the model's": (
        "context-beyond-model",
        *edited("s/max-model-len\\([ =]\\)[0-9]*/max-model-len\\1999999/"),
    ),
    "an image that is not there": ("image-missing", *edited("s/vllm-openai-rocm:v0.20.1/vllm-openai-rocm:v0.0.1/")),
    "a group that the image has not": (
        "group-missing",
        *edited("s/group-add\\([ =]\\)[0-9]*/group-add\\1nosuchgroup/"),
    ),
    "the container is paused": ("container-paused", "docker pause vllm-gemma4", "docker unpause vllm-gemma4"),
}


@pytest.fixture(scope="module")
def host() -> Iterator[Serving]:
    found = serving(ROOT / ".lab-doctor", "overlay2")
    found.renew()
    done = found.deploy()
    assert done.status == 0, done.output[-3000:]
    yield found
    found.stop()


@pytest.fixture(scope="module")
def bare() -> Iterator[Serving]:
    """A container that nobody has deployed to."""
    found = serving(ROOT / ".lab-doctor-bare", "overlay2")
    found.renew()
    yield found
    found.stop()


def test_a_host_without_docker_and_service(bare: Serving, tmp_path: Path) -> None:
    """Half dead: no Docker, no unit; what it says leaves it without secrets, and says the same again."""
    secret = "planted-in-the-env-file-1"
    bare.guest.root(
        f"install -d -m 700 /etc/ojai; echo VLLM_API_KEY={secret} > {ENV}; command -v docker && exit 1; "
        f"echo 'serving with {secret} and hf_plantedplanted2 for https://ada:planted-3@example.net' | "
        "systemd-cat -t docker; systemd-run -q --wait --unit vllm-gemma4 "
        f"sh -c 'echo --api-key planted-4; echo {secret}'; true"
    )
    bundle = tmp_path / "bundle.json"
    status, found = doctor(bare, "--bundle", str(bundle))
    assert status == 1
    assert wrong(found)[:2] == ["docker-missing", "unit-missing"], wrong(found)
    text = bundle.read_text()
    assert "api-key" in text and "planted" not in text
    # Where no container is left out of anything: the same but for preflight's judgement of it.
    again = bare.lab.ojai("doctor", "--from", str(bundle), "--json")
    (replayed,) = json.loads(again.stdout)["hosts"]
    assert [one for one in replayed["findings"] if one["code"] != "preflight"] == [
        one for one in found["findings"] if one["code"] != "preflight"
    ]
    shown = ojai(bare, "status")
    assert shown.returncode == 1 and "not deployed" in shown.stdout


@pytest.mark.whole
def test_a_host_that_serves_is_well(host: Serving, tmp_path: Path) -> None:
    served(host)
    status, found = doctor(host, "--bundle", str(tmp_path / "bundle.json"))
    assert (status, found["findings"]) == (0, [])
    (said,) = json.loads(ojai(host, "status", "--json").stdout)["services"]
    assert said["serves"] and said["model"] == MODEL and said["running"] == 0 and said["tokens_per_second"] == 0.0
    assert said["deployed"] < said["since"] <= said["now"] and said["disk_free"] > 0
    assert said["gpu_busy"] is None and said["gpu_memory_total"] is None


@pytest.mark.whole
def test_status_is_one_command_and_counts_tokens_while_they_come(host: Serving) -> None:
    ask = json.dumps(
        {"model": MODEL, "max_tokens": 2000, "ignore_eos": True, "messages": [{"role": "user", "content": "x"}]}
    )
    curl = f"curl -sS --noproxy '*' -o /dev/null -H 'Content-Type: application/json' -d {shlex.quote(ask)}"
    host.guest.root(f"systemd-run -q --unit asking {curl} http://127.0.0.1:8000/v1/chat/completions")
    (said,) = json.loads(ojai(host, "status", "--json").stdout)["services"]
    assert said["running"] == 1 and said["tokens_per_second"] > 1
    host.guest.root("systemctl stop asking")


@pytest.mark.whole
def test_logs_have_a_container_s_line_once_and_the_unit_s_too(host: Serving) -> None:
    done = ojai(host, "logs", "--no-follow", "--since", "1h")
    assert done.returncode == 0, done.stderr
    lines = [re.sub(r"^\S+ \S+ ", "", line) for line in done.stdout.splitlines()]
    assert any("Started vllm-gemma4.service" in line for line in lines)
    started = [line for line in lines if "vLLM API server version" in line]
    assert started and len(started) == len(set(started))
    few = ojai(host, "logs", "lab/vllm-*", "--no-follow", "--lines", "3").stdout.splitlines()
    assert len(few) == 3


@pytest.mark.whole
def test_logs_follow_and_leave_nothing_on_the_host(host: Serving) -> None:
    # What a shell starts in the background ignores SIGINT, and so do its children.
    argv = ["env", "--default-signal=INT", sys.executable, "-m", "tests.lab.contained_ojai"]
    argv += ["logs", host.lab.inventory, "--lines", "1"]
    with subprocess.Popen(argv, cwd=ROOT, env=host.lab.environment(), stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        first = run.stdout.readline()
        host.guest.root("curl -sS --noproxy '*' -o /dev/null http://127.0.0.1:8000/v1/models?asked-now")
        second = next(line for line in run.stdout if "asked-now" in line)
        run.send_signal(2)
        assert run.wait(60) == 0
        assert first != second and "asked-now" not in run.stdout.read(), "a line came twice"
    time.sleep(3)
    assert host.guest.root("pgrep -fa '^journalctl -f|^docker logs' || true") == ""


@pytest.mark.whole
@pytest.mark.parametrize("trouble", TROUBLES)
def test_the_right_cause_comes_first(host: Serving, trouble: str) -> None:
    code, make, undo = TROUBLES[trouble]
    host.guest.root(f"{make}; sleep 15")
    try:
        status, found = doctor(host)
    finally:
        host.guest.root(undo)
    assert status == 1 and wrong(found)[:1] == [code], wrong(found)
    served(host)


@pytest.mark.whole
def test_fix_shows_asks_and_mends_by_the_deploy(host: Serving) -> None:
    host.guest.root(f"systemctl stop vllm-gemma4; rm {UNIT}; systemctl daemon-reload")
    fix = ("doctor", "--fix", "--deploy", host.lab.deploy_file)
    done = ojai(host, *fix)
    assert done.returncode == 1 and "What the deploy will change on lab" in done.stdout
    assert "vLLM | vllm-gemma4: write the systemd unit" in done.stdout + done.stderr, "what it will change"
    assert host.guest.root(f"ls {UNIT} 2>/dev/null || true") == "", "nobody said yes"
    done = ojai(host, *fix, "--yes")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "unit-missing" in done.stdout and "\nlab: nothing is wrong\n" in done.stdout
    status, found = doctor(host)
    assert (status, wrong(found)) == (0, [])


@pytest.mark.whole
def test_a_unit_that_was_edited_is_told_and_mended_by_the_deploy(host: Serving) -> None:
    make, _ = edited("s/max-model-len\\([ =]\\)[0-9]*/max-model-len\\1999999/")
    host.guest.root(f"{make}; sleep 12")
    _, found = doctor(host)
    assert wrong(found)[0] == "context-beyond-model" and "unit-edited" in wrong(found), wrong(found)
    done = ojai(host, "doctor", "--fix", "--yes", "--deploy", host.lab.deploy_file)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "only its owner can mend" not in done.stdout and "\nlab: nothing is wrong\n" in done.stdout
    assert "999999" not in host.guest.root(f"cat {UNIT}")


@pytest.mark.whole
def test_what_only_the_owner_can_mend_is_said_and_left(host: Serving) -> None:
    _, make, undo = TROUBLES["somebody else has the port"]
    host.guest.root(f"{make}; sleep 12")
    done = ojai(host, "doctor", "--fix", "--yes", "--deploy", host.lab.deploy_file)
    host.guest.root(undo)
    served(host)
    assert done.returncode == 1
    assert "lab: only its owner can mend port-taken: " in done.stdout
    assert done.stdout.rstrip().endswith("The deploy would mend nothing.")
