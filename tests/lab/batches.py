"""Which drift cases can be run together, so that hours do for what would take a day."""

from __future__ import annotations

from collections.abc import Sequence

from tests.lab.cases import DriftCase
from tests.operation_names import NAMES

#: Operations whose report may come of a restart of Docker, which would fix more than the case.
_DOCKER_RESTARTS = {NAMES["docker-running"], NAMES["docker-answers"], NAMES["vllm-running"]}


def _restarts_docker(case: DriftCase) -> bool:
    return case.role == "Docker" and bool(_DOCKER_RESTARTS & {*case.operations, *case.may})


def compatible(one: DriftCase, other: DriftCase) -> bool:
    """Whether two can be in one batch: neither hides what becomes of the other."""
    if one.solitary or other.solitary or one.own_docker != other.own_docker:
        return False
    if (one.stays, one.harmless) != (other.stays, other.harmless):
        return False
    if one.preflight != other.preflight or bool(one.refused) != bool(other.refused):
        return False
    if one.preflight or one.left:
        return True
    # A restart of Docker restarts the service, and would fix what is wrong with it.
    if {one.role, other.role} == {"Docker", "vLLM"}:
        return False
    if _restarts_docker(one) and _restarts_docker(other):
        return False
    # One failed check of verify would do for both.
    if one.detection == other.detection:
        return False
    # What fixes the one must not be a consequence of fixing the other. A consequence of both may be shared.
    return not any(
        fixed and fixed[0] in (*beside.operations, *beside.may)
        for fixed, beside in ((one.operations, other), (other.operations, one))
    )


def batches(cases: Sequence[DriftCase]) -> list[list[DriftCase]]:
    """As few batches as come from putting each case into the first in which it is compatible with all.

    Those that cover most operations not covered before come first: a run that is cut short has seen most.
    """
    made: list[list[DriftCase]] = []
    # Those that touch most are the hardest to place.
    for case in sorted(cases, key=lambda one: -len({*one.operations, *one.may})):
        for batch in made:
            if all(compatible(case, other) for other in batch):
                batch.append(case)
                break
        else:
            made.append([case])
    order = list(cases)
    waiting = [sorted(batch, key=order.index) for batch in made]
    covered: set[str] = set()
    ordered = []
    while waiting:
        best = max(waiting, key=lambda batch: _worth(batch, covered))
        waiting.remove(best)
        ordered.append(best)
        covered |= _operations(best)
    return ordered


def _operations(batch: Sequence[DriftCase]) -> set[str]:
    return {name for case in batch for name in (*case.operations, *case.hidden)}


def _worth(batch: Sequence[DriftCase], covered: set[str]) -> int:
    """How much a batch is worth when ``covered`` is: a reboot costs three."""
    reboots = sum(
        case.boots + case.undo_boots + case.own_docker + (NAMES["kernel-reboot"] in case.operations) for case in batch
    )
    return 2 * len(_operations(batch) - covered) + len(batch) - 3 * reboots
