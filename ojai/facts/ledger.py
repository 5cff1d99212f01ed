"""The ledger: what this project added to a host."""

from __future__ import annotations

import shlex

from pyinfra.api import FactBase

from ojai.paths import UNITS


class Added(FactBase[tuple[str, ...]]):
    """The entries of the list ``kind`` (see :mod:`ojai.operations.ledger`).

    + directory: where the lists are
    + kind: name of the list
    """

    @staticmethod
    def default() -> tuple[str, ...]:
        """Nothing was added."""
        return ()

    def command(self, directory: str, kind: str) -> str:
        """The list, if it exists."""
        file = shlex.quote(f"{directory}/{kind}")
        return f"! test -e {file} || cat {file}"

    def process(self, output: list[str]) -> tuple[str, ...]:
        """One entry per line."""
        return tuple(line for line in output if line)


class Loose(FactBase[tuple[str, ...]]):
    """Paths in ``directory``, or itself, that others than root could change."""

    @staticmethod
    def default() -> tuple[str, ...]:
        """Nothing."""
        return ()

    def command(self, directory: str) -> str:
        """``find`` by owner and mode, without links, whose mode means nothing."""
        place = shlex.quote(directory)
        return f"! test -d {place} || find {place} -maxdepth 2 ! -type l '(' ! -user root -o -perm /022 ')'"

    def process(self, output: list[str]) -> tuple[str, ...]:
        """One path per line."""
        return tuple(output)


class OwnUnits(FactBase[tuple[str, ...]]):
    """All units of ours on the host: recorded in ``directory``, or made by ojai for this name according to line one.

    A copy of a unit under another name is somebody else's.
    """

    @staticmethod
    def default() -> tuple[str, ...]:
        """None."""
        return ()

    def command(self, directory: str) -> str:
        """Both, each name once: a record can be lost, and its unit would never be removed."""
        ours = r"s|^[^:]*/([^/:]*)\.service:# Made by ojai for \1 .*|\1.service|p"
        made = f"grep -Hsm 1 '' {UNITS}/*.service | sed -nE '{ours}'"
        return f"{{ cat {shlex.quote(directory)}/units 2>/dev/null; {made}; }} | sort -u"

    def process(self, output: list[str]) -> tuple[str, ...]:
        """One name per line."""
        return tuple(line for line in output if line)
