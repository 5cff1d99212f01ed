"""The whole machine: from a bare Ubuntu to a Gemma 4 inference host. roles/__init__.py has the roles in their order.

pyinfra inventory/ojai.py deploy.py
"""

from pyinfra import config, host

from ojai.roles import provision

config.SUDO = True  # the login is an ordinary user
provision(host)
