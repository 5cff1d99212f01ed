"""The gate: is this the machine that the inventory says, and can it hold what is asked of it?"""

from pyinfra import host, logger, state
from pyinfra.api.exceptions import DeployError, PyinfraError

from ojai.facts.report import HostReport
from ojai.preflight import budgets, refusals
from ojai.settings import HostSettings


def passes(*, settings: HostSettings) -> bool:
    """Whether the host may be changed. Read while pyinfra still only looks, so `--dry` refuses too.

    A refused host is dropped with every reason named, and the others go on; exit status is 1.
    """
    report = host.get_fact(
        HostReport,
        places=("/var/lib/docker", settings.data_directory),
        users=settings.gpu_users,
        env_files=tuple(server.env_file for server in settings.services),
        images=tuple(settings.command(server).image for server in settings.services),
    )
    if report is None:
        return _refuse("preflight: the host gave no answer; is it reachable, and does sudo work for this account?")
    found = refusals(settings, report)
    if found:
        return _refuse("\n".join(f"preflight: {refusal}" for refusal in found))
    for name, result in budgets(settings, report).items():
        logger.info(f"{host.print_prefix}{result.sentence(name)}")
    return True


def _refuse(text: str) -> bool:
    try:
        state.fail_hosts({host})
    except PyinfraError as error:
        # The last host, or more failures than are allowed: the run ends here, with this as its error.
        raise DeployError("\n".join(f"{host.name}: {line}" for line in text.splitlines())) from error
    for line in text.splitlines():
        logger.error(f"{host.print_prefix}{line}")
    return False
