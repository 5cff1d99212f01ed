"""What apt and dpkg say."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field

from pyinfra.api import FactBase


@dataclass(frozen=True)
class Packages:
    """State of the packages that were asked about.

    ``installed``: name -> version, fully installed ones only. ``broken``: packages that dpkg left half done
    (any package, not only those asked about). ``lists_age``: seconds since the last ``apt-get update`` that
    reached its end, None when there was none.
    """

    installed: dict[str, str] = field(default_factory=dict)
    broken: tuple[str, ...] = ()
    lists_age: int | None = None


class AptPackages(FactBase[Packages]):
    """:class:`Packages` for ``names``."""

    @staticmethod
    def default() -> Packages:
        """Nothing installed."""
        return Packages()

    def command(self, names: tuple[str, ...]) -> str:
        """One dpkg query, one look for half-done packages, the age of the package lists."""
        return (
            "dpkg-query -W -f 'package\\t${Status}\\t${Package}\\t${Version}\\n' "
            f"{shlex.join(names)} 2>/dev/null; "
            "dpkg-query -W -f '${db:Status-Status}\\t${Package}\\n' "
            "| grep -E '^(unpacked|half-configured|half-installed|triggers-awaited|triggers-pending)' "
            "| sed 's/^/broken\\t/'; "
            "stamp=$(stat -c %Y /var/lib/apt/lists/*InRelease /var/lib/apt/lists/*_Release 2>/dev/null "
            "| sort -n | tail -n 1); "
            '[ -z "$stamp" ] || printf "age\\t%s\\n" "$(( $(date +%s) - stamp ))"; printf "end\\n"'
        )

    def process(self, output: list[str]) -> Packages:
        """Read the answer."""
        installed: dict[str, str] = {}
        broken: list[str] = []
        age: int | None = None
        for line in output:
            match line.split("\t"):
                case ["package", status, name, version] if status.endswith(" ok installed"):
                    installed[name] = version
                case ["broken", _, name]:
                    broken.append(name)
                case ["age", seconds]:
                    age = int(seconds)
        return Packages(installed=installed, broken=tuple(broken), lists_age=age)


class AptOffers(FactBase[dict[str, str]]):
    """The newest version of each of ``names`` that the repository at ``origin`` (a URL) offers: name -> version."""

    @staticmethod
    def default() -> dict[str, str]:
        """Nothing offered."""
        return {}

    def command(self, names: tuple[str, ...], origin: str) -> str:
        """``apt-cache policy``, after a line that says whose offers are asked for."""
        return f"printf 'origin\\t%s\\n' {shlex.quote(origin)}; LC_ALL=C apt-cache policy {shlex.join(names)}"

    def process(self, output: list[str]) -> dict[str, str]:
        """Read the version tables: a version's line, then where it is to be had, newest version first."""
        offers: dict[str, str] = {}
        origin = output[0].split("\t", 1)[-1].rstrip("/")
        name = version = ""
        for line in output[1:]:
            words = line.split()
            if line and not line[0].isspace():
                name = line.rstrip(":")
            elif re.match(r"( \*\*\*|    ) \S+ -?\d+$", line):
                version = words[-2]
            elif len(words) > 1 and words[1].rstrip("/") == origin:
                offers.setdefault(name, version)
        return offers


class KeyringFingerprints(FactBase[tuple[str, ...]]):
    """Primary-key fingerprints (40 upper-case hex digits) in a keyring file; empty when there is no such file."""

    @staticmethod
    def default() -> tuple[str, ...]:
        """No file, or no key in it."""
        return ()

    def command(self, path: str) -> str:
        """Ask gpg, with a home of its own so that root's keyring is neither read nor made."""
        file = shlex.quote(path)
        return (
            f"! test -e {file} || ( home=$(mktemp -d); "
            f'gpg --homedir "$home" --batch --quiet --with-colons --show-keys {file} 2>/dev/null || true; '
            'rm -rf "$home" )'
        )

    def process(self, output: list[str]) -> tuple[str, ...]:
        """The ``fpr`` record that follows each ``pub`` record."""
        fingerprints: list[str] = []
        primary = False
        for line in output:
            record = line.split(":")
            if record[0] in ("pub", "sub"):
                primary = record[0] == "pub"
            elif record[0] == "fpr" and primary:
                fingerprints.append(record[9])
                primary = False
        return tuple(fingerprints)


class SourceRefreshed(FactBase[bool]):
    """Whether ``apt-get update`` has succeeded since the newest of ``inputs`` (sources, keys, pins) was changed."""

    @staticmethod
    def default() -> bool:
        """Not refreshed."""
        return False

    def command(self, stamp: str, inputs: tuple[str, ...]) -> str:
        """Compare the stamp that our own update leaves with the files that it read."""
        mark = shlex.quote(stamp)
        older = " && ".join(f"! test {shlex.quote(path)} -nt {mark}" for path in inputs)
        return f"if test -e {mark} && {older}; then echo yes; else echo no; fi"

    def process(self, output: list[str]) -> bool:
        """``yes`` or ``no``."""
        return output == ["yes"]
