"""Each service is resolved once: how often its command is built in a whole run, counted in pyinfra's own process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent / "inventories"

#: pyinfra's command line, with the engine's builder of commands wrapped: it notes the service and its group numbers.
COUNTING = """
import json, runpy, sys
import pyinfra_cli
from ojai.engines.vllm import command

built, build = [], command.build

def counted(service):
    built.append([service.name, bool(service.group_ids)])
    return build(service)

command.build = counted
report = sys.argv.pop(1)
try:
    runpy.run_module("pyinfra", run_name="__main__")
finally:
    with open(report, "w") as file:
        json.dump(built, file)
"""


@pytest.mark.parametrize("option", ["--dry", "-y"])
def test_a_converged_run_builds_each_command_twice_the_second_time_with_the_host_s_numbers(option, tmp_path):
    inventory = tmp_path / "one.py"
    serving = f"runpy.run_path({str(HERE / 'serving.py')!r})['serving'][0][1]"
    groups = {"getent group video render": ["video:x:44:ada", "render:x:992:ada"]}
    two = [
        {"name": "chat", "port": 8000, "gpu_memory_utilization": 0.5, "max_model_len": 32768},
        {"name": "draw", "port": 8001, "gpu_memory_utilization": 0.4, "max_model_len": 32768},
    ]
    inventory.write_text(
        f"import runpy\n_data = {serving}\n"
        f"_data = {{**_data, 'services': {two!r}, "
        f"'fake_responses': {{**_data['fake_responses'], **{groups!r}}}}}\n"
        "one = [('@fake/one', _data)]\n"
    )
    report = tmp_path / "built.json"
    done = subprocess.run(
        [sys.executable, "-c", COUNTING, str(report), option, str(inventory), "deploy.py"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "chat: write the systemd unit" in done.stderr, done.stderr
    built = json.loads(report.read_text())
    for name in ("chat", "draw"):
        assert [numbers for service, numbers in built if service == name] == [False, True], built
