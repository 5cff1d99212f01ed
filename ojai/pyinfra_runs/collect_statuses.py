"""A deploy that only asks: prints how each host is at this moment in a line of JSON (see collect.py)."""

import sys

from pyinfra import config, host

from ojai.facts.readings import services
from ojai.facts.status import Status
from ojai.pyinfra_runs.collect import status_line
from ojai.settings.inventory import settings_of

config.SUDO = True  # the login is an ordinary user
settings = settings_of(host)
status = host.get_fact(Status, services=services(settings), data=settings.data_directory)
sys.stdout.write(status_line(host.name, status) + "\n")
