"""The models that were fetched on a host: which commit, and whether every file of it is there."""

from __future__ import annotations

from dataclasses import dataclass

from pyinfra.api import FactBase

from ojai.facts import script
from ojai.weights.program import STATE


@dataclass(frozen=True)
class Fetched:
    """A model that was fetched. ``whole``: every file that was verified is still there, as large as it was."""

    commit: str
    whole: bool
    files: int = 0
    size: int = 0


_RECORDS = r"""
tab=$(printf '\t')
for record do
  [ -f "$state/$record" ] || continue
  commit=$(sed -n "s/^commit$tab//p" "$state/$record")
  folder=$hub/${record%@*}/snapshots/$commit
  files=0 size=0 whole=no
  [ "$(tail -n 1 "$state/$record")" != complete ] || whole=yes
  while IFS=$tab read -r key bytes _ path; do
    [ "$key" = file ] || continue
    files=$((files + 1)) size=$((size + bytes))
    [ "$(stat -L -c %s "$folder/$path" 2>/dev/null)" = "$bytes" ] || whole=no
  done < "$state/$record"
  printf '%s\t%s\t%s\t%s\t%s\n' "$record" "$commit" "$whole" "$files" "$size"
done
"""


class FetchedModels(FactBase[dict[str, Fetched]]):
    """The :class:`Fetched` models by the names of their records.

    + cache: the Hugging Face cache, where the files are
    + records: names of the records that are looked for
    """

    @staticmethod
    def default() -> dict[str, Fetched]:
        """None."""
        return {}

    def command(self, cache: str, records: tuple[str, ...]) -> str:
        """A tab-separated line for each that there is. Sizes are compared, hashes were when it was fetched."""
        return script(_RECORDS, *records, state=STATE, hub=f"{cache}/hub") if records else "true"

    def process(self, output: list[str]) -> dict[str, Fetched]:
        """Read the lines."""
        found = {}
        for line in output:
            words = line.split("\t")
            if len(words) == 5:
                found[words[0]] = Fetched(words[1], words[2] == "yes", int(words[3]), int(words[4]))
        return found
