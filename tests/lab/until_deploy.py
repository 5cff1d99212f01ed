"""The deploy, up to a place that OJAI_LAB_UNTIL names: what snapshots of a half-made machine are taken of."""

import os

from pyinfra import host

from ojai.connection import configure_connection
from ojai.operations import apt
from ojai.roles import docker, groups, kernel, preflight, rocm, sysctl
from ojai.settings.inventory import settings_of
from tests.operation_names import NAMES

configure_connection(host)
settings = settings_of(host)
until = os.environ["OJAI_LAB_UNTIL"]

if preflight.passes(settings=settings):
    if until == "installed":
        apt.packages(name=NAMES["kernel-metapackage"], names=[settings.kernel_package])
    elif until in ("booted", "engine"):
        kernel.apply(settings=settings)
        if until == "engine":
            groups.apply(settings=settings)
            sysctl.apply(settings=settings)
            rocm.apply(settings=settings)
            docker.apply(settings=settings)
    else:
        raise ValueError(f"OJAI_LAB_UNTIL: found {until!r}; expected installed, booted or engine")
