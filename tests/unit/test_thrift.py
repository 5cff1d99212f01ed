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

DATA = """
from pyinfra.api import Config, Inventory, State
from ojai.connection import thrift
thrift.install()
state = State(Inventory((["@local"], {"late": 0}), group=(["@local"], {"of_group": 2})), Config())
(host,) = state.inventory
for _ in range(2):
    assert (host.data.late, host.data.of_group, host.data.get("none", 5)) == (0, 2, 5)
    try:
        host.data.none
    except AttributeError as error:
        assert str(error) == "Host `@local` has no data `none`", error
    else:
        raise SystemExit("it is there")
host.data.none, host.data.late = 1, 3
assert (host.data.none, host.data.late, host.data.get("other")) == (1, 3, None)
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


def test_data_that_a_deploy_sets_is_found_although_it_was_looked_for_before():
    run(DATA)
