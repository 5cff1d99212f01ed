"""`vllm bench serve`: the command, the stand-in's own program, and JSON that the real one wrote."""

import json
import os
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from test_modelserver_server import MODEL, REPOSITORY, Process

from ojai import engines
from ojai.engines.vllm import benchmark
from ojai.gauge import sweep
from ojai.settings import parse

DATA = Path(__file__).parent / "data" / "bench"
ENGINE = engines.get("vllm")
LOAD = engines.Workload(input_tokens=100, output_tokens=20, prompts=4, seed=1)


def service(**settings):
    return parse("mini", {"services": [{"port": 8001, **settings}]}).resolved[0]


def test_the_container_is_the_services_image_without_gpu_or_secret():
    argv = ENGINE.benchmark(service(host="127.0.0.1"), LOAD)
    line = shlex.join(argv)
    assert argv[:2] == ("docker", "run") and "--rm" in argv and "--pull=never" in argv
    assert "--device" not in line and 'OPENAI_API_KEY="${VLLM_API_KEY:-}"' in line
    assert "--env-file=/etc/ojai/vllm-gemma4.env" in argv
    assert "type=bind,src=/srv/ojai/huggingface,dst=/root/.cache/huggingface,readonly" in argv
    assert argv[argv.index("-c") - 1] == service().image
    words = argv[argv.index("bench") + 1 :]
    pairs = dict(pairwise(words))
    assert pairs["--base-url"] == "http://127.0.0.1:8001" and pairs["--num-prompts"] == "4"
    assert (pairs["--random-input-len"], pairs["--random-output-len"]) == ("100", "20")


def test_the_recipes_workloads():
    loads = {name: sweep.workload(name, 16, 0) for name in sweep.names()}
    assert {name: (load.input_tokens, load.output_tokens) for name, load in loads.items()} == {
        "prompt-heavy": (8000, 1000),
        "decode-heavy": (1000, 8000),
        "balanced": (1000, 1000),
    }
    assert sweep.too_long(loads["balanced"], 2048) == ""
    assert "9000 tokens are longer than the served context of 2048" in sweep.too_long(loads["prompt-heavy"], 2048)
    assert sweep.too_long(loads["prompt-heavy"], None) == ""


def test_what_the_real_program_wrote():
    """vLLM 0.28.0 on a CPU, run: once well, once against a model that the server does not have. Its status was 0."""
    good = sweep.read("balanced", LOAD, ENGINE, (DATA / "bench-serve.json").read_text(), "a warning")
    assert good.ok and good.error == "" and good.figures["total_output_tokens"] == 80
    bad = sweep.read("balanced", LOAD, ENGINE, (DATA / "bench-serve-all-failed.json").read_text(), "Error 0: Not Found")
    assert not bad.ok and (bad.completed, bad.failed, bad.error) == (0, 4, "Error 0: Not Found")


@pytest.mark.parametrize("text", ["", "Traceback", "[]", '{"duration": 1}'])
def test_a_program_that_wrote_no_result(text):
    found = sweep.read("balanced", LOAD, ENGINE, text, "no such image")
    assert not found.ok and found.failed == 4 and "it printed no result: no such image" in found.error


def test_requests_that_were_lost_without_a_word():
    found = sweep.read("balanced", LOAD, ENGINE, '{"completed": 3, "failed": 0}', "")
    assert not found.ok and found.failed == 1


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    process = Process(tmp_path_factory.mktemp("server"), "--max-model-len", "2048", VLLM_API_KEY="hunter2")
    process.until(200, 60)
    yield process
    process.child.terminate()
    process.child.wait()


def run(folder, server, *more, model=MODEL, key="hunter2"):
    """The script of the container, with the stand-in as its `vllm`."""
    program = folder / "vllm"
    program.write_text(
        f'#!/bin/sh\nunset PYTHONSAFEPATH\ncd {REPOSITORY} && exec {sys.executable} -S -m ojai.lab.modelserver "$@"\n'
    )
    program.chmod(0o755)
    argv = ENGINE.benchmark(service(host="127.0.0.1", model=model), LOAD)
    words = [*argv[argv.index("-c") :], *more]
    words[words.index("--base-url") + 1] = f"http://127.0.0.1:{server.port}"
    words[words.index("--served-model-name") + 1] = model
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "VLLM_API_KEY": key}
    return subprocess.run(["sh", *words], env=environment, capture_output=True, text=True, check=False)


def test_the_stand_ins_program_measures_and_says_it_as_the_real_one(server, tmp_path):
    done = run(tmp_path, server)
    found = sweep.read("balanced", LOAD, ENGINE, done.stdout, done.stderr)
    assert found.ok, done.stderr
    assert found.figures["total_output_tokens"] == 80 and found.figures["median_ttft_ms"] > 0
    assert server.metrics()['vllm:prompt_tokens_total{engine="0",model_name="google/gemma-4-E4B-it"}'] == 400
    real = json.loads((DATA / "bench-serve.json").read_text())
    written = json.loads(done.stdout)
    assert set(written) <= set(real)
    assert set(real) - set(written) == {"max_output_tokens_per_s", "max_concurrent_requests", "rtfx"}


def test_the_stand_ins_program_ends_well_when_all_requests_failed(server, tmp_path):
    done = run(tmp_path, server, model="google/gemma-4-E2B-it")
    assert done.returncode == 0
    found = sweep.read("balanced", LOAD, ENGINE, done.stdout, done.stderr)
    assert (found.completed, found.failed, found.ok) == (0, 4, False)
    assert "Error 0: Not Found" in done.stderr
    wrong = run(tmp_path, server, key="wrong")
    assert json.loads(wrong.stdout)["failed"] == 4 and "Error 0: Unauthorized" in wrong.stderr


def test_a_flag_that_the_program_does_not_have(server, tmp_path):
    done = run(tmp_path, server, "--nosuch-flag")
    assert "unrecognized arguments: --nosuch-flag" in done.stderr
    assert benchmark.read(done.stdout) == {}
