"""Groups, their members, and the GPU devices that belong to them; what was added is in the ledger.

pyinfra's ``server.user(groups=[…])`` creates a user that does not exist, and reads every account to do so.
"""

from __future__ import annotations

import shlex
from itertools import chain

from pyinfra import host
from pyinfra.api import operation

from ojai.facts.groups import DEVICE, GpuDevices, Groups, Node
from ojai.operations import Steps, steps_or_noop
from ojai.operations.ledger import note, undo
from ojai.operations.progress import refuse, with_progress


@operation()
def system_groups(names: list[str]) -> Steps:
    """Create system groups; the host chooses their numbers.

    + names: the groups
    """
    found = host.get_fact(Groups, names=tuple(names))
    missing = [name for name in names if name not in found]
    if not missing:
        host.noop(f"groups exist: {' '.join(names)}")
        return
    yield note("groups", missing)
    for name in missing:
        yield f"groupadd --system {shlex.quote(name)}"


@operation()
def devices() -> Steps:
    """Let udev set group and mode of the GPU devices, so that only the members of their groups can use them.

    They differ after a group was created again, or after somebody changed them. If they still differ after udev has
    run, a udev rule of others sets it: the files that may contain it are named. Something else in the place of a
    device is refused: only the driver can create a device.
    """
    found = host.get_fact(GpuDevices)
    expected = {path: Node(0, "video" if "/card" in path else "render", "660") for path in found}
    others = [path for path, node in found.items() if node.kind != DEVICE]
    if others:
        yield refuse(
            f"GPU devices: found {', '.join(f'{path}, which is a {found[path].kind}' for path in others)}; expected: "
            "the device that the GPU driver creates when it is loaded. The device was deleted, and a program then "
            f"created a file of its name. What to do: `sudo rm {shlex.join(others)}`, reboot (the driver creates the "
            "device again), then run the deploy again."
        )
        return
    wrong = sorted(path for path, node in found.items() if node != expected[path])
    if not wrong:
        host.noop("all devices belong to their groups")
        return
    # A restart, because udev caches the numbers of groups even when it reloads its rules. Its rules set the group only
    # when a device is added.
    checks = "; ".join(
        f'found=$(stat -c %u:%G:%a {path}); [ "$found" = 0:{expected[path].group}:660 ] || '
        f'wrong="$wrong {path} $found, expected 0:{expected[path].group}:660;"'
        for path in map(shlex.quote, wrong)
    )
    yield with_progress(
        "systemctl restart systemd-udevd.service && "
        "udevadm trigger --settle --action=add --subsystem-match=kfd "
        f"--subsystem-match=drm; wrong=; {checks}; "
        '[ -z "$wrong" ] || { '
        "rules=$(grep -slE 'kfd|drm|renderD|card' /etc/udev/rules.d/* /run/udev/rules.d/* | paste -sd ' '); "
        'echo "GPU devices: found$wrong (owner:group:mode). udev rules that may set this: ${rules:-none found}. '
        'What to do: remove that rule (without one, reboot), then run the deploy again." >&2; exit 1; }',
        f"setting the groups of {' '.join(wrong)}",
    )


@operation()
def members(groups: list[str], users: list[str]) -> Steps:
    """Add users to groups.

    + groups: the groups
    + users: existing accounts, each added to every group
    """
    found = host.get_fact(Groups, names=tuple(groups))
    missing = [
        (user, group) for group in groups for user in users if group not in found or user not in found[group].members
    ]
    if not missing:
        host.noop("all are members")
        return
    yield note("memberships", [f"{user}:{group}" for user, group in missing])
    for user, group in missing:
        yield f"gpasswd --add {shlex.quote(user)} {shlex.quote(group)}"


def _delete_membership(entry: str) -> str:
    user, group = entry.split(":")
    return f"gpasswd --delete {shlex.quote(user)} {shlex.quote(group)} || true"


def _delete_group(group: str) -> str:
    return f"! getent group {shlex.quote(group)} >/dev/null || groupdel {shlex.quote(group)}"


def _delete_user(user: str) -> str:
    return f"! getent passwd {shlex.quote(user)} >/dev/null || userdel {shlex.quote(user)}"


@operation()
def memberships_removed() -> Steps:
    """Remove the memberships, groups and accounts that came with this project."""
    steps = chain(undo("memberships", _delete_membership), undo("users", _delete_user), undo("groups", _delete_group))
    yield from steps_or_noop(steps, "none was added by this project")
