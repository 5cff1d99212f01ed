"""The step of the deploy that fetches models, alone (see ojai/cmdline/fetch.py)."""

import json
import sys
from typing import Any

from pyinfra import config, host

from ojai.connection import configure_connection
from ojai.pyinfra_runs.collect import marked
from ojai.roles import caches, ledger, network, preflight, surface, weights
from ojai.settings.inventory import settings_of

# The login is an ordinary user, and config.py is only read from the folder of the call.
config.SUDO = True

configure_connection(host)


told: list[dict[str, Any]] = []


def tell(found: list[dict[str, Any]], name: str = host.name, told: list[dict[str, Any]] = told) -> None:
    """Print what a host has so far, for the command to read; by then, `host` is another."""
    told += found
    sys.stdout.write(f"{marked(name, json.dumps(told))}\n")


settings = preflight.may_fetch(settings=settings_of(host))
if settings is not None:
    surface.watch()
    ledger.apply()
    network.apply(settings=settings)  # authorities of the owner's own: a mirror's, a proxy's
    caches.apply(settings=settings.model_copy(update={"move_adopted_caches": False}))
    weights.apply(settings=settings, report=tell)
