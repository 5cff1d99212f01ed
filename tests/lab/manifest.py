"""Every file of a machine, so that it can be compared with itself: before the first deploy, and after removal."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.lab.machine import Guest

#: What has no place in it: what the kernel makes up, what a boot makes anew, what programs log and cache.
_OUTSIDE = "/proc /sys /dev /run /tmp /var/tmp /var/log /var/cache /lost+found"

_TAKE = f"""
cd /
prune=; for place in {_OUTSIDE}; do prune="$prune -path $place -prune -o"; done
find / -xdev $prune -printf '%y %m %u %g %l\\t%p\\n'
echo ----
find / -xdev $prune -type f -print0 | xargs -0 -n 500 -P 2 sha256sum
"""


def take(guest: Guest) -> dict[str, str]:
    """Kind, mode, owner, group, link target and SHA-256 of everything on the machine's disk, by path."""
    found: dict[str, str] = {}
    shapes, _, sums = guest.root(_TAKE).partition("\n----\n")
    for line in shapes.splitlines():
        shape, _, path = line.partition("\t")
        found[path] = shape.strip()
    for line in sums.splitlines():
        digest, _, path = line.partition("  ")
        found[path] = f"{found.get(path, '?')} {digest}"
    return found


@dataclass(frozen=True)
class Difference:
    """``what``: ``left`` (there now, not before), ``lost`` or ``changed``."""

    path: str
    what: str


def differences(before: dict[str, str], after: dict[str, str]) -> list[Difference]:
    """All of them, by path."""
    found = []
    for path in sorted(before.keys() | after.keys()):
        if path not in before:
            found.append(Difference(path, "left"))
        elif path not in after:
            found.append(Difference(path, "lost"))
        elif before[path] != after[path]:
            found.append(Difference(path, "changed"))
    return found


@dataclass(frozen=True)
class Explanation:
    """A regular expression for whole paths, and why what it matches may differ after removal."""

    pattern: str
    what: str
    why: str


EXPLAINED: tuple[Explanation, ...] = ()


def unexplained(found: list[Difference]) -> list[Difference]:
    """Those that no explanation covers."""
    return [one for one in found if not any(re.fullmatch(e.pattern, one.path) for e in EXPLAINED)]
