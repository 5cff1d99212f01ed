"""Preflight checks again, once the right kernel runs: only then does a host know what its GPU has."""

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
    """Repeat a preflight check with a new report of the host.

    + fact_arguments: arguments of the fact ``HostReport``
    + check: gives the reasons to refuse a host with this report
    """
    report = host.get_fact(HostReport, **fact_arguments)
    found = list(check(report)) if report else ["preflight: the host no longer answers; run the deploy again"]
    if found:
        yield refuse("\n".join(str(refusal) for refusal in found))
    else:
        host.noop("no reason to refuse the host")
