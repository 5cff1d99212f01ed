"""The certificates of authorities that we gave a host, and whether its programs trust them."""

from __future__ import annotations

from dataclasses import dataclass

from pyinfra.api import FactBase

from ojai.facts import script

#: Where they are, a file each; and what programs read, made of all authorities of the host.
PLACE, BUNDLE = "/usr/local/share/ca-certificates/ojai-", "/etc/ssl/certs/ca-certificates.crt"

#: Where Docker looks each time that it asks a registry, in a folder by its name; the bundle it reads when it starts.
DOCKER, DOCKER_FILE = "/etc/docker/certs.d", "ojai.crt"

_FILES = r"""
for file in "$place"*.crt "$docker"/*/"$name"; do
  [ -f "$file" ] || continue
  trusted=no
  # A line of its content that no other certificate has.
  [ ! -e "$bundle" ] || ! grep -qxF "$(sed -n 3p "$file")" "$bundle" || trusted=yes
  echo "$trusted $(sha256sum < "$file" | cut -d ' ' -f 1) $file"
done
"""


@dataclass(frozen=True)
class Authority:
    """A file of certificates of ours: its checksum, and whether the bundle has the first of them."""

    sha256: str
    trusted: bool


class OwnAuthorities(FactBase[dict[str, Authority]]):
    """The :class:`Authority` files by their path."""

    @staticmethod
    def default() -> dict[str, Authority]:
        """None."""
        return {}

    def command(self) -> str:
        """A line for each."""
        return script(_FILES, place=PLACE, bundle=BUNDLE, docker=DOCKER, name=DOCKER_FILE)

    def process(self, output: list[str]) -> dict[str, Authority]:
        """Read the lines."""
        words = (line.split(" ", 2) for line in output)
        return {path: Authority(digest, trusted == "yes") for trusted, digest, path in words}
