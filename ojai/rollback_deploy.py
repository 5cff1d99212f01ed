"""A deploy of one operation: put the last healthy release back (see ojai/cmdline/rollback.py)."""

from pyinfra import host

from ojai.connection import tune
from ojai.operations import release
from roles import preflight

tune(host)
if preflight.understands():
    release.put_back(name="Put the last healthy release back")
