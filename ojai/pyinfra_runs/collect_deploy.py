"""A deploy that only asks: prints each host's report in a line of JSON (see ojai/survey.py)."""

import sys

from pyinfra import config, host

from ojai.facts.report import HostReport
from ojai.pyinfra_runs.collect import fact_arguments, line
from ojai.settings.inventory import settings_of

config.SUDO = True  # the login is an ordinary user
report = host.get_fact(HostReport, **fact_arguments(settings_of(host)))
if report is not None:
    sys.stdout.write(line(host.name, report) + "\n")
