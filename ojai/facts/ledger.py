"""What the ledger of a host says that this project added to it."""

from __future__ import annotations

import shlex

from pyinfra.api import FactBase


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
