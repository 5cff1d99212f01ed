"""Group membership, with a note of what was added.

pyinfra's ``server.user(groups=[…])`` creates a user that does not exist, and reads every account to do so.
"""

from __future__ import annotations

import shlex

from pyinfra import host
from pyinfra.api import operation

from ojai.facts.groups import GpuDevices, Groups, Node
from ojai.facts.ledger import Added
from ojai.operations import Steps
from ojai.operations.ledger import ADDED_DIR, forget, note
from ojai.operations.progress import with_progress


@operation()
def system_groups(names: list[str]) -> Steps:
    """System groups of these names exist, with whatever number the host gives them."""
    missing = [name for name in names if name not in host.get_fact(Groups, names=tuple(names))]
    if not missing:
        host.noop(f"groups exist: {' '.join(names)}")
        return
    yield note("groups", missing)
    for name in missing:
        yield f"groupadd --system {shlex.quote(name)}"


@operation()
def devices() -> Steps:
    """The GPU's device nodes belong to their groups and are closed to everybody else, as udev's own rules have it.

    A node that is not (a group was made anew, somebody changed it) is given by udev once more; where it is still not
    then, a rule of others says so, and the files that may be it are named.
    """
    found = host.get_fact(GpuDevices)
    expected = {path: Node(0, "video" if "/card" in path else "render", "660") for path in found}
    wrong = sorted(path for path, node in found.items() if node != expected[path])
    if not wrong:
        host.noop("all devices belong to their groups")
        return
    # Restarted: udev keeps the numbers of groups, also when told to read its rules again. Its rules give devices to
    # groups when a device is added, and then only.
    checks = "; ".join(
        f'found=$(stat -c %u:%G:%a {path}); [ "$found" = 0:{expected[path].group}:660 ] || '
        f'wrong="$wrong {path} $found, expected 0:{expected[path].group}:660;"'
        for path in map(shlex.quote, wrong)
    )
    yield with_progress(
        "systemctl restart systemd-udevd.service && "
        "udevadm trigger --settle --action=add --subsystem-match=kfd "
        f"--subsystem-match=drm; wrong=; {checks}; "
        '[ -z "$wrong" ] || { echo "GPU devices: found$wrong (owner:group:mode). Rules that may say so: '
        "$(grep -slE 'kfd|drm|renderD|card' /etc/udev/rules.d/* /run/udev/rules.d/* | paste -sd ' '). "
        'What to do: remove that rule, then run the deploy again." >&2; exit 1; }',
        f"giving {' '.join(wrong)} to their groups",
    )


@operation()
def members(groups: list[str], users: list[str]) -> Steps:
    """Every one of ``users`` (existing accounts) is in every one of ``groups``."""
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


@operation()
def memberships_removed() -> Steps:
    """The memberships and groups that this project added are gone again."""
    memberships = host.get_fact(Added, directory=ADDED_DIR, kind="memberships")
    for entry in memberships:
        user, group = entry.split(":")
        yield f"gpasswd --delete {shlex.quote(user)} {shlex.quote(group)} || true"
    if memberships:
        yield forget("memberships", memberships)
    groups = host.get_fact(Added, directory=ADDED_DIR, kind="groups")
    for group in groups:
        yield f"! getent group {shlex.quote(group)} >/dev/null || groupdel {shlex.quote(group)}"
    if groups:
        yield forget("groups", groups)
    if not memberships and not groups:
        host.noop("none was added by this project")
