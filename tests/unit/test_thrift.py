"""What pyinfra works out once instead of each time is the same: in a process that pyinfra's command line may patch."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

BOTH = """
import importlib, runpy, sys
from ojai.connection import thrift

theirs, ours, same = importlib.import_module("pyinfra.api.util").get_operation_order_from_stack, thrift.order, []

def both(state):
    one, other = ours(state), theirs(state)
    same.append(one == other and len(one) > 1)
    return one

thrift.order = both
sys.argv = ["pyinfra", "--dry", "inventory/fake.py", "deploy.py"]
try:
    runpy.run_module("pyinfra", run_name="__main__")
except SystemExit:
    pass
connectors = importlib.import_module("pyinfra.api.connectors")
print("RESULT", len(same), all(same), connectors.get_all_connectors.cache_info().misses, file=sys.__stdout__)
"""

ARGUMENTS = """
from pyinfra.api import arguments, connectors
before = arguments.all_global_arguments(), connectors.get_all_connectors()
from ojai.connection import thrift
thrift.install()
thrift.install()
assert (arguments.all_global_arguments(), connectors.get_all_connectors()) == before
assert arguments.all_global_arguments() is arguments.all_global_arguments()
"""


def run(text: str) -> str:
    argv = [sys.executable, "-c", text]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_each_operation_of_the_deploy_stands_where_pyinfra_says():
    (line,) = [line for line in run(BOTH).splitlines() if line.startswith("RESULT")]
    _, count, same, looked_up = line.split()
    assert int(count) > 60 and same == "True" and looked_up == "1"


def test_arguments_and_connectors_are_those_of_pyinfra():
    run(ARGUMENTS)
