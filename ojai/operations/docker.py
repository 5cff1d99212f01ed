"""Images, pulled as a step of their own that shows its progress; and the Docker daemon."""

from __future__ import annotations

import shlex

from pyinfra import host
from pyinfra.api import operation

from ojai.facts.docker import DockerDaemon, DockerImage, PulledImage
from ojai.operations import Steps, steps_or_noop
from ojai.operations.ledger import STATE_DIR, note, undo
from ojai.operations.progress import OnFailure, refuse, with_progress

#: Our record of the images that were pulled: a line for each, with its id.
IMAGES = f"{STATE_DIR}/images"


def _note(reference: str, value: str) -> str:
    """Shell that records ``value`` (shell) for ``reference``. It is on disk when the shell returns."""
    return (
        f"mkdir -p {STATE_DIR} && touch {IMAGES} && {{ grep -vF -- {shlex.quote(reference + ' ')} {IMAGES} || true; "
        f'echo {shlex.quote(reference)} "{value}"; }} > {IMAGES}.new && sync {IMAGES}.new && mv {IMAGES}.new {IMAGES}'
    )


@operation()
def image(reference: str, on_failure: OnFailure | None = None) -> Steps:
    """Pull an image.

    Its id is recorded once it is on disk: if the tag has moved to another image since, it is pulled again. Docker does
    not wait for the disk, and after a power cut it uses layers that lost their content. So an image whose pull was
    interrupted by one is checked (``docker image save`` compares every file with its checksum; with containerd's store
    nothing does) and pulled again unless it is complete.

    + reference: ``repository:tag``, with ``@sha256:…`` if its digest is given
    + on_failure: called if it cannot be pulled
    """
    found = host.get_fact(DockerImage, reference=reference)
    pulled = host.get_fact(PulledImage, file=IMAGES, reference=reference)
    word = shlex.quote(reference)
    done = _note(reference, f"$(docker image inspect --format '{{{{.Id}}}}' {word})")
    if found and pulled.id == found.id:
        host.noop(f"{reference} is on the host")
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
            f"! docker image save {word} >/dev/null; then echo 'the image from before the power cut is incomplete'; "
            f"docker image rm --force {word} && docker pull {word}; fi"
        )
    yield with_progress(f"{pull} && sync", f"pulling {reference}", show=True, on_failure=on_failure)
    yield done


@operation()
def daemon_ready(driver: str, mirrors: list[str]) -> Steps:
    """Check that the Docker daemon answers and runs with our settings, as daemon.json has them.

    A daemon that does not answer is restarted with its socket. Other settings, from a drop-in of its unit or its
    command line, are refused: they are the work of others, for a proxy for instance.

    + driver: the logging driver
    + mirrors: URLs of the registry mirrors
    """
    found = host.get_fact(DockerDaemon)
    expected = [f"{url.rstrip('/')}/" for url in mirrors]
    missing = [url for url in expected if url not in found.mirrors]
    if not found.there or (found.answers and found.driver == driver and not missing):
        host.noop("it answers" if found.there else "Docker is not installed yet")
    elif not found.answers:
        yield "systemctl restart docker.socket docker.service && timeout 60 docker info >/dev/null"
    else:
        yield refuse(
            f"docker.service: found logging driver {found.driver} and mirrors {', '.join(found.mirrors) or 'none'}; "
            f"expected {driver} and {', '.join(expected) or 'none'}, as daemon.json has them. Drop-ins: "
            f"{', '.join(found.overrides) or 'none'}. What to do: remove the options of dockerd from the drop-in or "
            "/etc/default/docker, restart docker.service, then run the deploy again."
        )


def _delete_image(reference: str) -> str:
    name = shlex.quote(reference)
    return f"! docker image inspect {name} >/dev/null 2>&1 || docker image rm --force {name}"


@operation()
def images_removed() -> Steps:
    """Remove the images that :func:`image` pulled; those that were there before stay."""
    yield from steps_or_noop(undo("images", _delete_image), "none was pulled")
