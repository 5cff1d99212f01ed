"""Containers that somebody else started: read from a ``docker run`` line, a script, or ``docker inspect``.

What is read has no secret in it: of a token or a key only the name is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_SECRET = re.compile(
    r"(?:(?:^|[_-])(?:TOKEN|KEY|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|PASS|PAT)|[_-](?:PWD|AUTH))$",
    re.IGNORECASE,
)
_USERINFO = re.compile(r"://[^/@\s]*:[^/@\s]*@")

#: Options of which a container has many, and what of their value tells them apart.
_MANY: Mapping[str, re.Pattern[str]] = {
    "--env": re.compile(r"[^=]*"),
    "--ulimit": re.compile(r"[^=]*"),
    "--label": re.compile(r"[^=]*"),
    "--log-opt": re.compile(r"[^=]*"),
    **{f"--{name}": re.compile(r".*") for name in ("device", "group-add", "cap-add", "cap-drop", "security-opt")},
    **{f"--{name}": re.compile(r".*") for name in ("publish", "env-file", "gpus", "tmpfs", "dns", "add-host")},
}


class UnreadableError(ValueError):
    """A text that says no container; the message has what was found, what was expected and what to do."""


def is_secret(name: str, value: str = "") -> bool:
    """Whether a variable is a token, key or password by its name, or has a password in an address."""
    return bool(_SECRET.search(name) or _USERINFO.search(value))


@dataclass(frozen=True)
class Container:
    """A container.

    + image: as it was named; ``image_digest`` is that of the image, where it is known
    + argv: what follows the image; ``entrypoint``: what comes before that, None for the image's own
    + options: those of ``docker run`` by their long names, each with its value; None where it takes none
    + secrets: variables whose values are left out
    + of_image: variables that have the value that the image gives them anyway
    + notes: what a reader should know of how it was read
    """

    image: str
    argv: tuple[str, ...]
    options: tuple[tuple[str, str | None], ...] = ()
    entrypoint: tuple[str, ...] | None = None
    image_digest: str | None = None
    secrets: tuple[str, ...] = ()
    of_image: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    def values(self, option: str) -> list[str]:
        """Every value of an option, in order."""
        return [value or "" for name, value in self.options if name == option]

    def value(self, option: str) -> str | None:
        """The value in force: the last; None where the option is not given."""
        return next(reversed(self.values(option)), None)

    @property
    def environment(self) -> dict[str, str]:
        """Its variables, without secrets and those that docker takes from the caller."""
        pairs = (value.partition("=") for value in self.values("--env"))
        return {name: value for name, equals, value in pairs if equals}

    @property
    def mounts(self) -> dict[str, Mount]:
        """Its mounts, by where they are in the container."""
        found = [_volume(value) for value in self.values("--volume")]
        found += [_mount(value) for value in self.values("--mount")]
        return {mount.target: mount for mount in found}

    def published(self, port: int) -> tuple[str | None, int] | None:
        """Address (None: all) and port of the host that lead to ``port`` in the container; None without any."""
        for value in self.values("--publish"):
            match = re.fullmatch(r"(?:(.*):)?(\d+):(\d+)(?:/tcp)?", value)
            if match and int(match[3]) == port:
                return (match[1] or "").strip("[]") or None, int(match[2])
        return None

    @property
    def parts(self) -> dict[tuple[str, str], str]:
        """Its options for a comparison: option and what tells it from others of its kind, to the value."""
        return dict(self._parts())

    def _parts(self) -> Iterator[tuple[tuple[str, str], str]]:
        for name, value in self.options:
            value = value or ""
            if name in ("--volume", "--mount"):
                continue
            if name == "--cap-add":
                value = value.upper().removeprefix("CAP_")
            elif name == "--security-opt":
                value = value.replace(":", "=", 1)
            elif name == "--ipc" and value == "private":
                continue
            elif name == "--shm-size":
                value = _size(value)
            if name in _MANY:
                mark = (_MANY[name].match(value) or [""])[0]
                rest = value[len(mark) + 1 :]
                secret = mark in self.secrets if name == "--env" else bool(rest) and is_secret(mark, rest)
                yield (name, mark), "(secret)" if secret else rest
            else:
                yield (name, ""), value
        for target, mount in self.mounts.items():
            yield ("--volume", target), mount.source + (f":{mount.options}" if mount.options else "")


@dataclass(frozen=True)
class Mount:
    """A mount: ``source`` on the host, ``target`` in the container, ``options`` as ``--volume`` has them."""

    source: str
    target: str
    options: str = ""


def _volume(value: str) -> Mount:
    source, _, rest = value.partition(":")
    target, _, options = rest.partition(":")
    return Mount(source, target or source, "" if options == "rw" else options)


def _mount(value: str) -> Mount:
    pairs = dict(part.partition("=")[::2] for part in value.split(","))
    target = pairs.get("target") or pairs.get("dst") or pairs.get("destination") or ""
    only = [name for name in pairs if name in ("readonly", "ro")]
    return Mount(pairs.get("source") or pairs.get("src") or "", target, "ro" if only else "")


def _size(text: str) -> str:
    """A size as docker's client shortens it: ``17179869184`` and ``16384m`` are ``16g``."""
    match = re.fullmatch(r"(\d+)([bkmgBKMG]?)[bB]?", text)
    if not match:
        return text
    size, unit = int(match[1]), "bkmg".index(match[2].lower() or "b")
    while unit < 3 and size and size % 1024 == 0:
        size, unit = size // 1024, unit + 1
    return f"{size}{'bkmg'[unit]}"
