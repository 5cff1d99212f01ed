"""Group membership, with a note of what was added.

pyinfra's ``server.user(groups=[…])`` creates a user that does not exist, and reads every account to do so.
"""

from __future__ import annotations

import shlex

from pyinfra import host
from pyinfra.api import operation

from ojai.facts.groups import Groups
from ojai.facts.ledger import Added
from ojai.operations import Steps
from ojai.operations.ledger import ADDED_DIR, forget, note


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
def withdrawn() -> Steps:
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
