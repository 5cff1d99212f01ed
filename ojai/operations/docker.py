"""Images, pulled as a step of its own with progress that is seen."""

from __future__ import annotations

import shlex

from pyinfra import host
from pyinfra.api import operation

from ojai.facts.docker import DockerImage
from ojai.operations import Steps
from ojai.operations.progress import Otherwise, long


@operation()
def image(reference: str, otherwise: Otherwise | None = None) -> Steps:
    """The image ``reference`` is on the host: ``repository:tag``, with ``@sha256:…`` where its digest is given.

    ``otherwise`` is called when it cannot be pulled.
    """
    if host.get_fact(DockerImage, reference=reference):
        host.noop(f"{reference} is there")
    else:
        yield long(f"docker pull {shlex.quote(reference)}", f"pulling {reference}", show=True, otherwise=otherwise)


@operation()
def image_removed(reference: str) -> Steps:
    """The image is not on the host."""
    if host.get_fact(DockerImage, reference=reference):
        yield f"docker image rm --force {shlex.quote(reference)}"
    else:
        host.noop(f"{reference} is not there")
