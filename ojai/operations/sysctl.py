"""Kernel parameters as one drop-in of ours, applied and persistent.

pyinfra's ``server.sysctl(persist=True)`` appends a line for each new value, and an old one can win at boot.
"""

from __future__ import annotations

import shlex
from fnmatch import fnmatchcase

from pyinfra import host
from pyinfra.api import operation
from pyinfra.facts.server import Sysctl

from ojai.facts.sysctl import SysctlBoot
from ojai.operations import Steps, steps_or_noop
from ojai.operations.files import text_file
from ojai.operations.ledger import added, note, undo
from ojai.operations.progress import refuse


def _words(value: object) -> list[str]:
    """The parts of a value: the kernel separates several numbers (tcp_rmem) with tabs, a person with blanks."""
    return [str(word) for word in value] if isinstance(value, list) else str(value).split()


@operation()
def drop_in(path: str, values: dict[str, int | str], header: str) -> Steps:
    """Set kernel parameters, now and after every boot.

    Refused if the next boot would undo it: another file that is read later sets one, or nothing reads the files.

    + path: the drop-in, which is entirely ours
    + values: parameter -> value
    + header: comment at the top of the file
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
            "kernel parameters: found systemd-sysctl.service masked, so no boot sets any; expected: not masked. "
            "What to do: `systemctl unmask systemd-sysctl.service`, then run the deploy again."
        )
        return
    text = header + "".join(f"{key} = {value}\n" for key, value in sorted(values.items()))
    changes = list(text_file._inner(path=path, text=text))
    live = host.get_fact(Sysctl, keys=sorted(values)) or {}
    others = {key: live[key] for key, value in values.items() if key in live and _words(live[key]) != _words(value)}
    if others:
        known = {entry.split("=")[0] for entry in added("sysctl")}
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
    """Restore the values that were in force before this project set its own."""
    steps = undo("sysctl", lambda entry: f"sysctl --quiet --write {shlex.quote(entry)}")
    yield from steps_or_noop(steps, "none was set by this project")
