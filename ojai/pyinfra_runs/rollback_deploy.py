"""A deploy of one operation: put the last healthy release back (see ojai/cmdline/rollback.py)."""

from pyinfra import host

from ojai.connection import configure_connection
from ojai.operations import release
from ojai.roles import preflight

configure_connection(host)
if preflight.understands():
    release.restored(name="Roll back to the last healthy release")
