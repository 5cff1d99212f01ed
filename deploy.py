"""The whole machine, top to bottom: from a bare Ubuntu to a Gemma 4 inference host.

pyinfra inventory/ojai.py deploy.py
"""

from pyinfra import config, host
from pyinfra.api import Host

from ojai.connection import configure_connection
from ojai.roles import (
    adoption,
    caches,
    docker,
    firewall,
    gateway,
    groups,
    kernel,
    ledger,
    network,
    power,
    preflight,
    rocm,
    surface,
    sysctl,
    versions,
    vllm,
    watch,
    weights,
)
from ojai.settings.inventory import settings_of


def provision(host: Host) -> bool:
    """Provision ``host``, or remove what was added to it.

    Returns whether roles of your own may follow: not when the host is refused, or when everything is being removed.
    """
    configure_connection(host)
    settings = settings_of(host)
    if settings.removed:
        if preflight.can_read_ledger():  # refuses a host last deployed by a newer ojai
            settings = preflight.with_adopted_caches(settings=settings)
            surface.remove(settings=settings)
            watch.remove(settings=settings)
            gateway.remove(settings=settings)
            vllm.remove(settings=settings)
            weights.remove(settings=settings)
            firewall.remove(settings=settings)
            caches.remove(settings=settings)
            docker.remove(settings=settings)
            rocm.remove(settings=settings)
            sysctl.remove(settings=settings)
            groups.remove(settings=settings)
            kernel.remove(settings=settings)
            versions.remove(settings=settings)
            power.remove(settings=settings)
            network.remove(settings=settings)
            ledger.remove()  # what the others read, so last; gives back what was the owner's
        return False
    fit = preflight.passes(settings=settings)  # refuses before anything is changed
    if fit is None:
        return False
    settings = fit
    surface.watch()  # sees how the host is before the first change
    ledger.apply()  # records what is added, so that it can be removed again
    network.apply(settings=settings)  # proxies of apt, authorities of the owner's own
    adoption.apply(settings=settings)  # records the owner's server and caches, with `adopt: true`
    docker.remove_unused_source(settings=settings)  # removes an apt source of Docker's that is no longer configured
    versions.apply(settings=settings)  # what a lock pins, and what unattended-upgrades leaves alone
    power.apply(settings=settings)  # with `headless`: awake, and without a desktop
    kernel.apply(settings=settings)  # the OEM kernel, booted
    preflight.recheck(settings=settings)  # the GPU, once that kernel runs
    groups.apply(settings=settings)  # video, render, their members
    sysctl.apply(settings=settings)  # vm.overcommit_memory=1
    rocm.apply(settings=settings)  # AMD's apt source and packages
    docker.apply(settings=settings)  # the engine, log rotation, mirrors
    adoption.resume(settings=settings)  # the owner's server, if a reboot or Docker's restart has ended it
    caches.apply(settings=settings)  # Hugging Face, vLLM, TunableOp, models, workspace
    weights.apply(settings=settings)  # models, fetched and verified at a commit that is recorded
    firewall.apply(settings=settings)  # with `firewall_networks`: nobody else reaches gateway and services
    gateway.apply(settings=settings)  # with `exposure: gateway`: nginx before the engines
    vllm.apply(settings=settings)  # the unit around `docker run`, healthy
    gateway.remove_unused(settings=settings)  # stops the gateway where exposure is another
    watch.apply(settings=settings)  # with `watch`: Prometheus and node exporter, after all that serves
    surface.apply(settings=settings)  # records what the host is now, for `ojai verify` to explain what differs later
    return True


if __name__ != "ojai.deploy":  # executed by pyinfra, once a host; a deploy of your own imports `provision` instead
    config.SUDO = True  # the login is an ordinary user
    provision(host)
