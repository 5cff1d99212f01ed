"""Who may use the GPU: the groups that own /dev/kfd and /dev/dri, and their members."""

from pyinfra.api.deploy import deploy

from ojai.operations import groups
from ojai.settings import HostSettings

#: udev gives /dev/kfd and renderD* to `render`, card* to `video`. Their numbers differ from host to host.
GROUPS = ["video", "render"]


@deploy("Groups")
def apply(*, settings: HostSettings) -> None:
    """The groups exist and the named users are in them."""
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
    """Memberships and groups that were added are gone."""
    groups.memberships_removed(name="Remove added group memberships and groups")
