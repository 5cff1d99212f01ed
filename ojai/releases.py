"""A release: everything that a host served at the end of a deploy, saved on the host to roll back to.

There are two under :data:`FOLDER`: ``healthy``, the last one in which every service became ready, and ``previous``, the
one before it. Each is a folder (only for root: it contains the environment files) with the unit and environment file of
every service and a ``release.json``. Its images have tags of their own, so that ``docker image prune`` leaves them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import TypeAdapter

from ojai.engines import Exposure, ResolvedService
from ojai.paths import ServicePaths

FOLDER = "/var/lib/ojai/releases"

#: Repository of the tags that hold images. No registry has it.
REPOSITORY = "ojai-release"

#: Holds the ``kept`` of the release that a rollback restores, from before the first change until it serves.
PENDING_ROLLBACK = f"{FOLDER}/going"

#: Name of a saved release.
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
    # Releases that say neither were saved before there were other engines than vLLM.
    health: str = "/health"
    models: str = "/v1/models"
    # Nor, before there was a gateway, who could reach it.
    exposure: Exposure = "open"


def serving_of(service: ResolvedService) -> Serving:
    """What a release records of a service."""
    return Serving(
        name=service.name,
        image=service.image,
        model=service.command.served_model_name,
        port=service.port,
        address=service.address,
        timeout=service.start_timeout,
        health=service.engine.api.health,
        models=service.engine.api.models,
        exposure=service.exposure,
    )


@dataclass(frozen=True)
class Contents:
    """What a service consists of.

    + unit, env: SHA-256 of its two files, empty for one that does not exist
    + image_id: id of its image
    + digest: a registry digest of the image, empty for one that came from no registry
    """

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
    """Everything that a host served.

    + kept: when it was saved (UTC, ISO 8601)
    + schema: version of the format (see :data:`ojai.paths.SCHEMA`)
    """

    kept: str
    services: tuple[Released, ...]
    schema: int = 0

    def same_as(self, services: Sequence[Released]) -> bool:
        """Whether these are the services of this release; how long one may take to start does not matter."""
        mine = {replace(released.serving, timeout=0): released.contents.same_as for released in self.services}
        return mine == {replace(released.serving, timeout=0): released.contents.same_as for released in services}

    @property
    def guarded(self) -> bool:
        """Whether others reach it by a gateway."""
        return any(released.serving.exposure == "gateway" for released in self.services)

    def summary(self) -> str:
        """One line for a person."""
        parts = [f"{r.serving.name} ({r.serving.model} on port {r.serving.port})" for r in self.services]
        return f"the release of {self.kept}: {', '.join(parts) or 'no service'}"


_JSON = TypeAdapter(Release)


def to_json(release: Release) -> str:
    """As it is written on the host; there is no secret in it."""
    return _JSON.dump_json(release).decode()


def from_json(text: bytes | str) -> Release | None:
    """Read what :func:`to_json` wrote; None for anything else.

    An earlier ojai could take a digest under the name of our own tag. Every name of an image has the same digest.
    """
    try:
        found = _JSON.validate_json(text)
    except ValueError:
        return None
    services = (replace(one, contents=_healed(one.serving.image, one.contents)) for one in found.services)
    return replace(found, services=tuple(services))


def _healed(image: str, contents: Contents) -> Contents:
    name, _, digest = contents.digest.partition("@")
    return replace(contents, digest=f"{repository(image)}@{digest}") if name == REPOSITORY else contents


def repository(image: str) -> str:
    """The repository of an image's name, as Docker prints it."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    name = f"{head}{slash}{last.partition(':')[0]}"
    return re.sub(r"^(index\.)?docker\.io/(library/)?", "", name)


def digest_of(image: str, digests: Sequence[str]) -> str:
    """Of an image's registry digests, that of its own repository; else of another one; empty without any.

    With containerd's store Docker lists one for each name of the image, in the order of the alphabet: ours too.
    """
    found = [digest for digest in digests if digest.partition("@")[0] != REPOSITORY]
    own = [digest for digest in found if digest.partition("@")[0] == repository(image)]
    return next(iter([*own, *found]), "")


def tag(name: str, slot: Slot) -> str:
    """The tag with which a saved release holds a service's image."""
    return f"{REPOSITORY}:{name}-{slot}"
