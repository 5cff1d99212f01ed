"""A deploy that asks where each host stands in a rollout, and keeps there what came of it (see ojai/rollout).

``OJAI_ROLLOUT``, as JSON: by host, the shell that keeps it. With ``--dry`` it only asks.
"""

import json
import os
import sys

from pydantic import TypeAdapter
from pyinfra import config, host
from pyinfra.operations import server

from ojai.connection import configure_connection
from ojai.facts.rollout import HostStanding, Standing
from ojai.pyinfra_runs.batches import NOTES
from ojai.pyinfra_runs.collect import marked
from ojai.settings import lock
from ojai.settings.inventory import settings_of
from ojai.weights.program import record_name

config.SUDO = True  # the login is an ordinary user
configure_connection(host)
settings = settings_of(host)
locked = lock.read(lock.place(""))
standing = host.get_fact(
    Standing,
    models=tuple(record_name(*one.rsplit("@", 1)) for service in settings.resolved for one in lock.models_of(service)),
    packages=tuple(locked.versions(settings.families)) if locked else (),
)
sys.stdout.write(marked(host.name, TypeAdapter(HostStanding).dump_json(standing).decode()) + "\n")
note = json.loads(os.environ.get(NOTES, "{}")).get(host.name)
if note:
    server.shell(name="Keep what came of the rollout", commands=[note])
