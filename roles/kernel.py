"""The kernel that AMD requires for ROCm on Ryzen APUs, installed and running. Owns its package and the TTM limit."""

from pyinfra.api.deploy import deploy

from ojai.memory import OPTIONS_FILE
from ojai.operations import apt, kernel
from ojai.preflight.lock import arguments
from ojai.settings import HostSettings
from ojai.sizes import PAGE_BYTES

#: In /run, so that a reboot deletes it.
REBOOT_MARKER = "/run/ojai-reboot-required"


def pages_of(settings: HostSettings) -> int | None:
    """The TTM limit in pages of 4096 bytes with the regime `gtt`; None with `carveout`."""
    return settings.gtt_limit // PAGE_BYTES if settings.memory_regime == "gtt" and settings.gtt_limit else None


@deploy("Kernel")
def apply(*, settings: HostSettings) -> None:
    """Install the kernel metapackage, reboot if another kernel runs, and check that it is new enough."""
    apt.packages(
        name="Install the kernel metapackage",
        names=[settings.kernel_package],
        **arguments(settings, settings.families[0]),
    )
    kernel.ttm_limit(
        name="Set the TTM page limit",
        path=OPTIONS_FILE,
        pages=pages_of(settings),
        marker=REBOOT_MARKER,
    )
    kernel.bootable(
        name="Ensure kernel, initramfs and boot entry",
        flavour=settings.kernel_flavour,
    )
    kernel.reboot_if_required(
        name="Reboot into the newest kernel, if required",
        flavour=settings.kernel_flavour,
        policy=settings.kernel_reboot,
        marker=REBOOT_MARKER,
        timeout=settings.kernel_reboot_timeout,
    )
    kernel.at_least(
        name="Check the minimum kernel version",
        flavour=settings.kernel_flavour,
        floor=settings.floor,
        why="ROCm's page on RDNA 3.5: older ones lack KFD's queue and memory checks",
        # With `never` the operator reboots, so an old kernel is only reported.
        strict=settings.kernel_reboot != "never",
    )


@deploy("Kernel: removal")
def remove(*, settings: HostSettings) -> None:
    """Remove the TTM limit. The kernel stays: without the one that runs, the host might have none."""
    kernel.ttm_limit_removed(name="Remove the TTM page limit", path=OPTIONS_FILE, marker=REBOOT_MARKER)
