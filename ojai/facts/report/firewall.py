"""By which connection these questions came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# sudo keeps it from its children, not from the processes above it.
SCRIPT = r"""
pid=$$
while [ "${pid:-0}" -gt 1 ]; do
  came=$(tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ" | sed -n 's/^SSH_CONNECTION=//p')
  [ -z "$came" ] || { say came_by "$came"; break; }
  pid=$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | cut -d' ' -f2)
done
"""


@dataclass(frozen=True)
class CameBy:
    """The SSH connection, as the host sees it; empty and 0 where there is none.

    + client: address that it comes from
    + port: of the host's sshd
    """

    client: str = ""
    port: int = 0


def read(every: Mapping[str, Sequence[str]]) -> CameBy:
    """Read the answer: client, its port, the host's address, the host's port."""
    words = next(iter(every.get("came_by", ())), "").split()
    return CameBy(words[0].partition("%")[0], int(words[3])) if len(words) == 4 and words[3].isdigit() else CameBy()
