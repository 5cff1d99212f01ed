"""The whole deploy, but for what a container cannot hold: a kernel, its parameters, and a GPU."""

from types import SimpleNamespace

from pyinfra import config, host

from ojai import deploy
from ojai.preflight import gpu
from ojai.preflight import host as judged

_nothing = SimpleNamespace(apply=lambda **_: None, remove=lambda **_: None)

config.SUDO = True
judged.AREAS = tuple(area for area in judged.AREAS if area is not gpu)
deploy.kernel = deploy.sysctl = _nothing
deploy.preflight.recheck = lambda **_: None  # of the GPU, once the kernel runs
deploy.provision(host)
