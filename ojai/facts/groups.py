"""Unix groups."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from pyinfra.api import FactBase


@dataclass(frozen=True)
class Group:
    """A group's number and its members by name (supplementary ones, as ``getent group`` lists them)."""

    gid: int
    members: tuple[str, ...]


class Groups(FactBase[dict[str, Group]]):
    """The groups of these names that exist."""

    @staticmethod
    def default() -> dict[str, Group]:
        """None of them."""
        return {}

    def command(self, names: tuple[str, ...]) -> str:
        """``getent`` exits 2 when one is missing, which is an answer here."""
        return f"getent group {shlex.join(names)} || true"

    def process(self, output: list[str]) -> dict[str, Group]:
        """Read ``name:x:gid:member,member`` lines."""
        groups = {}
        for line in output:
            name, _, gid, members = line.split(":")
            groups[name] = Group(gid=int(gid), members=tuple(m for m in members.split(",") if m))
        return groups


@dataclass(frozen=True)
class Node:
    """A device node. ``uid``: its owner's number; ``mode``: octal digits."""

    uid: int
    group: str
    mode: str


class GpuDevices(FactBase[dict[str, Node]]):
    """The GPU's device nodes: path -> :class:`Node`. None where no driver is up."""

    @staticmethod
    def default() -> dict[str, Node]:
        """No device."""
        return {}

    def command(self) -> str:
        """One line a node; patterns that match nothing are passed over."""
        return "LC_ALL=C stat -c '%n:%u:%G:%a' /dev/kfd /dev/dri/card* /dev/dri/renderD* 2>/dev/null || true"

    def process(self, output: list[str]) -> dict[str, Node]:
        """Read the lines."""
        found = {}
        for line in output:
            path, uid, group, mode = line.rsplit(":", 3)
            found[path] = Node(uid=int(uid), group=group, mode=mode)
        return found
