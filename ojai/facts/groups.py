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
