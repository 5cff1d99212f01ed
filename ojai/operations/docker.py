"""Images, pulled as a step of its own with progress that is seen."""

from __future__ import annotations

import shlex

from pyinfra import host
from pyinfra.api import operation

from ojai.facts.docker import DockerDaemon, DockerImage, PulledImage
from ojai.operations import Steps
from ojai.operations.ledger import STATE_DIR
from ojai.operations.progress import Otherwise, long, refuse

#: Our note of the images that were pulled: a line for each, with the id that it had.
IMAGES = f"{STATE_DIR}/images"


@operation()
def image(reference: str, otherwise: Otherwise | None = None) -> Steps:
    """The image ``reference`` is on the host: ``repository:tag``, with ``@sha256:…`` where its digest is given.

    What was pulled is noted with its id: a tag that was moved to another image since is pulled again. ``otherwise`` is
    called when it cannot be pulled.
    """
    found = host.get_fact(DockerImage, reference=reference)
    pulled = host.get_fact(PulledImage, file=IMAGES, reference=reference)
    word = shlex.quote(reference)
    note = (
        f"mkdir -p {STATE_DIR} && touch {IMAGES} && {{ grep -vF -- {shlex.quote(reference + ' ')} {IMAGES} || true; "
        f"echo {word} $(docker image inspect --format '{{{{.Id}}}}' {word}); }} > {IMAGES}.new && "
        f"mv {IMAGES}.new {IMAGES}"
    )
    if found and pulled == found.id:
        host.noop(f"{reference} is there")
    elif found and not pulled:
        yield note
    else:
        yield long(f"docker pull {word}", f"pulling {reference}", show=True, otherwise=otherwise)
        yield note


@operation()
def answering(driver: str, mirrors: list[str]) -> Steps:
    """The daemon answers on its socket, logs with ``driver`` and asks ``mirrors`` (URLs), as daemon.json says.

    One that does not answer is started anew with its socket. One that was told otherwise (by a drop-in of its unit, or
    on its command line) is refused: such are others' work, a proxy for instance.
    """
    found = host.get_fact(DockerDaemon)
    wanted = [f"{url.rstrip('/')}/" for url in mirrors]
    missing = [url for url in wanted if url not in found.mirrors]
    if not found.there or (found.answers and found.driver == driver and not missing):
        host.noop("it does" if found.there else "Docker is not installed yet")
    elif not found.answers:
        yield "systemctl restart docker.socket docker.service && timeout 60 docker info >/dev/null"
    else:
        yield refuse(
            f"docker.service: found it logging with {found.driver}, asking {', '.join(found.mirrors) or 'no mirror'}; "
            f"wanted {driver}, and {', '.join(wanted) or 'no mirror'}, as daemon.json says. Drop-ins: "
            f"{', '.join(found.overrides) or 'none'}. What to do: take options of dockerd out of the drop-in (or "
            "/etc/default/docker), restart docker.service, then run the deploy again."
        )


@operation()
def image_removed(reference: str) -> Steps:
    """The image is not on the host."""
    if host.get_fact(DockerImage, reference=reference):
        yield f"docker image rm --force {shlex.quote(reference)}"
    else:
        host.noop(f"{reference} is not there")
