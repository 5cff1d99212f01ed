"""The gateway's keys and its certificate, as they are on a host. No key leaves it."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from pyinfra.api import FactBase

from ojai import gateway
from ojai.facts import Lines, Yes, script
from ojai.facts.service import CURL

_KEYS = r"""
any='[0-9a-f]\{64\}'
for file in "$folder"/*.map; do
  [ -e "$file" ] || continue
  name=${file##*/} name=${name%.map} key=${file%.map}.key sum=
  [ ! -e "$key" ] || sum=$(tr -d '\n' < "$key" | sha256sum | cut -d' ' -f1)
  rights=$(stat -c %U:%a "$file" "$key" 2>/dev/null | sort -u)
  if [ "$rights" = root:600 ] && grep -qx "\"${sum:-$any}\" \"$name\";" "$file"; then echo "$name"
  else echo "$name wrong"; fi
done
"""


class GatewayKeys(FactBase[dict[str, bool]]):
    """The keys that nginx knows: name -> whether it is as it should be, which only root can read."""

    @staticmethod
    def default() -> dict[str, bool]:
        """None."""
        return {}

    def command(self) -> str:
        """A line for each."""
        return script(_KEYS, folder=gateway.KEYS)

    def process(self, output: list[str]) -> dict[str, bool]:
        """Read the lines."""
        return {line.split(" ")[0]: " " not in line for line in output if line}


class CertificateDue(Lines):
    """Why the gateway's own certificate has to be made anew, in a line; none if it is right.

    + names: what it is to be for, beside the names and addresses that the host has
    """

    def command(self, names: tuple[str, ...]) -> str:
        """The program of the host, as it will be there."""
        return f"sh -s -- check {shlex.join(names)} <<'end-of-renew'\n{gateway.renewal_script()}end-of-renew"


class GatewayAnswers(Yes):
    """Whether engines can be reached through the gateway. Its certificate is looked at by ``ojai verify``.

    + address, port: where it listens, as the host itself reaches it
    + paths: that must answer without a key
    """

    def command(self, address: str, port: int, paths: tuple[str, ...]) -> str:
        """Prints ``yes`` if each of them does."""
        urls = (shlex.quote(f"https://{address}:{port}{path}") for path in paths)
        asked = " && ".join(f"{CURL} -k -s -f -m 10 -o /dev/null {url}" for url in urls)
        return f"if {asked}; then echo yes; fi"


@dataclass(frozen=True)
class Access:
    """What a client needs: the certificate of the authority, and the keys by name, None for one that is not told."""

    authority: str = ""
    keys: Mapping[str, str | None] = field(default_factory=dict)


_ACCESS = r"""
printf 'authority %s\n' "$(base64 -w 0 "$authority" 2>/dev/null)"
for file in "$folder"/*.map; do
  [ -e "$file" ] || continue
  name=${file##*/} key=
  [ -z "$show" ] || key=$(base64 -w 0 "${file%.map}.key" 2>/dev/null)
  printf 'key %s %s\n' "${name%.map}" "$key"
done
"""


class GatewayAccess(FactBase[Access]):
    """The :class:`Access` to the gateway of a host.

    + show: whether the keys themselves are read
    """

    @staticmethod
    def default() -> Access:
        """None."""
        return Access()

    def command(self, show: bool = False) -> str:
        """Lines of words, the last of them in base64."""
        return script(_ACCESS, authority=gateway.AUTHORITY, folder=gateway.KEYS, show="yes" if show else "")

    def process(self, output: list[str]) -> Access:
        """Read the lines."""
        authority, keys = "", {}
        for line in output:
            match line.split(" "):
                case ["authority", text]:
                    authority = base64.b64decode(text).decode()
                case ["key", name, text]:
                    keys[name] = base64.b64decode(text).decode().strip() or None
        return Access(authority, keys)
