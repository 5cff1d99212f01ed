"""Whether the kernel has the rule set of :mod:`ojai.firewall`."""

from __future__ import annotations

import shlex

from ojai import firewall
from ojai.facts import Lines, Yes, script

# nft itself tells how the rules look once they are loaded: in a network namespace that ends with the question.
_LOADED = rf"""
list='nft -s list table {firewall.TABLE}'
found=$($list 2>/dev/null) && [ -n "$found" ] &&
  [ "$found" = "$(printf '%s' "$rules" | unshare --net sh -c "nft -f - && $list" 2>/dev/null)" ] && echo yes || true
"""


class RulesThere(Lines):
    """What there is of ours: its units, its file, and the name of the table in the kernel."""

    def command(self) -> str:
        """One line for each."""
        files = shlex.join((*firewall.UNIT_FILES.values(), firewall.RULES))
        return (
            f'for path in {files}; do [ ! -e "$path" ] || echo "$path"; done; '
            f"! nft list table {firewall.TABLE} >/dev/null 2>&1 || echo {shlex.quote(firewall.TABLE)}"
        )


class RulesLoaded(Yes):
    """Whether the kernel has these rules, and no others, in our table.

    + rules: as nft reads them
    """

    def command(self, rules: str) -> str:
        """Prints ``yes`` if it has."""
        return script(_LOADED, rules=rules)
