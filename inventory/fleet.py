"""Many machines, as inventory/fleet.yaml has them: a list for each group there, and `fleet` with all of them.

pyinfra inventory/fleet.py deploy.py --limit mini-01
"""

from pathlib import Path

from ojai.settings.fleet import load

_fleet = load(Path(__file__).with_name("fleet.yaml"))

fleet = _fleet.hosts  # first, so that the hosts keep the file's order
globals().update(_fleet.groups)
