"""Kernel parameters, above all vm.overcommit_memory, without which a 46.5 GB shard cannot be mapped.

Owns one drop-in.
"""

from pyinfra.api.deploy import deploy

from ojai.operations import adoption, files, sysctl
from ojai.paths import SYSCTL_DROP_IN
from ojai.settings import HostSettings

HEADER = """\
# Made by ojai: kernel parameters of an inference host.
# vm.overcommit_memory = 1: vLLM maps each weight shard privately; in mode 0 the kernel refuses a mapping larger
# than RAM and swap together (26B guide, section 5.1).
"""


@deploy("Sysctl")
def apply(*, settings: HostSettings) -> None:
    """Set the parameters, now and after every boot."""
    if settings.adopt:
        adoption.aside(name="Set aside drop-ins that say the same", paths=list(adoption.taken(settings).drop_ins))
    sysctl.drop_in(
        name="Set kernel parameters",
        path=SYSCTL_DROP_IN,
        values=dict(settings.sysctl),
        header=HEADER,
    )


@deploy("Sysctl: removal")
def remove(*, settings: HostSettings) -> None:
    """Remove the drop-in and restore the values from before it."""
    files.absent(name="Remove the sysctl drop-in", paths=[SYSCTL_DROP_IN])
    sysctl.restored(name="Restore previous kernel parameters")
