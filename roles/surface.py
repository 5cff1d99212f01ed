"""What decides what the host does, recorded after a deploy: `ojai verify` explains every difference.

Owns /var/lib/ojai/surface, and AIDE's program if it was not there: not its configuration, its database or its job.
"""

from pyinfra import host
from pyinfra.api.deploy import deploy

from ojai import surface
from ojai.operations import apt, files
from ojai.operations import surface as operations
from ojai.settings import HostSettings


def watch() -> None:
    """Have what this run changes recorded as it ends, whatever role or command it is by."""
    operations.watch(host)


@deploy("Surface")
def apply(*, settings: HostSettings) -> None:
    """Install what reads it; record it, last of all."""
    order = surface.order(settings)
    apt.packages(name="Install AIDE", names=[surface.PACKAGE])
    files.text_file(name="Write what reads the surface", path=surface.PROGRAM, text=surface.program_text())
    files.text_file(name="Write what belongs to the surface", path=surface.ORDER, text=order)
    operations.recorded(name="Record the surface", order=order)


@deploy("Surface: removal")
def remove(*, settings: HostSettings) -> None:
    """Remove AIDE if it was installed for this, and the record."""
    apt.packages_removed(name="Remove AIDE", names=[surface.PACKAGE])
    files.absent(name="Remove the record", paths=[surface.FOLDER], recursive=True)
