"""A deploy of one operation: what `ojai verify` found is left on the host, for those who watch it (see telling.py)."""

import os
import sys

from pyinfra import config, host

from ojai import watch
from ojai.connection import configure_connection
from ojai.facts.files import Existing
from ojai.operations import files
from ojai.paths import UNITS
from ojai.pyinfra_runs.telling import VERDICT

config.SUDO = True  # the login is an ordinary user
configure_connection(host)
if host.get_fact(Existing, paths=(f"{UNITS}/{watch.TIMER}",)):
    files.text_file(name="Leave the verdict of verify", path=watch.VERDICT, text=os.environ[VERDICT])
else:
    sys.stderr.write("what watches is not deployed yet\n")
