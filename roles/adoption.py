"""What somebody set up by hand on the host: recorded before the first change, and given back at removal.

Apt sources, drop-ins and the server itself give way where ours take their place: see the roles `sysctl`, `rocm` and
`vllm`.
"""

from pyinfra.api.deploy import deploy

from ojai.operations import adoption
from ojai.preflight.owner import renamed_to
from ojai.settings import HostSettings


@deploy("Adoption")
def apply(*, settings: HostSettings) -> None:
    """Record the owner's servers, and the caches that are used where they are."""
    if not settings.adopt:
        return
    found = adoption.taken(settings)
    names = {service.name for service in settings.resolved}
    adoption.kept(
        name="Record the server and caches to adopt",
        containers=[
            (one.name, one.id, found.unit_of(one), renamed_to(one.name) if one.name in names else "")
            for one in found.containers
        ],
        units=[(unit.name, unit.enabled, unit.active) for unit in found.units],
        folders=settings.adopted_caches,
        tuned={
            file: f"{settings.caches['tunableop']}/{key}/{file.rpartition('/')[2]}" for file, key in found.tuned.items()
        },
    )


@deploy("Adoption")
def resume(*, settings: HostSettings) -> None:
    """Until ours take over, the owner's servers serve: one that a boot or a restart of Docker has ended is started."""
    if settings.adopt:
        adoption.up_again(name="Restart the adopted server if it was interrupted")
