"""A deploy of one operation: what is unused is told, and removed unless it is a dry run (see ojai/cmdline/prune.py)."""

import json
import sys
from dataclasses import asdict

from pyinfra import config, host

from ojai.connection import configure_connection
from ojai.facts.prune import KeptByOjai
from ojai.operations import prune
from ojai.pyinfra_runs.collect import marked
from ojai.roles import preflight, surface
from ojai.settings.inventory import settings_of

# The login is an ordinary user, and config.py is only read from the folder of the call.
config.SUDO = True

configure_connection(host)
settings = settings_of(host)
if preflight.can_read_ledger():
    surface.watch()
    settings = preflight.with_adopted_caches(settings=settings)
    found = [asdict(one) for one in prune.unused(settings, host.get_fact(KeptByOjai))]
    sys.stdout.write(f"{marked(host.name, json.dumps(found))}\n")
    prune.removed(name="Remove unused images and models", settings=settings)
