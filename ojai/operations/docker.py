"""Images, pulled as a step of their own that shows its progress; and the Docker daemon."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping

from pyinfra import host
from pyinfra.api import FunctionCommand, Host, State, operation

from ojai.facts.docker import DOCKER, REJECTED, DockerDaemon, DockerImage, PulledImage
from ojai.operations import Steps, steps_or_noop
from ojai.operations.ledger import STATE_DIR, note, undo
from ojai.operations.progress import OnFailure, complain, refuse, run, with_progress
from ojai.settings.secrets import SecretError, Source
from ojai.weights import CLIENT
from ojai.weights.pull import STATUS as PULL_STATUS

#: Our record of the images that were pulled: a line for each, with its id.
IMAGES = f"{STATE_DIR}/images"


def _note(reference: str, value: str) -> str:
    """Shell that records ``value`` (shell) for ``reference``. It is on disk when the shell returns."""
    return (
        f"mkdir -p {STATE_DIR} && touch {IMAGES} && {{ grep -vF -- {shlex.quote(reference + ' ')} {IMAGES} || true; "
        f'echo {shlex.quote(reference)} "{value}"; }} > {IMAGES}.new && sync {IMAGES}.new && mv {IMAGES}.new {IMAGES}'
    )


def pull_input(login: Source | None, environment: Mapping[str, str]) -> str:
    """What the program that pulls gets on its standard input. Raises :class:`SecretError`.

    + login: where user and password are read
    """
    return json.dumps({"login": login.login() if login else None, "environment": dict(environment)})


def pull_image(
    state: State,
    host: Host,
    reference: str,
    command: str,
    login: Source | None = None,
    environment: Mapping[str, str] | None = None,
    on_failure: OnFailure | None = None,
) -> bool:
    """Pull an image by ``command``, and tell how far it is. Its login travels as standard input."""
    try:
        hidden = pull_input(login, environment or {})
    except SecretError as error:
        complain(host, f"the login for {reference}: {error}")
        return False
    doing = f"pulling {reference}"
    return run(state, host, command, doing, True, on_failure, status=PULL_STATUS, hidden=hidden)


@operation()
def image(
    reference: str,
    login: Source | None = None,
    environment: Mapping[str, str] | None = None,
    local_only: bool = False,
    on_failure: OnFailure | None = None,
) -> Steps:
    """Pull an image.

    Its id is recorded once it is on disk: if the tag has moved to another image since, it is pulled again. Docker does
    not wait for the disk, and after a power cut it uses layers that lost their content. So an image whose pull was
    interrupted by one is checked (``docker image save`` compares every file with its checksum; with containerd's store
    nothing does) and pulled again unless it is complete.

    + reference: ``repository:tag``, with ``@sha256:…`` if its digest is given
    + login: where the login to its registry is read on this machine; None: root's own on the host, if there is one
    + environment: proxies, for asking the registry how large it is
    + local_only: take the image that is there, and pull none
    + on_failure: called if it cannot be pulled
    """
    found = host.get_fact(DockerImage, reference=reference)
    pulled = host.get_fact(PulledImage, file=IMAGES, reference=reference)
    word = shlex.quote(reference)
    done = _note(reference, f"$(docker image inspect --format '{{{{.Id}}}}' {word})")
    if found and (pulled.id == found.id or local_only):
        host.noop(f"{reference} is on the host")
        return
    if found and not pulled.id and not pulled.begun:
        yield done
        return
    try:
        pull_input(login, {})  # refused before anything is noted
    except SecretError as error:
        yield refuse(f"the login for {reference}: {error}")
        return
    if not found and not pulled.begun:
        yield note("images", [reference])
    if not pulled.begun:
        yield _note(reference, "pulling:$(cat /proc/sys/kernel/random/boot_id)")
    pull = "pull"
    if pulled.booted:
        pull += (
            f" && if docker info --format '{{{{.DriverStatus}}}}' | grep -q io.containerd.snapshotter || "
            f"! docker image save {word} >/dev/null; then echo 'the image from before the power cut is incomplete'; "
            f"docker image rm --force {word} && pull; fi"
        )
    command = f'hidden=$(cat); pull() {{ printf %s "$hidden" | python3 -I {CLIENT} pull {word}; }}; {pull} && sync'
    given = {"login": login, "environment": environment, "on_failure": on_failure}
    kwargs = {name: value for name, value in given.items() if value}
    yield FunctionCommand(pull_image, (reference, command), kwargs)
    yield done


#: Shell for :func:`files.json_merged`: dockerd itself judges the file ``$new``, with its unit's options.
CHECK = f"""{REJECTED.strip()}
said=$(rejected "$new"); [ -z "$said" ] || {{
  echo "dockerd does not accept the new daemon.json, so the old one stays: $said" >&2; exit 1; }}"""
#: Has a daemon that runs read its registry mirrors anew, and some other settings: not one container is touched.
RELOAD = "! systemctl is-active --quiet docker.service || systemctl reload docker.service"

#: Names of the containers that run, without the daemon: each has a shim with its id.
_RUNNING = r"""
root=$(sed -n 's/.*"data-root": *"\([^"]*\)".*/\1/p' /etc/docker/daemon.json 2>/dev/null | head -n 1)
cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' '\n' | sed -n '/^-id$/{n;s/^[0-9a-f]\{64\}$/&/p}' | sort -u |
  while read -r id; do
    about=${root:-/var/lib/docker}/containers/$id/config.v2.json
    name=$(sed -n 's/.*"Name":"\/\([^"]*\)".*/\1/p' "$about" 2>/dev/null)
    echo "${name:-$(echo "$id" | cut -c 1-12)}"
  done | paste -sd ' '
