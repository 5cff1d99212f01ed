"""What a deploy leaves on a host, read from its root file system, so that two hosts can be compared."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import subprocess
from pathlib import Path

FOLDERS = ("etc", "srv", "opt", "usr/lib/systemd/system")
#: What says nothing of a deploy: made anew on every host or at any time, kept as a backup, or ojai's own notes.
NOISE = re.compile(
    r"etc/(ssh/|machine-id|hostname|hosts|resolv\.conf|ld\.so\.cache|\.updated|\.pwd\.lock|[^/]*-$|.*\.dpkg-)"
    r"|etc/(passwd|shadow|gshadow|subuid|subgid)$"
)

#: Path -> what it is, its mode, its owner, and a hash of what is in it or where it leads.
State = dict[str, str]


def taken(tree: Path) -> State:
    """The state of the host whose root file system this is."""
    found: State = {}
    for top in FOLDERS:
        for folder, folders, files in os.walk(tree / top):
            for name in (*folders, *files):
                path = Path(folder, name)
                inside = str(path.relative_to(tree))
                if not NOISE.match(inside):
                    found[inside] = _described(path, inside)
    query = [
        "dpkg-query",
        f"--admindir={tree / 'var/lib/dpkg'}",
        "-W",
        "-f",
        "${Package} ${Version} ${db:Status-Abbrev}\\n",
    ]
    for line in subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines():
        name, _, rest = line.partition(" ")
        found[f"package {name}"] = rest
    return found


def _described(path: Path, inside: str) -> str:
    status = path.lstat()
    kind = f"{stat.filemode(status.st_mode)} {status.st_uid}:{status.st_gid}"
    if path.is_symlink():
        target = str(path.readlink())
        return f"{kind} -> {target.removeprefix('/usr') if 'systemd/system/' in target else target}"
    if not path.is_file():
        return kind
    text = path.read_bytes()
    if inside == "etc/group":  # numbers and order depend on which package came first
        entries = (line.split(b":") for line in text.splitlines())
        text = b"\n".join(sorted(fields[0] + b":" + b",".join(sorted(fields[3].split(b","))) for fields in entries))
    return f"{kind} {hashlib.sha256(text).hexdigest()[:16]}"


def differences(one: State, other: State) -> list[str]:
    """What is not the same in both."""
    keys = sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
    return [f"{key}: {one.get(key)} / {other.get(key)}" for key in keys]
