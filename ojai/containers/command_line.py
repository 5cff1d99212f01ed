"""A container from its ``docker run`` line."""

from __future__ import annotations

import getopt
from collections.abc import Sequence

from ojai.containers import Container, UnreadableError, is_secret

#: Options of ``docker run`` without a value, and those with one.
_SWITCH_NAMES = """
detach disable-content-trust init interactive no-healthcheck oom-kill-disable privileged publish-all quiet read-only rm
sig-proxy tty
"""
_VALUE_NAMES = """
add-host annotation attach blkio-weight blkio-weight-device cap-add cap-drop cgroup-parent cgroupns cidfile cpu-count
cpu-percent cpu-period cpu-quota cpu-rt-period cpu-rt-runtime cpu-shares cpus cpuset-cpus cpuset-mems detach-keys device
device-cgroup-rule device-read-bps device-read-iops device-write-bps device-write-iops dns dns-opt dns-option dns-search
domainname entrypoint env env-file expose gpus group-add health-cmd health-interval health-retries
health-start-interval health-start-period health-timeout hostname ip ip6 ipc isolation label label-file link
link-local-ip log-driver log-opt mac-address memory memory-reservation memory-swap memory-swappiness mount name net
net-alias network network-alias oom-score-adj pid pids-limit platform publish pull restart runtime security-opt shm-size
stop-signal stop-timeout storage-opt sysctl tmpfs ulimit user userns uts volume volume-driver volumes-from workdir
"""
_SWITCHES, _VALUES = _SWITCH_NAMES.split(), _VALUE_NAMES.split()
_LETTERS = {
    "d": "detach", "i": "interactive", "t": "tty", "P": "publish-all", "q": "quiet",
    "a": "attach", "c": "cpu-shares", "e": "env", "h": "hostname", "l": "label", "m": "memory", "p": "publish",
    "u": "user", "v": "volume", "w": "workdir",
}  # fmt: skip
_OTHER_NAMES = {"net": "network", "net-alias": "network-alias", "dns-opt": "dns-option"}


def split(words: Sequence[str]) -> tuple[list[tuple[str, str | None]], list[str]]:
    """The options that words begin with, by their long names, and the rest: the image and what follows it.

    Raises :class:`UnreadableError` for an option that ``docker run`` does not have.
    """
    # docker's own client takes a switch with a value too: --rm=true.
    plain = [word.removesuffix("=true") if word.startswith("--") else word for word in words]
    letters = "".join(letter + ":" * (name in _VALUES) for letter, name in _LETTERS.items())
    known = [*_SWITCHES, *(f"{name}=" for name in _VALUES)]
    try:
        # Each twice, or getopt would take the beginning of a name for the name, as docker does not.
        found, rest = getopt.getopt(plain, letters, [*known, *(f"{name.rstrip('=')}~" for name in known)])
    except getopt.GetoptError as error:
        raise UnreadableError(
            f"docker run: {error.msg.replace('a unique prefix', 'recognized')}; expected an option that docker run "
            "has, with its value. What to do: correct the command"
        ) from None
    options: list[tuple[str, str | None]] = []
    for option, value in found:
        name = option.removeprefix("--") if option.startswith("--") else _LETTERS[option[1:]]
        options.append((f"--{_OTHER_NAMES.get(name, name)}", value if name in _VALUES else None))
    return options, list(words[len(words) - len(rest) :])


def container(words: Sequence[str], notes: tuple[str, ...] = ()) -> Container:
    """The container that ``docker run`` with these words starts. Raises :class:`UnreadableError`."""
    options, rest = split(words)
    if not rest:
        raise UnreadableError(
            "docker run: found no image; expected one after the options. What to do: complete the command; a comment "
            "or an empty line among its lines ends it"
        )
    secrets: list[str] = []
    entrypoint: tuple[str, ...] | None = None
    kept: list[tuple[str, str | None]] = []
    for name, value in options:
        if name == "--env":
            variable, equals, text = (value or "").partition("=")
            if is_secret(variable, text):
                secrets.append(variable)
                value = variable
            elif not equals:
                notes = (*notes, f"{variable} is taken from the caller's environment, which is not known here")
        elif name == "--entrypoint":
            entrypoint = (value,) if value else ()
            continue
        kept.append((name, value))
    image, _, digest = rest[0].partition("@")
    return Container(image, tuple(rest[1:]), tuple(kept), entrypoint, digest or None, tuple(secrets), notes=notes)
