"""A deploy that makes tuning files, and waits until what uses them serves again (see ojai/cmdline/tune.py)."""

import json
import os

from pyinfra import config, host

from ojai.connection import configure_connection
from ojai.operations import service as services
from ojai.operations import tune
from ojai.pyinfra_runs.collect import TUNED
from ojai.roles import preflight
from ojai.settings.inventory import settings_of

# The login is an ordinary user, and config.py is only read from the folder of the call.
config.SUDO = True

asked = json.loads(os.environ[TUNED])
configure_connection(host)
settings = settings_of(host)
if preflight.can_read_ledger():
    settings = preflight.with_adopted_caches(settings=settings)
    chosen = [one for one in settings.resolved if one.name in asked["services"]]
    for service in host.loop(chosen):
        tune.tuned(
            name=f"{service.name}: make the tuning file",
            service=service,
            minutes=asked["minutes"],
            again=asked["again"],
        )
        services.ready(
            name=f"{service.name}: wait until it is healthy",
            unit=service.unit,
            port=service.port,
            model=service.command.served_model_name,
            timeout=service.start_timeout,
            address=service.address,
            api=service.engine.api,
        )
