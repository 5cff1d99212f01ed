"""What watches the host: Prometheus, node exporter, Alertmanager. Owns drop-ins of their units, its folder, two units.

The packages run by their own units. What the owner has of the three is joined, and not touched.
"""

from pyinfra import host
from pyinfra.api.deploy import deploy

from ojai import watch
from ojai.facts.report import HostReport, Report
from ojai.operations import apt, files
from ojai.operations import watch as operations
from ojai.preflight.host import fact_arguments
from ojai.settings import HostSettings


def found(settings: HostSettings) -> Report:
    """What the host has."""
    return host.get_fact(HostReport, **fact_arguments(settings)) or Report()


@deploy("Watch")
def apply(*, settings: HostSettings) -> None:
    """With ``watch``: install, configure and run it, after all that serves. Without: nothing of it."""
    if not watch.wanted(settings):
        textfiles = watch.parts(settings, found(settings).watch).textfiles
        operations.gone(name="Remove what watches and is no longer configured", textfiles=textfiles)
        return
    own = watch.parts(settings, found(settings).watch)
    others = [package for package in watch.PACKAGES if package not in own.packages]
    secrets = sorted(settings.watch_secrets) if own.alertmanager else []
    for each in host.loop(secrets):
        files.secret_text(
            name=f"Write the {each} of alerts",
            path=f"{watch.SECRET_FOLDER}/{each}",
            text=settings.watch_secrets[each].read(),
        )
    operations.configured(name="Configure what watches", written=watch.files(settings, host.name, own))
    apt.packages_removed(name="Remove what need not watch", names=others)
    apt.packages(
        name="Install what watches", names=own.packages, state=watch.STATE, users=watch.USERS, groups=watch.USERS
    )
    ports = {name: port for name, port in watch.ports(settings).items() if name in own.packages}
    operations.running(
        name="Start what watches",
        ports=ports,
        secrets=[f"{watch.SECRET_FOLDER}/{each}" for each in secrets],
    )


@deploy("Watch: removal")
def remove(*, settings: HostSettings) -> None:
    """Remove it all, with its samples."""
    report = host.get_fact(HostReport) or Report()
    operations.gone(name="Remove what watches", textfiles=watch.parts(settings, report.watch).textfiles)
