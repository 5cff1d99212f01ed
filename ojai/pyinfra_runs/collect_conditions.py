"""A deploy that only asks: prints what `ojai doctor` wants to know of each host in a line of JSON (see collect.py)."""

import sys

from pyinfra import config, host

from ojai.facts.condition import Condition
from ojai.facts.readings import services
from ojai.preflight.host import fact_arguments
from ojai.pyinfra_runs.collect import condition_line
from ojai.settings.inventory import settings_of

config.SUDO = True  # the login is an ordinary user
settings = settings_of(host)
answered = host.get_fact(Condition, services=services(settings), report=fact_arguments(settings))
sys.stdout.write(condition_line(host.name, answered) + "\n")
