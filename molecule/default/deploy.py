"""What a container can hold of ../../deploy.py: the roles, as they are, that need no kernel and no GPU."""

from pyinfra import host

from ojai.connection import configure_connection
from ojai.roles import caches, docker, groups, ledger, network, power, rocm, surface, versions, watch
from ojai.settings.inventory import settings_of

configure_connection(host)
settings = settings_of(host)

surface.watch()
ledger.apply()
network.apply(settings=settings)
docker.remove_unused_source(settings=settings)
versions.apply(settings=settings)
power.apply(settings=settings)
groups.apply(settings=settings)
rocm.apply(settings=settings)
docker.apply(settings=settings)
caches.apply(settings=settings)
watch.apply(settings=settings)
surface.apply(settings=settings)
