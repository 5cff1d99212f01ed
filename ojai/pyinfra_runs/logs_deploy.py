"""A deploy that only reads: prints the logs of services, a marked line each as it comes (see ojai/cmdline/logs.py).

``OJAI_LOGS``, as JSON, says of which services (``services``: by host), and what (:func:`ojai.facts.logs.command`).
"""

import json
import os
import sys
from typing import Any

from pyinfra import config, host
from pyinfra.api import QuoteString, StringCommand

from ojai.connection import channel, privileges
from ojai.facts import logs
from ojai.pyinfra_internals import extract_control_arguments, make_unix_command_for_host
from ojai.pyinfra_runs.collect import marked

config.SUDO = True  # the login is an ordinary user
asked = json.loads(os.environ["OJAI_LOGS"])
script = logs.command(asked["services"][host.name], asked["lines"], asked["since"], asked["follow"])
here = host.state.inventory.get_host(host.name)
arguments: Any = privileges(here)
extract_control_arguments(arguments)
command = make_unix_command_for_host(
    here.state, here, StringCommand("sh", "-c", QuoteString(script)), **arguments
).get_raw_value()
opened = channel.start(here, command, None)
rest = b""
while part := opened.receive(65536):
    *lines, rest = (rest + part).split(b"\n")
    for line in lines:
        sys.stdout.write(marked(here.name, line.decode(errors="replace")) + "\n")
    sys.stdout.flush()
opened.close()
