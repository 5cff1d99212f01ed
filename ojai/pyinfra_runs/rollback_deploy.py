"""A deploy of one operation: put the last healthy release back (see ojai/cmdline/rollback.py)."""

from pyinfra import config, host

from ojai.connection import configure_connection
from ojai.operations import release
from ojai.roles import preflight

config.SUDO = True  # the login is an ordinary user
configure_connection(host)
if preflight.knows_format():
    release.restored(name="Roll back to the last healthy release")
