"""Unix groups, and the devices that belong to them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from pyinfra.api import FactBase


@dataclass(frozen=True)
class Group:
    """A group's number and its supplementary members by name."""

    gid: int
    members: tuple[str, ...]


class Groups(FactBase[dict[str, Group]]):
    """The groups of these names that exist."""

    @staticmethod
    def default() -> dict[str, Group]:
        """None of them."""
        return {}

    def command(self, names: tuple[str, ...]) -> str:
        """``getent`` fails if one is missing, which is an answer here."""
        return f"getent group {shlex.join(names)} || true"

    def process(self, output: list[str]) -> dict[str, Group]:
        """Read ``name:x:gid:member,member`` lines."""
        groups = {}
        for line in output:
            name, _, gid, members = line.split(":")
            groups[name] = Group(gid=int(gid), members=tuple(m for m in members.split(",") if m))
        return groups


#: What stat calls a device node of a GPU.
DEVICE = "character special file"


@dataclass(frozen=True)
class Node:
    """What is at the path of a device. ``uid`` is its owner's number, ``mode`` octal digits, ``kind`` as stat names
    it."""

    uid: int
    group: str
    mode: str
    kind: str = DEVICE


class GpuDevices(FactBase[dict[str, Node]]):
    """The GPU devices: path -> :class:`Node`. Empty while no driver is loaded."""

    @staticmethod
    def default() -> dict[str, Node]:
        """No device."""
        return {}

    def command(self) -> str:
        """One line per device; patterns that match nothing are skipped."""
        return "LC_ALL=C stat -c '%n:%u:%G:%a:%F' /dev/kfd /dev/dri/card* /dev/dri/renderD* 2>/dev/null || true"

    def process(self, output: list[str]) -> dict[str, Node]:
        """Read the lines."""
        found = {}
        for line in output:
            path, uid, group, mode, kind = line.rsplit(":", 4)
            found[path] = Node(uid=int(uid), group=group, mode=mode, kind=kind)
        return found
