"""pyinfra's own settings for this project, and the check of all inventory data before the first connection."""

from pyinfra import config

from ojai.inventory import refuse_faulty_data

config.REQUIRE_PYINFRA_VERSION = "~=3.10"
config.SUDO = True  # the login is an ordinary user

refuse_faulty_data()
