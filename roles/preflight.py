"""Checks before the first change: is this the machine of the inventory, and does what it is to serve fit?"""

from functools import partial

from pyinfra import host, logger, state
from pyinfra.api.exceptions import DeployError

from ojai.connection import refused_by_sudo
from ojai.connection.recap import note_refusal
from ojai.facts.report import HostReport, Report
from ojai.operations import preflight as preflight_operations
from ojai.preflight import owner
from ojai.preflight.host import ask, fact_arguments, failed_checks, newer
from ojai.preflight.memory import budgets
from ojai.settings import HostSettings

#: Hosts whose GPU memory could not be read yet.
_UNSURE: set[str] = set()


def passes(*, settings: HostSettings) -> HostSettings | None:
    """The settings in force on the host, or None if it may not be changed.

    Read while pyinfra still only looks, so `--dry` refuses too.

    A refused host is dropped with every reason named, and the others go on; exit status is 1.
    """
    answer = refused_by_sudo(host)
    if answer:
        todo = "run pyinfra with --use-sudo-password (or --same-sudo-password), or give the account passwordless sudo"
        if "sudo" in answer and "not found" in answer:
            todo = "install sudo there (as root: apt install sudo), or log in as root with `_sudo: False` in the data"
        _refuse(f"preflight: privilege: found {answer!r}; expected: commands as root, by sudo. What to do: {todo}.")
        return None
    asked, (settings, report) = settings, ask(host.get_fact, settings)
    if report is None:
        _refuse("preflight: the host gave no answer; is it reachable, and does sudo work for this account?")
        return None
    rows = owner.findings(asked.using(report.owner.adopted), report)
    for line in owner.table(rows) if rows else ():
        logger.info(f"{host.print_prefix}{line}")
    found = failed_checks(settings, report)
    if found:
        _refuse("\n".join(f"preflight: {failed}" for failed in found))
        return None
    for service in settings.resolved:
        for warning in service.warnings:
            logger.warning(f"{host.print_prefix}{service.name}: {warning}")
    results = budgets(settings, report)
    if not results and settings.services:
        logger.info(f"{host.print_prefix}the GPU driver is not loaded yet: its memory is checked after the reboot")
        _UNSURE.add(host.name)
    for name, result in results.items():
        logger.info(f"{host.print_prefix}{result.sentence(name)}")
    return settings


def can_read_ledger() -> bool:
    """Whether ojai's notes on the host can be read: all that removal and rollback ask before they change anything."""
    found = list(newer(host.get_fact(HostReport) or Report()))
    if found:
        _refuse("\n".join(f"preflight: {refusal}" for refusal in found))
    return not found


def with_adopted_caches(*, settings: HostSettings) -> HostSettings:
    """The settings with the caches that an adoption recorded on the host."""
    return settings.using((host.get_fact(HostReport) or Report()).owner.adopted)


def recheck_memory(*, settings: HostSettings) -> None:
    """For a host whose GPU memory was not known before: refuse what does not fit, now that the driver is up."""
    if host.name in _UNSURE:
        preflight_operations.recheck(
            name="Recheck GPU memory after the reboot",
            fact_arguments=fact_arguments(settings),
            check=partial(failed_checks, settings),
        )


def _refuse(text: str) -> None:
    note_refusal(host, text)
    # Not state.fail_hosts: in a run without -y it asks whether to go on before the reasons are printed.
    refused = state.inventory.get_host(host.name)  # `host` is whichever is current
    state.failed_hosts.add(refused)
    state.active_hosts.discard(refused)
    if not state.active_hosts:
        raise DeployError("\n".join(f"{host.name}: {line}" for line in text.splitlines()))
    for line in text.splitlines():
        logger.error(f"{host.print_prefix}{line}")
