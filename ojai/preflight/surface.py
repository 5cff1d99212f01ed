"""What stands between the deploy and the host: it would change something else than it means to."""

from __future__ import annotations

from collections.abc import Iterator

from ojai.facts.report import Report
from ojai.preflight import FailedCheck
from ojai.settings import HostSettings
from ojai.surface import unexplained


def failed(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """Mounts over our folders, device nodes that were replaced, programs before those that the deploy calls."""
    for one in unexplained(settings, report.surface):
        kind, found = one.kind(settings), str(one)
        todo = f"{kind.todo}; or, if it is meant, `ojai verify INVENTORY --accept {one.what!r} --why TEXT`"
        if not kind.red:
            continue
        if one.what.startswith("mount: "):
            yield FailedCheck(
                "file systems", found, "what ojai manages to be on the file systems of the last deploy", todo
            )
        elif one.what.startswith("device: "):
            yield FailedCheck("device nodes", found, "the node that the kernel made", todo)
        elif one.what.startswith("docker client: "):
            yield FailedCheck("Docker's client", found, "root's client as it was after the last deploy", todo)
        else:
            yield FailedCheck("programs", found, "the program of the package, first on root's PATH", todo)
