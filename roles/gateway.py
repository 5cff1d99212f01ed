"""The gateway: nginx before the engines, with TLS and keys. Owns /etc/ojai/gateway, three units, nginx if it is ours.

An nginx of the owner's, its configuration and its unit are not touched: ours has its own.
"""

import hashlib
from functools import partial

from pyinfra import host
from pyinfra.api.deploy import deploy

from ojai import gateway
from ojai.facts.report import HostReport
from ojai.operations import apt, files, release
from ojai.operations import gateway as operations
from ojai.preflight.gateway import packages
from ojai.preflight.host import fact_arguments
from ojai.releases import serving_of
from ojai.settings import HostSettings


def key_sums(settings: HostSettings) -> dict[str, str | None]:
    """The sum of each key that the inventory has from elsewhere; None in a run that asks for no secret."""
    return {
        name: key and hashlib.sha256(key.encode()).hexdigest()
        for name, source in settings.gateway_key_sources.items()
        for key in [source.read()]
    }


@deploy("Gateway")
def apply(*, settings: HostSettings) -> None:
    """Install nginx, make keys and a certificate, and run it before the engines are taken off the network.

    What serves is not touched: should a step fail, it serves on as before.
    """
    if not gateway.wanted(settings):
        return
    report = host.get_fact(HostReport, **fact_arguments(settings))
    names = gateway.names(settings, host.name, host.data.get("ssh_hostname") or "")
    operations.package_unit_masked(name="Mask nginx's own unit")
    apt.packages(name="Install nginx", names=packages(report), state=gateway.STATE)
    files.text_file(
        name="Write the gateway's configuration",
        path=gateway.CONFIGURATION,
        text=gateway.configuration(settings),
        mode="600",
    )
    files.text_file(name="Write the gateway's key check", path=gateway.SCRIPT, text=gateway.key_script())
    files.text_file(name="Write the certificate's program", path=gateway.RENEWAL, text=gateway.renewal_script())
    if not settings.gateway_certificate:
        operations.certificate(name="Make or renew the certificate", names=names)
    operations.keys(
        name="Make and revoke keys",
        names=list(settings.gateway_keys),
        sums=key_sums(settings),
        renewed=dict(settings.gateway_keys_renewed),
        overlap_hours=settings.gateway_key_overlap,
    )
    for what, path in zip(("gateway's unit", "renewal's unit", "renewal's timer"), gateway.UNIT_FILES, strict=True):
        files.text_file(name=f"Write the {what}", path=path, text=gateway.unit(path, settings, names))
    operations.running(
        name="Start the gateway",
        inputs=gateway.inputs(settings),
        on_failure=partial(release.report_unchanged, services=[serving_of(server) for server in settings.resolved]),
    )


@deploy("Gateway")
def remove_unused(*, settings: HostSettings) -> None:
    """Stop the gateway of a host that is not to have one (any more), after its engines are up without it."""
    if not gateway.wanted(settings):
        operations.stopped(name="Stop the gateway that is no longer configured")


@deploy("Gateway: removal")
def remove(*, settings: HostSettings) -> None:
    """Remove the gateway with its keys and certificates, and nginx if it was installed for it."""
    operations.stopped(name="Stop the gateway")
    files.absent(
        name="Remove the gateway's files", paths=[*gateway.UNIT_FILES, gateway.FOLDER, gateway.CACHE], recursive=True
    )
    apt.packages_removed(name="Remove nginx", names=[*gateway.PACKAGES, gateway.OPENSSL])
    operations.package_unit_unmasked(name="Unmask nginx's own unit")
