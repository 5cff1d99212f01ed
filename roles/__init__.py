"""One module per role: what a part of the machine should be, and how it is removed. In order: :func:`provision`."""

from pyinfra.api import Host

from ojai.connection import configure_connection
from ojai.roles import caches, docker, groups, kernel, ledger, preflight, rocm, sysctl, vllm
from ojai.settings.inventory import settings_of


def provision(host: Host) -> bool:
    """The whole machine, top to bottom: from a bare Ubuntu to a Gemma 4 inference host.

    Returns whether roles of your own may follow: not when the host is refused, or when everything is being removed.
    """
    configure_connection(host)
    settings = settings_of(host)
    if settings.removed:
        if not preflight.knows_format():
            return False
        vllm.remove(settings=settings)
        caches.remove(settings=settings)
        docker.remove(settings=settings)
        rocm.remove(settings=settings)
        sysctl.remove(settings=settings)
        groups.remove(settings=settings)
        kernel.remove(settings=settings)
        ledger.remove()  # what the others read, so last
        return False
    if not preflight.passes(settings=settings):  # refuses before anything is changed
        return False
    ledger.apply()  # the note of what is added, so that it can be taken away again
    docker.tidy(settings=settings)  # no archive of Docker's own that is not asked for
    kernel.apply(settings=settings)  # the OEM kernel, booted
    preflight.once_booted(settings=settings)  # where the GPU's memory could not be known before
    groups.apply(settings=settings)  # video, render, their members
    sysctl.apply(settings=settings)  # vm.overcommit_memory=1
    rocm.apply(settings=settings)  # AMD's apt source and packages
    docker.apply(settings=settings)  # the engine, log rotation, mirrors
    caches.apply(settings=settings)  # Hugging Face, vLLM, TunableOp, models, workspace
    vllm.apply(settings=settings)  # the unit around `docker run`, healthy
    return True
