"""``ojai fetch`` on hosts made of air: what is asked of them, what is said, and the exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ojai.weights.program import FAILURE, RESULT

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL = {
    **{"service": "vllm-gemma4", "model": "google/gemma-4-E4B-it", "asked": "main", "revision": COMMIT, "files": 7},
    **{"bytes": 15_200_000_595, "bytes_before": 5_200_000_000, "bytes_fetched": 10_000_000_595, "seconds": 912.4},
}
INVENTORY = """
from ojai.fake import fake_host

def host(name, answers, **data):
    known, found = fake_host(name, data)
    return known, {{**found, "fake_responses": {{**answers, **found["fake_responses"]}}}}

def older(name, answers, report):
    known, found = host(name, answers)
    return known, {{**found, "fake_responses": {{**found["fake_responses"], "ojai-host-report": report}}}}

hosts = [{hosts}]
"""
GOOD = f'host("good", {{"python3 -I /var/lib/ojai": [{RESULT + json.dumps([MODEL])!r}]}})'
BAD = (
    f'host("bad", {{"python3 -I /var/lib/ojai": ['
    f"{FAILURE + json.dumps({'code': 'token-missing', 'words': {'service': 'svc', 'model': 'm/x'}})!r}]}})"
)
NONE = 'host("none", {}, services=[])'


def ojai(tmp_path: Path, *words: str, hosts: str) -> subprocess.CompletedProcess[str]:
    inventory = tmp_path / "hosts.py"
    inventory.write_text(INVENTORY.format(hosts=hosts))
    return subprocess.run(
        [sys.executable, "-m", "ojai", "fetch", str(inventory), *words],
        cwd=tmp_path, env={**os.environ, "NO_COLOR": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_host_that_has_its_models(tmp_path):
    done = ojai(tmp_path, "--json", hosts=f"{GOOD}, {NONE}")
    assert done.returncode == 0, done.stderr
    hosts = json.loads(done.stdout)["hosts"]
    assert hosts == [
        {"host": "@fake/good", "ok": True, "models": [MODEL]},
        {"host": "@fake/none", "ok": True, "models": []},
    ]
    assert (
        f"google/gemma-4-E4B-it at {COMMIT[:12]}: 7 files, 15.2 GB, 10.0 GB fetched, verified in 912 s" in done.stderr
    )
    assert "about 15.2 GB of google/gemma-4-E4B-it to fetch" in done.stderr
    # The step alone: nothing of the machine but the ledger, the caches and the client.
    assert (
        "Docker | " not in done.stderr and "vLLM | " not in done.stderr and "Weights | Fetch the weights" in done.stderr
    )


def test_a_host_that_has_not_is_said_with_what_to_do_and_the_others_go_on(tmp_path):
    done = ojai(tmp_path, hosts=f"{BAD}, {GOOD}")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "svc: weights of m/x: found no token" in done.stderr and "https://huggingface.co/m/x" in done.stderr
    assert "failed" in done.stdout and "10.0 GB" in done.stdout


@pytest.mark.parametrize(("python", "said"), [("none", "none that is whole"), ("3.8", "python3 is 3.8")])
def test_a_host_without_the_python_that_is_needed(tmp_path, python, said):
    report = f'[*fake_host("x", {{}})[1]["fake_responses"]["ojai-host-report"], "python\\t{python}"]'
    changed = GOOD.replace("host(", "older(", 1).removesuffix(")") + f", {report})"
    done = ojai(tmp_path, "--json", hosts=changed)
    assert done.returncode == 1 and not json.loads(done.stdout)["hosts"][0]["ok"]
    assert f"preflight: Python: found {said}; expected 3.11 or newer" in done.stderr
    assert "Install the hub client" not in done.stderr
