"""pyinfra's own settings for this project, and the check of all inventory data before the first connection."""

from pyinfra import config

from ojai.connection import prepare_run
from ojai.settings.inventory import refuse_faulty_data

config.REQUIRE_PYINFRA_VERSION = "~=3.10"
config.SUDO = True  # for `pyinfra INVENTORY exec` and `fact`; the deploy says so itself

refuse_faulty_data()
prepare_run()  # sentences instead of tracebacks, and a recap of every host at the end
