"""A deploy that only measures: runs the engine's own program beside a service of a host (see collect.py)."""

import json
import os
import sys

from pydantic import TypeAdapter
from pyinfra import config, host

from ojai.engines import Workload
from ojai.facts.benchmark import Benchmark
from ojai.pyinfra_runs.collect import WORKLOADS, marked
from ojai.settings.inventory import settings_of

config.SUDO = True  # the login is an ordinary user
wanted, workloads = TypeAdapter(tuple[str, dict[str, Workload]]).validate_json(os.environ[WORKLOADS])
found = {}
for service in settings_of(host).resolved:
    if service.name == wanted:
        for name, load in workloads.items():
            output = host.get_fact(Benchmark, argv=service.engine.benchmark(service, load))
            found[name] = [output.text, output.errors]
sys.stdout.write(marked(host.name, json.dumps(found)) + "\n")
