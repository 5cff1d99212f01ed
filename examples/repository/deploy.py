"""The whole machine: what ojai makes of it, then your own roles.

pyinfra --dry inventory/fake.py deploy.py       # without a machine
pyinfra --dry inventory/fleet.py deploy.py      # what would change on yours
pyinfra inventory/fleet.py deploy.py            # do it
"""

import sys
from pathlib import Path

from pyinfra import config, host

from ojai.deploy import provision

sys.path.insert(0, str(Path(__file__).resolve().parent))  # this repository's `roles`, whatever folder this is called in
from roles import open_webui

config.SUDO = True  # the login is an ordinary user

if host.data.get("removed"):
    open_webui.remove()  # before ojai removes Docker
if provision(host):  # False for a host that is refused, or that is being removed
    open_webui.apply()
