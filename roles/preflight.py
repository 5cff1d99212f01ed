"""Checks before the first change: is this the machine of the inventory, and does what it is to serve fit?"""

from functools import partial

from pyinfra import host, logger, state

from ojai.connection import lock, privileges, refused_by_sudo
from ojai.connection.alone import refuse_host
from ojai.connection.lock import RUNNING
from ojai.facts.report import HostReport, Report
from ojai.operations import preflight as preflight_operations
from ojai.preflight import FailedCheck, firewall, gateway, owner, packages, power, secrets, tuning, upstream
from ojai.preflight import lock as pins
from ojai.preflight import weights as to_fetch
from ojai.preflight.docker import remarks
from ojai.preflight.host import ask, fact_arguments, failed_after_boot, failed_checks, newer
from ojai.preflight.memory import budgets
from ojai.preflight.memory import warnings as memory_warnings
from ojai.settings import HostSettings

_NO_ANSWER = (
    "preflight: login: found no answer; expected the host's report. What to do: see that the host is reachable and "
    "that sudo works for this account (`ssh HOST sudo id` prints a line). A startup file of its shell, such as "
    "~/.bashrc, that ends the shell or starts another program must do so in a terminal only; its first line: "
    "`case $- in *i*) ;; *) return ;; esac`."
)


def passes(*, settings: HostSettings) -> HostSettings | None:
    """The settings in force on the host, or None if it may not be changed.

    Read while pyinfra still only looks, so `--dry` refuses too.

    A refused host is dropped with every reason named, and the others go on; exit status is 1.
    """
    if not _reserved():
        return None
    asked, (settings, report) = settings, ask(host.get_fact, settings)
    if report is None:
        _refuse(_NO_ANSWER)
        return None
    rows = owner.findings(asked.using(report.owner.adopted), report)
    for line in owner.table(rows) if rows else ():
        logger.info(f"{host.print_prefix}{line}")
    _say_running(report)
    found = failed_checks(settings, report) or list(secrets.failed(settings, report))
    if found:
        _refuse("\n".join(f"preflight: {failed}" for failed in found))
        return None
    report = upstream.asked(host.get_fact, settings, report)
    of_services = (f"{service.name}: {warning}" for service in settings.resolved for warning in service.warnings)
    of_host = (
        *gateway.warnings(settings, report),
        *firewall.warnings(settings, report),
        *power.warnings(settings, report),
        *packages.warnings(settings, report),
        *memory_warnings(settings),
    )
    for warning in (*of_host, *of_services):
        logger.warning(f"{host.print_prefix}{warning}")
    for remark in (
        *remarks(settings, report),
        *to_fetch.remarks(settings, report),
        *pins.remarks(settings, report),
        *tuning.remarks(settings, report),
    ):
        logger.info(f"{host.print_prefix}{remark}")
    results = budgets(settings, report)
    if not results and settings.services:
        logger.info(f"{host.print_prefix}the GPU driver is not loaded yet: its memory is checked after the reboot")
    for name, result in results.items():
        logger.info(f"{host.print_prefix}{result.sentence(name)}")
    return settings


def can_read_ledger() -> bool:
    """Whether the host is free, and ojai's notes on it can be read: all that removal and rollback ask."""
    if not _reserved():
        return False
    report = host.get_fact(HostReport)
    if report is None:
        return _refuse(_NO_ANSWER)
    _say_running(report)
    found = list(newer(report))
    return not found or _refuse("\n".join(f"preflight: {refusal}" for refusal in found))


def may_fetch(*, settings: HostSettings) -> HostSettings | None:
    """The settings in force on the host, or None if its models may not be fetched: all that `ojai fetch` asks."""
    if not _reserved():
        return None
    settings, report = ask(host.get_fact, settings)
    if report is None:
        _refuse(_NO_ANSWER)
        return None
    _say_running(report)
    found = [*newer(report), *to_fetch.failed(settings, report), *secrets.failed(settings)]
    if found:
        _refuse("\n".join(f"preflight: {refusal}" for refusal in found))
        return None
    for remark in to_fetch.remarks(settings, report):
        logger.info(f"{host.print_prefix}{remark}")
    return settings


def with_adopted_caches(*, settings: HostSettings) -> HostSettings:
    """The settings with the caches that an adoption recorded on the host."""
    return settings.using((host.get_fact(HostReport) or Report()).owner.adopted)


def recheck(*, settings: HostSettings) -> None:
    """Refuse what does not fit once the kernel role is through: now the driver must be up, and every limit in force."""
    preflight_operations.recheck(
        name="Recheck the GPU after the kernel",
        fact_arguments=fact_arguments(settings),
        check=partial(_not_fit, settings),
    )


def _not_fit(settings: HostSettings, report: Report) -> list[FailedCheck]:
    # While pyinfra looks, the reboot is still to come.
    return failed_after_boot(settings, report) if state.is_executing else failed_checks(settings, report)


def _has_privileges() -> bool:
    """Whether this run can do as root what it is to do."""
    answer = refused_by_sudo(host)
    if not answer:
        return True
    todo = "run pyinfra with --use-sudo-password (or --same-sudo-password), or give the account passwordless sudo"
    if "must have a tty" in answer:
        todo = "delete `Defaults requiretty` from /etc/sudoers and /etc/sudoers.d (`sudo visudo`)"
    if "change your password" in answer or "password has expired" in answer.lower():
        todo = "log in to the host once, and give the account a new password"
    if "sudo" in answer and "not found" in answer:
        todo = "install sudo there (as root: apt install sudo), or log in as root with `_sudo: False` in the data"
    return _refuse(f"preflight: privilege: found {answer!r}; expected: commands as root, by sudo. What to do: {todo}.")


def _reserved() -> bool:
    """Whether no other deploy runs on the host, and none can start before this run ends. A dry run takes no lock.

    Nothing is read before the lock is there: what another run was about to change would be kept.
    """
    if lock.only_looks(state):
        return _has_privileges()
    try:
        taken = lock.take(host, privileges(host))
    except lock.LockError as error:
        return _has_privileges() and _refuse(
            f"preflight: deploy lock: found {error}; expected to take {lock.FILE} with flock, as root. "
            "What to do: see that /run can be written to and util-linux is installed."
        )
    if taken.busy:
        return _refuse(
            f"preflight: deploy lock: found another deploy running here: {taken.busy}; expected one at a time. "
            f"What to do: wait until it ends. A run that died frees the host within {lock.PATIENCE} s."
        )
    if taken.died:
        logger.warning(f"{host.print_prefix}the last deploy here did not end in order: {taken.died}; this one goes on")
    return True


def _say_running(report: Report) -> None:
    if report.running and lock.only_looks(state):
        logger.warning(f"{host.print_prefix}{RUNNING}: {report.running}. What is found here may be half changed.")


def _refuse(text: str) -> bool:
    refuse_host(state, state.inventory.get_host(host.name), text)  # `host` is whichever is current
    return False
