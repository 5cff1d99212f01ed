"""A second look at the memory, once the driver is up: only then does the host know what its GPU has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pyinfra import host
from pyinfra.api import operation

from ojai.facts.report import HostReport, Report
from ojai.operations import Steps
from ojai.operations.progress import refuse


@operation()
def recheck(fact_arguments: Mapping[str, Any], check: Callable[[Report], Sequence[object]]) -> Steps:
    """The host is not refused by ``check``, which sees the report that answers ``fact_arguments``."""
    report = host.get_fact(HostReport, **fact_arguments)
    found = list(check(report)) if report else []
    if found:
        yield refuse("\n".join(str(refusal) for refusal in found))
    else:
        host.noop("what is asked for fits")
