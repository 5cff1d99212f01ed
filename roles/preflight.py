"""The gate: is this the machine that the inventory says, and can it hold what is asked of it?"""

from pyinfra import host, logger, state
from pyinfra.api.exceptions import DeployError

from ojai.facts.report import HostReport
from ojai.preflight import budgets, refusals
from ojai.settings import HostSettings
from ojai.survey import questions


def passes(*, settings: HostSettings) -> bool:
    """Whether the host may be changed. Read while pyinfra still only looks, so `--dry` refuses too.

    A refused host is dropped with every reason named, and the others go on; exit status is 1.
    """
    report = host.get_fact(HostReport, **questions(settings))
    if report is None:
        return _refuse("preflight: the host gave no answer; is it reachable, and does sudo work for this account?")
    found = refusals(settings, report)
    if found:
        return _refuse("\n".join(f"preflight: {refusal}" for refusal in found))
    for name, result in budgets(settings, report).items():
        logger.info(f"{host.print_prefix}{result.sentence(name)}")
    return True


def _refuse(text: str) -> bool:
    # Not state.fail_hosts: in a run without -y it asks whether to go on before the reasons are told.
    state.failed_hosts.add(host)
    state.active_hosts.discard(host)
    if not state.active_hosts:
        raise DeployError("\n".join(f"{host.name}: {line}" for line in text.splitlines()))
    for line in text.splitlines():
        logger.error(f"{host.print_prefix}{line}")
    return False
