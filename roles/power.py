"""Whether the host may sleep and has a desktop. Owns five masks, the default target, and what it recorded of them."""

from pyinfra.api.deploy import deploy

from ojai.operations import power
from ojai.settings import HostSettings


@deploy("Power")
def apply(*, settings: HostSettings) -> None:
    """With ``headless``: no sleep and no desktop. Without it, both are as the owner had them."""
    power.configured(name="Configure sleep and the desktop", headless=settings.headless)


@deploy("Power: removal")
def remove(*, settings: HostSettings) -> None:
    """Restore sleep and the desktop."""
    power.configured(name="Restore sleep and the desktop", headless=False)
