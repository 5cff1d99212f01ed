"""pyinfra's settings for stock pyinfra: nothing that ../../config.py has beside them."""

from pyinfra import config

config.SUDO = True
