"""What the Docker Engine answers."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass

from pyinfra.api import FactBase

#: The client, to be asked in facts: a daemon that hangs gives no answer, and is no reason to wait for ever.
DOCKER = "timeout 20 docker"


@dataclass(frozen=True)
class Image:
    """``id`` is the image id (``sha256:…``), ``digests`` the registry digests it is known by (``name@sha256:…``)."""

    id: str
    digests: tuple[str, ...]

    @property
    def key(self) -> str:
        """Twelve hex digits that change with the image: what caches made by it are filed under."""
        digest = self.digests[0].rsplit("@", 1)[-1] if self.digests else self.id
        return digest.removeprefix("sha256:")[:12]


class DockerImage(FactBase[Image | None]):
    """The local image of this reference; None where there is no image, or no Docker yet."""

    @staticmethod
    def default() -> Image | None:
        """No image."""
        return None

    def command(self, reference: str) -> str:
        """``docker image inspect``, whose failure is an answer."""
        return f"{DOCKER} image inspect --format '{{{{json .}}}}' {shlex.quote(reference)} 2>/dev/null || true"

    def process(self, output: list[str]) -> Image | None:
        """Read the JSON; for an image that is not there docker prints an empty line."""
        text = "".join(output).strip()
        if not text:
            return None
        found = json.loads(text)
        return Image(id=found["Id"], digests=tuple(found.get("RepoDigests") or ()))


@dataclass(frozen=True)
class Pulled:
    """Our note of one image: ``id`` that it had once it was on the disk, empty without one. ``begun``: a pull was
    begun and never noted as ended; ``booted``: the machine has been booted since, so that data may be lost."""

    id: str = ""
    begun: bool = False
    booted: bool = False


class PulledImage(FactBase[Pulled]):
    """:class:`Pulled` for what was pulled as ``reference``, by the note in ``file``."""

    @staticmethod
    def default() -> Pulled:
        """No note."""
        return Pulled()

    def command(self, file: str, reference: str) -> str:
        """The note has a line for each image: reference, blank, id; or ``pulling:`` and the boot in which it began."""
        return (
            "cat /proc/sys/kernel/random/boot_id; "
            f"awk -v name={shlex.quote(reference)} '$1 == name {{print $2}}' {shlex.quote(file)} 2>/dev/null || true"
        )

    def process(self, output: list[str]) -> Pulled:
        """This boot's id, then the note; its last line counts."""
        boot, *notes = (line.strip() for line in output)
        word, _, since = (notes[-1] if notes else "").partition(":")
        if word == "pulling":
            return Pulled(begun=True, booted=since != boot)
        return Pulled(id=notes[-1] if notes else "")


@dataclass(frozen=True)
class Daemon:
    """``there``: Docker is installed. ``answers``: its daemon does, within 20 seconds. ``driver``: where containers'
    logs go by default; ``mirrors``: the registry mirrors that it asks, as it writes them (with a slash at the end).
    ``overrides``: drop-ins of its unit."""

    there: bool = False
    answers: bool = False
    driver: str = ""
    mirrors: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()


class DockerDaemon(FactBase[Daemon]):
    """:class:`Daemon`: what it does, not what its file says."""

    @staticmethod
    def default() -> Daemon:
        """No Docker."""
        return Daemon()

    def command(self) -> str:
        """``docker info``, and systemd's word about drop-ins."""
        return (
            "! command -v docker >/dev/null || { echo there; systemctl show docker.service -p DropInPaths; "
            f"{DOCKER} info --format '{{{{json .LoggingDriver}}}} {{{{json .RegistryConfig.Mirrors}}}}' 2>/dev/null "
            "| grep '^\"..*\" ' || true; }"
        )

    def process(self, output: list[str]) -> Daemon:
        """Read the answer: ``there``, the drop-ins, and a line of JSON values where the daemon answers."""
        overrides: tuple[str, ...] = ()
        for line in output:
            if line.startswith("DropInPaths="):
                overrides = tuple(line.removeprefix("DropInPaths=").split())
            elif line.startswith('"'):
                driver, _, mirrors = line.partition(" ")
                return Daemon(True, True, json.loads(driver), tuple(json.loads(mirrors) or ()), overrides)
        return Daemon(there="there" in output, overrides=overrides)
