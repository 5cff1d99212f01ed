"""Kernel parameters as one owned drop-in, applied and persistent.

pyinfra's ``server.sysctl(persist=True)`` appends a line for each new value and lets an old one win at boot.
"""

from __future__ import annotations

import shlex
from fnmatch import fnmatchcase

from pyinfra import host
from pyinfra.api import operation
from pyinfra.facts.server import Sysctl

from ojai.facts.ledger import Added
from ojai.facts.sysctl import SysctlBoot
from ojai.operations import Steps
from ojai.operations.files import text_file
from ojai.operations.ledger import ADDED_DIR, forget, note
from ojai.operations.progress import refuse


def _words(value: object) -> list[str]:
    """A value as its words: the kernel prints several numbers (tcp_rmem) with tabs, a person writes blanks."""
    return [str(word) for word in value] if isinstance(value, list) else str(value).split()


@operation()
def drop_in(path: str, values: dict[str, int | str], header: str) -> Steps:
    """``values`` are in force now (kernel) and after the next boot (the file at ``path``, which is wholly ours).

    Refused where the next boot would undo it: a file of others that is read later, or nothing that reads any.
    """
    boot = host.get_fact(SysctlBoot)
    later = [
        f"{file}: {pattern} = {value}"
        for file, pattern, value in boot.after(path)
        if any(fnmatchcase(key, pattern) and _words(expected) != _words(value) for key, expected in values.items())
    ]
    if later:
        yield refuse(
            f"kernel parameters: found {'; '.join(later)}, which is read after {path}; expected: "
            f"{', '.join(f'{key} = {value}' for key, value in sorted(values.items()))}. What to do: remove that line, "
            "or set `sysctl` in the inventory to what it should be, then run the deploy again."
        )
        return
    if boot.masked:
        yield refuse(
            "kernel parameters: found systemd-sysctl.service masked, so that no boot sets any; expected: not masked. "
            "What to do: `systemctl unmask systemd-sysctl.service`, then run the deploy again."
        )
        return
    text = header + "".join(f"{key} = {value}\n" for key, value in sorted(values.items()))
    changes = list(text_file._inner(path=path, text=text))
    live = host.get_fact(Sysctl, keys=sorted(values)) or {}
    others = {key: live[key] for key, value in values.items() if key in live and _words(live[key]) != _words(value)}
    if others:
        known = {entry.split("=")[0] for entry in host.get_fact(Added, directory=ADDED_DIR, kind="sysctl")}
        new = [f"{key}={' '.join(_words(value))}" for key, value in sorted(others.items()) if key not in known]
        if new:
            yield note("sysctl", new)
    yield from changes
    if changes or any(_words(live.get(key)) != _words(value) for key, value in values.items()):
        yield f"sysctl --quiet --load {shlex.quote(path)}"
    else:
        host.noop("in force and persistent")


@operation()
def restored() -> Steps:
    """The values that were in force before this project set its own are in force again."""
    noted = host.get_fact(Added, directory=ADDED_DIR, kind="sysctl")
    for entry in noted:
        key, value = entry.split("=", 1)
        yield f"sysctl --quiet --write {shlex.quote(f'{key}={value}')}"
    if noted:
        yield forget("sysctl", noted)
    else:
        host.noop("none was set by this project")
