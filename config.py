"""pyinfra's own settings for this project, and the check of all inventory data before the first connection."""

from pyinfra import config

from ojai.connection import prepare_run
from ojai.settings.inventory import refuse_faulty_data

config.REQUIRE_PYINFRA_VERSION = "~=3.10"
config.SUDO = True  # the login is an ordinary user
config.ENV = {"LC_ALL": "C.UTF-8"}  # what is read from a host must not depend on its language

refuse_faulty_data()
prepare_run()  # sentences instead of tracebacks, and a recap of every host at the end
