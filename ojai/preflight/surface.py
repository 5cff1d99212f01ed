"""What stands between the deploy and the host: it would change something else than it means to."""

from __future__ import annotations

from collections.abc import Iterator

from ojai.facts.report import Report
from ojai.preflight import FailedCheck
from ojai.settings import HostSettings
from ojai.surface import unexplained

_CHECKS = {
    "mount": ("file systems", "it to be mounted as it was after the last deploy: what is hidden under it is ours"),
    "device": ("device nodes", "the node that the kernel made"),
    "docker client": ("Docker's client", "root's client to ask the daemon of this host, as after the last deploy"),
}
_PROGRAM = ("programs", "the program of the package, first on root's PATH")


def failed(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """Mounts over our folders, device nodes that were replaced, programs before those that the deploy calls."""
    for one in unexplained(settings, report.surface):
        kind = one.kind(settings)
        if kind.red:
            check, expected = _CHECKS.get(one.what.partition(": ")[0], _PROGRAM)
            todo = f"{kind.todo}; or, if it is meant, `ojai verify INVENTORY --accept {one.what!r} --why TEXT`"
            yield FailedCheck(check, str(one), expected, todo)