"""


@operation()
def daemon_ready(mirrors: list[str], proxies: Mapping[str, str] | None = None) -> Steps:
    """Check that the Docker daemon answers, and has our registry mirrors and proxies as daemon.json has them.

    A daemon that works is never restarted while a container runs, because it would end: mirrors are reloaded, and
    proxies, which it reads only when it starts, are refused. One that does not answer is restarted with its socket, and
    what runs is named.

    + mirrors: URLs of the registry mirrors
    + proxies: its variables
    """
    found = host.get_fact(DockerDaemon)
    given = proxies or {}
    wanted = tuple(given.get(name, "") for name in ("http_proxy", "https_proxy", "no_proxy"))
    if given and found.answers and found.proxies != wanted:
        message = (
            f"docker.service: found proxies {', '.join(filter(None, found.proxies)) or 'none'}; expected "
            f"{', '.join(filter(None, wanted))}, as daemon.json has them, which Docker reads when it starts. What to "
            "do: when the containers that run may end, `sudo systemctl restart docker.service`, then run the deploy "
            "again. Running: "
        )
        yield (
            f"running=$({DOCKER} ps --format '{{{{.Names}}}}' | paste -sd ' '); "
            f'[ -z "$running" ] || {{ echo {shlex.quote(message)}"$running" >&2; exit 1; }}; '
            "systemctl restart docker.service && timeout 60 docker info >/dev/null"
        )
    expected = [f"{url.rstrip('/')}/" for url in mirrors]
    missing = [url for url in expected if url not in found.mirrors]
    if not found.there or (found.answers and not missing):
        host.noop("it answers" if found.there else "Docker is not installed yet")
    elif not found.answers:
        yield with_progress(
            f"{DOCKER} info >/dev/null 2>&1 && exit 0; running=$({_RUNNING.strip()}); "
            'echo "the daemon does not answer: restarting it. Containers that run: ${running:-none}"; '
            "socket=; ! systemctl cat docker.socket >/dev/null 2>&1 || socket=docker.socket; "
            "systemctl restart $socket docker.service && timeout 60 docker info >/dev/null",
            "waiting for Docker",
            show=True,
        )
    else:
        message = (
            f"docker.service: found mirrors {', '.join(found.mirrors) or 'none'} after a reload; expected "
            f"{', '.join(expected)}, as daemon.json has them. Drop-ins: {', '.join(found.overrides) or 'none'}. What "
            "to do: remove the options of dockerd from the drop-in or /etc/default/docker, restart docker.service "
            "when its containers may end, then run the deploy again."
        )
        asks = " && ".join(f"printf '%s\\n' \"$asked\" | grep -qF {shlex.quote(json.dumps(url))}" for url in expected)
        yield (
            'systemctl reload docker.service && left=10; while [ "$left" -gt 0 ]; do '
            f"asked=$({DOCKER} info --format '{{{{json .RegistryConfig.Mirrors}}}}'); {{ {asks}; }} && exit 0; "
            f"left=$((left - 1)); sleep 1; done; echo {shlex.quote(message)} >&2; exit 1"
        )


def delete_image(reference: str, options: str = "--force ") -> str:
    """Shell that takes a name off an image. With its last one the image goes.

    With containerd's store it would stay under its digest, if it was pulled by that once and has had a name of another
    repository, such as our own tag.
    """
    name = shlex.quote(reference)
    named = "docker image ls --no-trunc --format '{{.ID}} {{.Tag}}' | grep \"^$id \" | grep -vq '<none>'"
    whole = f'docker image rm {options}"$id" >/dev/null 2>&1 || true'
    return (
        f"! id=$(docker image inspect --format '{{{{.Id}}}}' {name} 2>/dev/null) || "
        f"{{ docker image rm {options}{name} && {{ {named} || {whole}; }}; }}"
    )


@operation()
def images_removed() -> Steps:
    """Remove the images that :func:`image` pulled; those that were there before stay."""
    yield from steps_or_noop(undo("images", delete_image), "none was pulled")
