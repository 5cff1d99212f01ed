"""A deploy that only asks: prints each host's report in a line of JSON (see collect.py)."""

import os
import sys

from pyinfra import config, host

from ojai.preflight import upstream
from ojai.preflight.host import ask
from ojai.pyinfra_runs.collect import UPSTREAM, line
from ojai.settings.inventory import settings_of

config.SUDO = True  # the login is an ordinary user
settings, report = ask(host.get_fact, settings_of(host))
if report is not None:
    if os.environ.get(UPSTREAM):
        report = upstream.asked(host.get_fact, settings, report)
    sys.stdout.write(line(host.name, report) + "\n")
