"""Kernel parameters as one owned drop-in, applied and persistent.

pyinfra's ``server.sysctl(persist=True)`` appends a line for each new value and lets an old one win at boot.
"""

from __future__ import annotations

import shlex

from pyinfra import host
from pyinfra.api import operation
from pyinfra.facts.server import Sysctl

from ojai.operations import Steps
from ojai.operations.files import text_file


def _words(value: object) -> list[str]:
    """A value as its words: the kernel prints several numbers (tcp_rmem) with tabs, a person writes blanks."""
    return [str(word) for word in value] if isinstance(value, list) else str(value).split()


@operation()
def drop_in(path: str, values: dict[str, int | str], header: str) -> Steps:
    """``values`` are in force now (kernel) and after the next boot (the file at ``path``, which is wholly ours)."""
    text = header + "".join(f"{key} = {value}\n" for key, value in sorted(values.items()))
    changes = list(text_file._inner(path=path, text=text))
    yield from changes
    live = host.get_fact(Sysctl, keys=sorted(values)) or {}
    if changes or any(_words(live.get(key)) != _words(value) for key, value in values.items()):
        yield f"sysctl --quiet --load {shlex.quote(path)}"
    else:
        host.noop("in force and persistent")
