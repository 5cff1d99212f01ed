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
  name=${file##*/} name=${name%.map}
  if [ "${name%.old}" != "$name" ]; then
    end=$(sed -n 's/.*@\([0-9]*\)";$/\1/p' "$file")
    [ "${end:-0}" -gt "$(date +%s)" ] || echo "ended ${name%.old}"
    continue
  fi
  key=${file%.map}.key sum=
  [ ! -e "$key" ] || sum=$(tr -d '\n' < "$key" | sha256sum | cut -d' ' -f1)
  rights=$(stat -c %U:%a "$file" "$key" 2>/dev/null | sort -u)
  found=$(sed -n "s/^\"\(${sum:-$any}\)\" \"$name\";\$/\1/p" "$file")
  if [ "$rights" = root:600 ] && [ -n "$found" ]; then state=right; else state=wrong; fi
  echo "key $name $state ${found:--} $(sed -n 's/^# //p' "$file")"
done
"""


@dataclass(frozen=True)
class Key:
    """A key that nginx knows.

    + right: it is as it should be, and only root can read it
    + sum: its SHA-256
    + renewed: the text of the inventory with which it was made; empty for none
    """

    right: bool
    sum: str = ""
    renewed: str = ""


@dataclass(frozen=True)
class Keys:
    """The gateway's keys by name; ``ended``: names of those that have replaced one which is valid no more."""

    keys: Mapping[str, Key] = field(default_factory=dict)
    ended: tuple[str, ...] = ()


class GatewayKeys(FactBase[Keys]):
    """The :class:`Keys` of the gateway."""

    @staticmethod
    def default() -> Keys:
        """None."""
        return Keys()

    def command(self) -> str:
        """A line for each."""
        return script(_KEYS, folder=gateway.KEYS)

    def process(self, output: list[str]) -> Keys:
        """Read the lines."""
        keys, ended = {}, []
        for line in output:
            match line.split(" ", 4):
                case ["ended", name]:
                    ended.append(name)
                case ["key", name, state, found, renewed]:
                    keys[name] = Key(state == "right", found.removeprefix("-"), renewed)
        return Keys(keys, tuple(ended))


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
  case $file in *.old.map) continue;; esac
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
