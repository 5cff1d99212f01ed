"""The machines of fleet.yaml: a list for each group there, and `fleet` with all of them."""

from pathlib import Path

from ojai.settings.fleet import load

_fleet = load(Path(__file__).with_name("fleet.yaml"))

fleet = _fleet.hosts  # first, so that the hosts keep the file's order
globals().update(_fleet.groups)
