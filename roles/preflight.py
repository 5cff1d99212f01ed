"""The gate: is this the machine that the inventory says, and can it hold what is asked of it?"""

from functools import partial

from pyinfra import host, logger, state
from pyinfra.api.exceptions import DeployError

from ojai.connection import refused_by_sudo
from ojai.facts.report import HostReport, Report
from ojai.operations import preflight as preflight_operations
from ojai.preflight.host import budgets, refusals, unknown_format
from ojai.pyinfra_runs.collect import fact_arguments
from ojai.settings import HostSettings

#: Hosts whose GPU memory could not be read yet.
_UNSURE: set[str] = set()


def passes(*, settings: HostSettings) -> bool:
    """Whether the host may be changed. Read while pyinfra still only looks, so `--dry` refuses too.

    A refused host is dropped with every reason named, and the others go on; exit status is 1.
    """
    answer = refused_by_sudo(host)
    if answer:
        return _refuse(
            f"preflight: privilege: found {answer!r}; expected: commands as root, by sudo. What to do: run pyinfra "
            "with --use-sudo-password (or --same-sudo-password), or give the account passwordless sudo."
        )
    report = host.get_fact(HostReport, **fact_arguments(settings))
    if report is None:
        return _refuse("preflight: the host gave no answer; is it reachable, and does sudo work for this account?")
    found = refusals(settings, report)
    if found:
        return _refuse("\n".join(f"preflight: {refusal}" for refusal in found))
    results = budgets(settings, report)
    if not results and settings.services:
        logger.info(f"{host.print_prefix}the GPU's driver is not up yet: its memory is looked at once the kernel runs")
        _UNSURE.add(host.name)
    for name, result in results.items():
        logger.info(f"{host.print_prefix}{result.sentence(name)}")
    return True


def knows_format() -> bool:
    """Whether this ojai knows the format of the state on the host: all that
    removal and rollback ask before they change anything."""
    found = list(unknown_format(host.get_fact(HostReport) or Report()))
    return not found or _refuse("\n".join(f"preflight: {refusal}" for refusal in found))


def once_booted(*, settings: HostSettings) -> None:
    """For a host whose GPU memory was not known before: refuse what does not fit, now that the driver is up."""
    if host.name in _UNSURE:
        preflight_operations.recheck(
            name="Recheck GPU memory after the reboot",
            fact_arguments=fact_arguments(settings),
            check=partial(refusals, settings),
        )


def _refuse(text: str) -> bool:
    # Not state.fail_hosts: in a run without -y it asks whether to go on before the reasons are told.
    state.failed_hosts.add(host)
    state.active_hosts.discard(host)
    if not state.active_hosts:
        raise DeployError("\n".join(f"{host.name}: {line}" for line in text.splitlines()))
    for line in text.splitlines():
        logger.error(f"{host.print_prefix}{line}")
    return False
