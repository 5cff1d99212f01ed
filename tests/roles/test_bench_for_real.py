"""`ojai bench INVENTORY` with this machine as the host: pyinfra asks it, the stand-in serves, docker is a stand-in."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.test_modelserver_server import Process

ROOT = Path(__file__).resolve().parents[2]

DOCKER = """#!/bin/sh
# Stand-in for docker: the script of a `run` is run here, with no image around it.
printf '%s\\n' "$*" >> "$FAKE/said"
if [ "$1" = container ]; then echo 'Status=running ExitCode=0 OOMKilled=false Image=vllm/vllm-openai-rocm:v0.20.1'; fi
[ "$1" = run ] || exit 0
while [ "$1" != -c ]; do shift; done
exec sh "$@"
"""
VLLM = f"""#!/bin/sh
unset PYTHONSAFEPATH
cd {ROOT} && exec {sys.executable} -S -m ojai.lab.modelserver "$@"
"""


@pytest.mark.slow
def test_a_host_is_measured_and_swept_and_described(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("reads the host's journal, as root")
    process = Process(tmp_path, "--max-model-len", "32768", OJAI_LAB_TOKEN_SECONDS="0.03").until(200, 60)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("docker", DOCKER), ("vllm", VLLM)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    inventory = tmp_path / "inventory.py"
    service = {"port": process.port, "host": "127.0.0.1", "max_model_len": 32768}
    inventory.write_text(f'hosts = [("@local", {{"services": [{service!r}], "_sudo": False}})]\n')
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "FAKE": str(tmp_path)}
    words = ["--prompt-tokens", "128", "--users", "1", "--repeats", "2", "--answer-tokens", "48"]
    words += ["--sweep", "balanced", "--sweep-prompts", "1", "--json"]
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "ojai", "bench", str(inventory), *words],
            env=environment, capture_output=True, text=True, check=False, timeout=500,
        )  # fmt: skip
    finally:
        process.child.terminate()
        process.child.wait()
    (run,) = json.loads(done.stdout)["runs"]
    # The stand-in's pace is faster than the memory of a real box.
    assert (done.returncode, run["verdict"]) == (1, "suspicious"), done.stderr
    assert [one["code"] for one in run["findings"] if one["rank"] == "failure"] == ["decode-suspicious"]
    (sweep,) = run["sweeps"]
    assert (sweep["completed"], sweep["failed"], sweep["figures"]["total_output_tokens"]) == (1, 0, 1000)
    subject = run["subject"]
    assert subject["image"] == "vllm/vllm-openai-rocm:v0.20.1"
    assert (subject["profile"], subject["kind"], subject["quantization"]) == ("gemma-4-e4b", "dense", "float16")
    assert subject["facts"]["kernel"] == os.uname().release
    assert subject["engine_version"] == "0.20.1" and subject["context"] == 32768
    (kept,) = (tmp_path / "bench").rglob("*.json")
    assert kept.parts[-3:-1] == ("@local", "vllm-gemma4")
    said = (tmp_path / "said").read_text()
    assert said.count("rm --force vllm-gemma4-bench") == 2
