"""Every file of a machine, so that it can be compared with itself: before the first deploy, and after removal."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.lab import results
from tests.lab.machine import Guest

#: What has no place in it: what the kernel makes up, what a boot makes anew, what programs log and cache.
_OUTSIDE = "/proc /sys /dev /run /tmp /var/tmp /var/log /var/cache /lost+found"

_TAKE = f"""
cd /
prune=; for place in {_OUTSIDE}; do prune="$prune -path $place -prune -o"; done
find / -xdev $prune -printf '%y %m %u %g %l\\t%p\\n'
echo ----
find / -xdev $prune -type f -size -100000k -print0 | xargs -0 -n 500 -P 2 sha256sum
"""


def take(guest: Guest) -> dict[str, str]:
    """Kind, mode, owner, group, link target and SHA-256 (up to 100 MB) of everything on the machine's disk, by path."""
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
    """A regular expression for whole paths, what it matches in words, and why that may differ after removal."""

    pattern: str
    what: str
    why: str


_KERNEL = "the kernel stays: taking away the one that runs could leave a host that does not boot"

EXPLAINED = (
    Explanation(
        r"/boot/(vmlinuz|initrd\.img|System\.map|config)-.*|/(vmlinuz|initrd\.img)(\.old)?|/boot",
        "kernel images and their initramfs in /boot",
        _KERNEL + "; the other kernels' initramfs are made anew when the TTM limit is set and taken away",
    ),
    Explanation(r"/boot/grub(/.*)?", "GRUB's menu", _KERNEL),
    Explanation(r"/(usr/)?lib/modules(/.*)?", "the kernel's modules", _KERNEL),
    Explanation(
        r"/var/lib/dpkg/(info/(linux-image|linux-base).*|triggers/.*)|/var/lib/initramfs-tools(/.*)?"
        r"|/var/lib/linux-image.*|/usr/share/(doc|bug|lintian/overrides)/linux-.*",
        "what the kernel's packages keep on record",
        _KERNEL,
    ),
    Explanation(
        r"/var/lib/dpkg/(status|available|diversions|statoverride)(-old)?|/var/lib/apt/extended_states"
        r"|/var/lib/apt/lists(/(?!.*(rocm|graphics|docker)).*)?|/var/lib/dpkg(/info|/updates|/triggers)?",
        "apt's and dpkg's own records",
        "they have the kernel's packages, and the lists of the system's own archive that apt has read since",
    ),
    Explanation(
        r"/etc/(passwd|group|shadow|gshadow)-",
        "backup copies of the account files",
        "the system's own: the state before its last change",
    ),
    Explanation(
        r"/var/lib/(systemd|logrotate|private|dbus|dhcp|ucf|chrony|polkit-1|sudo|man-db)(/.*)?|/var/backups(/.*)?"
        r"|/etc/(\.pwd\.lock|machine-id|\.updated|adjtime|resolv\.conf)|/var/\.updated",
        "what the system itself writes as it runs",
        "clocks, timers, random seeds; nothing of this project",
    ),
)


def unexplained(found: list[Difference]) -> list[Difference]:
    """Those that no explanation covers."""
    return [one for one in found if not any(re.fullmatch(e.pattern, one.path) for e in EXPLAINED)]


def page() -> str:
    """docs/reference/removal.md."""
    return (
        "# What removal leaves\n\n"
        "Written by `make reference` from tests/lab/manifest.py; not by hand.\n\n"
        "With `removed: true` and `removed_data: true` a host is as it was before the first deploy. A test of `make "
        "test` compares the lab's machine before and after, file by file: kind, mode, owner, link target and SHA-256 "
        f"(of files up to 100 MB) of everything on its disk but {', '.join(_OUTSIDE.split()[:-1])}. Any "
        "difference that is not in this list fails it.\n\n"
        + results.table(["differs", "why"], [[results.cell(e.what), results.cell(e.why)] for e in EXPLAINED])
        + "\nAlso put back: kernel parameters have the values that were in force before the first deploy. Without "
        "`removed_data` the data folders stay. Packages go that this project installed, and what came with them unless "
        "something else needs it by now; what was there before stays, whoever needs it.\n"
    )


def write_page() -> None:
    """Write the page."""
    (results.REFERENCE / "removal.md").write_text(page())


if __name__ == "__main__":
    write_page()
