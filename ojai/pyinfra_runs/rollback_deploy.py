"""A deploy of one operation: put the last healthy release back (see ojai/cmdline/rollback.py)."""

from pyinfra import config, host

from ojai.connection import configure_connection
from ojai.operations import release
from ojai.roles import preflight, surface

# The login is an ordinary user, and config.py is only read from the folder of the call.
config.SUDO = True

configure_connection(host)
if preflight.can_read_ledger():
    surface.watch()
    release.restored(name="Roll back to the last healthy release")
