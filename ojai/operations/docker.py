"""Images, pulled as a step of its own with progress that is seen."""

from __future__ import annotations

import shlex

from pyinfra import host
from pyinfra.api import operation

from ojai.facts.docker import DockerDaemon, DockerImage, PulledImage
from ojai.facts.ledger import Added
from ojai.operations import Steps
from ojai.operations.ledger import ADDED_DIR, STATE_DIR, forget, note
from ojai.operations.progress import OnFailure, refuse, with_progress

#: Our note of the images that were pulled: a line for each, with the id that it had.
IMAGES = f"{STATE_DIR}/images"


def _note(reference: str, value: str) -> str:
    """Shell that notes ``value`` (shell) for ``reference``, on the disk when it returns."""
    return (
        f"mkdir -p {STATE_DIR} && touch {IMAGES} && {{ grep -vF -- {shlex.quote(reference + ' ')} {IMAGES} || true; "
        f'echo {shlex.quote(reference)} "{value}"; }} > {IMAGES}.new && sync {IMAGES}.new && mv {IMAGES}.new {IMAGES}'
    )


@operation()
def image(reference: str, on_failure: OnFailure | None = None) -> Steps:
    """The image ``reference`` is on the host: ``repository:tag``, with ``@sha256:…`` where its digest is given.

    What was pulled is noted with its id, once it is on the disk: a tag that was moved to another image since is pulled
    again. Docker does not wait for the disk, and takes layers that lost their content in a power cut for whole ones:
    after one, what was being pulled is looked through (``docker image save`` compares every file with its checksum;
    with containerd's store nothing does) and, unless whole, pulled anew. ``on_failure`` is called when it cannot be
    pulled.
    """
    found = host.get_fact(DockerImage, reference=reference)
    pulled = host.get_fact(PulledImage, file=IMAGES, reference=reference)
    word = shlex.quote(reference)
    done = _note(reference, f"$(docker image inspect --format '{{{{.Id}}}}' {word})")
    if found and pulled.id == found.id:
        host.noop(f"{reference} is there")
        return
    if found and not pulled.id and not pulled.begun:
        yield done
        return
    if not found and not pulled.begun:
        yield note("images", [reference])
    if not pulled.begun:
        yield _note(reference, "pulling:$(cat /proc/sys/kernel/random/boot_id)")
    pull = f"docker pull {word}"
    if pulled.booted:
        pull += (
            f" && if docker info --format '{{{{.DriverStatus}}}}' | grep -q io.containerd.snapshotter || "
            f"! docker image save {word} >/dev/null; then echo 'what was there before the power cut is not whole'; "
            f"docker image rm --force {word} && docker pull {word}; fi"
        )
    yield with_progress(f"{pull} && sync", f"pulling {reference}", show=True, on_failure=on_failure)
    yield done


@operation()
def answering(driver: str, mirrors: list[str]) -> Steps:
    """The daemon answers on its socket, logs with ``driver`` and asks ``mirrors`` (URLs), as daemon.json says.

    One that does not answer is started anew with its socket. One that was told otherwise (by a drop-in of its unit, or
    on its command line) is refused: such are others' work, a proxy for instance.
    """
    found = host.get_fact(DockerDaemon)
    expected = [f"{url.rstrip('/')}/" for url in mirrors]
    missing = [url for url in expected if url not in found.mirrors]
    if not found.there or (found.answers and found.driver == driver and not missing):
        host.noop("it does" if found.there else "Docker is not installed yet")
    elif not found.answers:
        yield "systemctl restart docker.socket docker.service && timeout 60 docker info >/dev/null"
    else:
        yield refuse(
            f"docker.service: found it logging with {found.driver}, asking {', '.join(found.mirrors) or 'no mirror'}; "
            f"expected {driver}, and {', '.join(expected) or 'no mirror'}, as daemon.json says. Drop-ins: "
            f"{', '.join(found.overrides) or 'none'}. What to do: take options of dockerd out of the drop-in (or "
            "/etc/default/docker), restart docker.service, then run the deploy again."
        )


@operation()
def images_removed() -> Steps:
    """No image that :func:`image` brought to the host is on it; those that were there before stay."""
    references = host.get_fact(Added, directory=ADDED_DIR, kind="images")
    for reference in map(shlex.quote, references):
        yield f"! docker image inspect {reference} >/dev/null 2>&1 || docker image rm --force {reference}"
    if references:
        yield forget("images", references)
    else:
        host.noop("none was pulled")
