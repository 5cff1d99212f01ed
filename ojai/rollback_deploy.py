"""A deploy of one operation: put the last healthy release back (see ojai/cmdline/rollback.py)."""

from pyinfra import host

from ojai.connection import tune
from ojai.inventory import settings_of
from ojai.operations import release
from ojai.releases import serving_of

tune(host)
settings = settings_of(host)
release.put_back(
    name="Put the last healthy release back", services=[serving_of(settings, s) for s in settings.services]
)
