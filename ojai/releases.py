"""A release: all that a host served at the end of a deploy, as it was kept on the host to go back to.

Two are kept under :data:`FOLDER`: ``healthy``, the last that was seen to serve, and ``previous``, the one before it.
Each is a folder (root only: it holds the environment files) with every service's unit and environment file and a
``release.json``; its images have a tag of their own, so that ``docker image prune`` leaves them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import TypeAdapter

from ojai.paths import ServicePaths
from ojai.settings import HostSettings, Service

FOLDER = "/var/lib/ojai/releases"

#: Says which release (its ``kept``) the host is on its way back to, from before the first change until it serves.
PENDING_ROLLBACK = f"{FOLDER}/going"

#: Name of a kept release.
Slot = Literal["healthy", "previous"]
SLOTS: tuple[Slot, ...] = ("healthy", "previous")


@dataclass(frozen=True)
class Serving(ServicePaths):
    """How a service is reached, and what it runs: ``image`` as ``docker run`` is given it, ``timeout`` in seconds."""

    name: str
    image: str
    model: str
    port: int
    address: str
    timeout: int


def serving_of(settings: HostSettings, service: Service) -> Serving:
    """The service as the settings have it."""
    command = settings.command(service)
    return Serving(
        name=service.name,
        image=command.image,
        model=command.served_model_name,
        port=command.port,
        address=service.own_address,
        timeout=service.start_timeout,
    )


@dataclass(frozen=True)
class Contents:
    """What a service consists of: SHA-256 of its two files (empty for one that is not there), its image's id and one
    digest by which a registry knows it (empty for an image that came from none)."""

    unit: str = ""
    env: str = ""
    image_id: str = ""
    digest: str = ""

    @property
    def same_as(self) -> tuple[str, str, str]:
        """What makes two of them one release; an image may gain a digest without changing."""
        return self.unit, self.env, self.image_id


@dataclass(frozen=True)
class Released:
    """A service of a release."""

    serving: Serving
    contents: Contents


@dataclass(frozen=True)
class Release:
    """Everything a host served; ``kept`` is the time (UTC, ISO 8601) at which it was seen to be healthy, ``schema`` the
    format's version (see :data:`ojai.places.SCHEMA`)."""

    kept: str
    services: tuple[Released, ...]
    schema: int = 0

    def same_as(self, services: Sequence[Released]) -> bool:
        """Whether these are the services of this release. How long one may take to start is no part of it."""
        mine = {replace(released.serving, timeout=0): released.contents.same_as for released in self.services}
        return mine == {replace(released.serving, timeout=0): released.contents.same_as for released in services}

    def told(self) -> str:
        """One line for a person."""
        parts = [f"{r.serving.name} ({r.serving.model} on port {r.serving.port})" for r in self.services]
        return f"the release of {self.kept}: {', '.join(parts) or 'no service'}"


_JSON = TypeAdapter(Release)


def to_json(release: Release) -> str:
    """As it is written on the host; there is no secret in it."""
    return _JSON.dump_json(release).decode()


def from_json(text: bytes | str) -> Release | None:
    """Read what :func:`to_json` wrote; None for anything else."""
    try:
        return _JSON.validate_json(text)
    except ValueError:
        return None


def tag(name: str, slot: Slot) -> str:
    """The tag by which a kept release holds on to a service's image."""
    return f"ojai-release:{name}-{slot}"
