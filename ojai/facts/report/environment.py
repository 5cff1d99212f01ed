"""What Docker would not read, or not as it is meant, in the environment files. No value and no text leaves the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

#: The rules are Docker's own (docker/cli, pkg/kvfile): blanks before a name and lines that begin with # are skipped,
#: the value is passed on as it stands, quotes and comments included.
SCRIPT = r"""
for file in %ENV_FILES%; do
  [ ! -L "$file" ] || { say env_fault "$file 0 link"; continue; }
  [ -f "$file" ] || { [ ! -e "$file" ] || say env_fault "$file 0 kind"; continue; }
  iconv -f UTF-8 -t UTF-8 "$file" >/dev/null 2>&1 || say env_fault "$file 0 encoding"
  awk '
    { sub(/\r$/, ""); if (NR == 1) sub(/^\357\273\277/, ""); sub(/^[ \t]+/, "") }
    /^#/ || $0 == "" { next }
    {
      at = index($0, "="); name = at ? substr($0, 1, at - 1) : $0; value = at ? substr($0, at + 1) : ""
      fault = ""
      secret = name ~ /TOKEN|KEY|SECRET|PASSWORD/
      if (name == "") fault = "nameless"
      else if (name ~ /^export[ \t]/) fault = "export"
      else if (name ~ /[ \t]/) fault = "blank"
      else if (value ~ /^".*"[ \t]*$/ || value ~ /^\047.*\047[ \t]*$/) fault = "quotes"
      else if (value ~ /[ \t]#([ \t]|$)/) fault = "comment"
      else if (secret && value ~ /[ \t]/) fault = "spaces"
      else if (name ~ /^(HF_TOKEN|HUGGING_FACE_HUB_TOKEN)$/ && value ~ /[="\047]/) fault = "token"
      if (fault) print NR " " fault
    }' "$file" | while read -r fault; do say env_fault "$file $fault"; done
done
"""


@dataclass(frozen=True)
class EnvironmentFiles:
    """``faults``: file -> line number (0: the file itself) and a word for what is wrong there."""

    faults: dict[str, tuple[tuple[int, str], ...]] = field(default_factory=dict)


def read(every: Mapping[str, Sequence[str]]) -> EnvironmentFiles:
    """Read the lines of the report."""
    faults: dict[str, tuple[tuple[int, str], ...]] = {}
    for entry in every.get("env_fault", ()):
        file, number, word = entry.rsplit(" ", 2)
        faults[file] = (*faults.get(file, ()), (int(number), word))
    return EnvironmentFiles(faults)
