"""deploy.py on a container of the lab: the whole of it, but for what a container cannot have (a kernel, a GPU)."""

from types import SimpleNamespace

from pyinfra import config, host

from ojai import deploy
from ojai.preflight import gpu
from ojai.preflight import host as judged

config.SUDO = True
judged.AREAS = tuple(area for area in judged.AREAS if area is not gpu)
deploy.kernel = SimpleNamespace(apply=lambda **_: None, remove=lambda **_: None)
deploy.provision(host)
