"""A deploy of one operation: put the last healthy release back (see ojai/cmdline/rollback.py)."""

from pyinfra import config, host

from ojai.connection import configure_connection
from ojai.operations import release
from ojai.roles import preflight

# As config.py has it, of which there may be none where this is called.
config.SUDO = True
config.ENV = {"LC_ALL": "C.UTF-8"}

configure_connection(host)
if preflight.understands():
    release.restored(name="Roll back to the last healthy release")
