"""Who may use the GPU. Owns the groups of /dev/kfd and /dev/dri, and the membership of ``gpu_users`` in them."""

from pyinfra.api.deploy import deploy

from ojai.operations import groups
from ojai.settings import HostSettings

#: udev's rules: `render` for /dev/kfd and renderD*, `video` for card*. Their numbers differ from host to host.
GROUPS = ["video", "render"]


@deploy("Groups")
def apply(*, settings: HostSettings) -> None:
    """Create the groups, set the group of the devices, add the users."""
    groups.system_groups(
        name="Create the groups video and render",
        names=GROUPS,
    )
    groups.devices(
        name="Set group ownership of the GPU devices",
    )
    groups.members(
        name="Add users to the GPU groups",
        groups=GROUPS,
        users=list(settings.gpu_users),
    )


@deploy("Groups: removal")
def remove(*, settings: HostSettings) -> None:
    """Remove the memberships and groups that were added."""
    groups.memberships_removed(name="Remove added group memberships and groups")
