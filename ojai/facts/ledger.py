"""The ledger: what this project added to a host."""

from __future__ import annotations

import shlex

from ojai.facts import Lines
from ojai.paths import UNITS


class Added(Lines):
    """The entries of the list ``kind`` (see :mod:`ojai.operations.ledger`).

    + directory: where the lists are
    + kind: name of the list
    """

    def command(self, directory: str, kind: str) -> str:
        """The list, if it exists."""
        file = shlex.quote(f"{directory}/{kind}")
        return f"! test -e {file} || cat {file}"


class Kept(Lines):
    """Paths of which something of the owner's is kept in ``directory`` (see :func:`ojai.operations.ledger.keep`)."""

    def command(self, directory: str) -> str:
        """Each path as it was on the host; ``.new`` is what a power cut left half copied."""
        place = shlex.quote(directory)
        return f"! test -d {place} || find {place} ! -type d ! -name '*.new' -printf '/%P\\n' | sort"


class Loose(Lines):
    """Paths in ``directory``, or itself, that others than root could change."""

    def command(self, directory: str) -> str:
        """``find`` by owner and mode, without links, whose mode means nothing."""
        place = shlex.quote(directory)
        return f"! test -d {place} || find {place} -maxdepth 2 ! -type l '(' ! -user root -o -perm /022 ')'"


class OwnUnits(Lines):
    """All units of ours on the host: recorded in ``directory``, or made by ojai for this name according to line one.

    A copy of a unit under another name is somebody else's.
    """

    def command(self, directory: str) -> str:
        """Both, each name once: a record can be lost, and its unit would never be removed."""
        ours = r"s|^[^:]*/([^/:]*)\.service:# Made by ojai for \1 .*|\1.service|p"
        made = f"grep -Hsm 1 '' {UNITS}/*.service | sed -nE '{ours}'"
        return f"{{ cat {shlex.quote(directory)}/units 2>/dev/null; {made}; }} | sort -u"
