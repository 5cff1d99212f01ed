"""What the Docker Engine answers."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass

from pyinfra.api import FactBase


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
        return f"docker image inspect --format '{{{{json .}}}}' {shlex.quote(reference)} 2>/dev/null || true"

    def process(self, output: list[str]) -> Image | None:
        """Read the JSON; for an image that is not there docker prints an empty line."""
        text = "".join(output).strip()
        if not text:
            return None
        found = json.loads(text)
        return Image(id=found["Id"], digests=tuple(found.get("RepoDigests") or ()))
