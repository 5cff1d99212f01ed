"""What the ledger of a host says that this project added to it."""

from __future__ import annotations

import shlex

from pyinfra.api import FactBase

from ojai.paths import UNITS


class Added(FactBase[tuple[str, ...]]):
    """The words noted under ``kind`` (see ``ojai.operations.ledger``)."""

    @staticmethod
    def default() -> tuple[str, ...]:
        """Nothing was added."""
        return ()

    def command(self, directory: str, kind: str) -> str:
        """The list, if there is one."""
        file = shlex.quote(f"{directory}/{kind}")
        return f"! test -e {file} || cat {file}"

    def process(self, output: list[str]) -> tuple[str, ...]:
        """One word a line."""
        return tuple(line for line in output if line)


class Loose(FactBase[tuple[str, ...]]):
    """What of ``directory`` (itself, its folders and their files) somebody else than root could change."""

    @staticmethod
    def default() -> tuple[str, ...]:
        """Nothing."""
        return ()

    def command(self, directory: str) -> str:
        """``find`` by owner and mode; links are left out, whose mode says nothing."""
        place = shlex.quote(directory)
        return f"! test -d {place} || find {place} -maxdepth 2 ! -type l '(' ! -user root -o -perm /022 ')'"

    def process(self, output: list[str]) -> tuple[str, ...]:
        """One path a line."""
        return tuple(output)


class OwnUnits(FactBase[tuple[str, ...]]):
    """Every unit of ours on the host: noted in ``directory``, or made by ojai for this name, by its first line.

    A copy of one under another name is somebody else's.
    """

    @staticmethod
    def default() -> tuple[str, ...]:
        """None."""
        return ()

    def command(self, directory: str) -> str:
        """Both, each name once. A note can be lost, and a unit without its note would never be retired."""
        ours = r"s|^[^:]*/([^/:]*)\.service:# Made by ojai for \1 .*|\1.service|p"
        made = f"grep -Hsm 1 '' {UNITS}/*.service | sed -nE '{ours}'"
        return f"{{ cat {shlex.quote(directory)}/units 2>/dev/null; {made}; }} | sort -u"

    def process(self, output: list[str]) -> tuple[str, ...]:
        """One name a line."""
        return tuple(line for line in output if line)
