"""Images, pulled as a step of its own with progress that is seen."""

from __future__ import annotations

import shlex

from pyinfra import host
from pyinfra.api import operation

from ojai.facts.docker import DockerImage
from ojai.operations import Steps
from ojai.operations.progress import long


@operation()
def image(reference: str, digest: str | None = None) -> Steps:
    """The image ``reference`` (``repository:tag``) is on the host, by ``digest`` (``sha256:…``) when one is given.

    By digest, the tag on the host is moved to what was pulled, so that the unit's name for it means that content.
    """
    found = host.get_fact(DockerImage, reference=reference)
    if digest is None:
        if found:
            host.noop(f"{reference} is there")
            return
        yield long(f"docker pull {shlex.quote(reference)}", f"pulling {reference}", show=True)
        return
    repository = reference.rsplit(":", 1)[0] if ":" in reference.rsplit("/", 1)[-1] else reference
    if found and any(known.endswith(f"@{digest}") for known in found.digests):
        host.noop(f"{reference} is there, as {digest}")
        return
    exact = f"{repository}@{digest}"
    yield long(f"docker pull {shlex.quote(exact)}", f"pulling {exact}", show=True)
    yield f"docker tag {shlex.quote(exact)} {shlex.quote(reference)}"


@operation()
def image_removed(reference: str) -> Steps:
    """The image is not on the host."""
    if host.get_fact(DockerImage, reference=reference):
        yield f"docker image rm --force {shlex.quote(reference)}"
    else:
        host.noop(f"{reference} is not there")
