"""Whether a deploy is running on the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ojai.connection import lock
from ojai.connection.lock import Run

SCRIPT = f"""
[ ! -e {lock.FILE} ] || say running "$({lock.LOOK})"
"""


def read(every: Mapping[str, Sequence[str]]) -> Run | None:
    """The run that holds the deploy lock; the one that asks, if it holds it."""
    return lock.read(every.get("running", ("",))[0])
