"""What apt and dpkg say."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field

from pyinfra.api import FactBase


@dataclass(frozen=True)
class Packages:
    """State of the packages that were asked about.

    ``installed``: name -> version, fully installed ones only. ``left``: those that are neither that nor wholly gone
    (removed but for their configuration, or in the middle of it). ``broken``: packages that dpkg left half done, and
    ``unmet``: what installed packages depend on and nothing installed provides (any package, not only those asked
    about). ``held``: those that are on hold. ``altered``: name -> its files that are gone or not as they were
    installed (configuration files, and documentation that was left out, do not count). ``lists_age``: seconds since
    the last ``apt-get update`` that reached its end, None when there was none.
    """

    installed: dict[str, str] = field(default_factory=dict)
    left: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    unmet: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    altered: dict[str, tuple[str, ...]] = field(default_factory=dict)
    lists_age: int | None = None


#: Prints what installed packages depend on and nothing installed provides. Versions are left to apt: this is asked
#: on every run, and `apt-get check` takes seconds on a slow machine.
_UNMET = r"""
dpkg-query -W -f '${db:Status-Status}\t${Package}\t${Provides}\t${Pre-Depends}, ${Depends}\n' | awk -F '\t' '
function plain(text) { sub(/\(.*/, "", text); sub(/:[a-z0-9]+ *$/, "", text); gsub(/ /, "", text); return text }
$1 == "installed" || $1 ~ /^triggers-/ {
  have[$2]; n = split($3, given, ","); for (i = 1; i <= n; i++) have[plain(given[i])]; wants[$2] = $4 }
END { for (name in wants) { n = split(wants[name], needs, ","); for (i = 1; i <= n; i++) {
  met = 0; m = split(needs[i], ways, "|")
  for (j = 1; j <= m; j++) { way = plain(ways[j]); if (way == "" || way in have) met = 1 }
  if (m && !met) print "unmet\t" plain(ways[1]) } } }' | sort -u
"""

#: Prints the files of package $1 that are gone or were changed.
ALTERED = (
    'dpkg --verify "$1" 2>/dev/null | '
    "sed -n 's,^missing  *\\(/.*\\)$,\\1,p; "
    "s,^..5......  *\\(/.*\\)$,\\1,p' | grep -v ^/usr/share/"
)


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
            f"| sed 's/^/broken\\t/'; {_UNMET.strip()}; altered() {{ {ALTERED}; }}; "
            f'for name in {shlex.join(names)}; do altered "$name" | sed "s,^,altered\\t$name\\t,"; done; '
            "stamp=$(stat -c %Y /var/lib/apt/lists/*InRelease /var/lib/apt/lists/*_Release 2>/dev/null "
            "| sort -n | tail -n 1); "
            # Emptied by a power cut, however fresh they look: as good as none.
            "empty=$(find /var/lib/apt/lists -maxdepth 1 -type f -empty ! -name lock 2>/dev/null | head -n 1); "
            '[ -z "$stamp" ] || [ -n "$empty" ] || printf "age\\t%s\\n" "$(( $(date +%s) - stamp ))"; printf "end\\n"'
        )

    def process(self, output: list[str]) -> Packages:
        """Read the answer."""
        installed: dict[str, str] = {}
        left: list[str] = []
        broken: list[str] = []
        unmet: list[str] = []
        held: list[str] = []
        altered: dict[str, tuple[str, ...]] = {}
        age: int | None = None
        for line in output:
            match line.split("\t"):
                case ["package", status, name, version] if status.endswith(" ok installed"):
                    installed[name] = version
                    if status.startswith("hold "):
                        held.append(name)
                case ["package", status, name, _] if not status.endswith(" not-installed"):
                    left.append(name)
                case ["unmet", name]:
                    unmet.append(name)
                case ["altered", name, file]:
                    altered[name] = (*altered.get(name, ()), file)
                case ["broken", _, name]:
                    broken.append(name)
                case ["age", seconds]:
                    age = int(seconds)
        return Packages(
            installed=installed,
            left=tuple(left),
            broken=tuple(broken),
            unmet=tuple(unmet),
            held=tuple(held),
            altered=altered,
            lists_age=age,
        )


@dataclass(frozen=True)
class Offers:
    """``newest``: name -> the newest version that the repository asked about offers. ``candidates``: name -> what apt
    would install of its own accord. ``pins``: files of preferences that name one of the packages."""

    newest: dict[str, str] = field(default_factory=dict)
    candidates: dict[str, str] = field(default_factory=dict)
    pins: tuple[str, ...] = ()


class AptOffers(FactBase[Offers]):
    """:class:`Offers` of the repository at ``origin`` (a URL) for ``names``."""

    @staticmethod
    def default() -> Offers:
        """Nothing offered."""
        return Offers()

    def command(self, names: tuple[str, ...], origin: str) -> str:
        """The preferences that name one of them, whose offers are asked for, and ``apt-cache policy``."""
        words = shlex.quote("|".join(re.escape(name) for name in names))
        return (
            f'names={words}; grep -slE "^Package:(.* )?(src:)?($names)( |$)" /etc/apt/preferences '
            "/etc/apt/preferences.d/* | sed 's/^/pin\\t/'; "
            f"printf 'origin\\t%s\\n' {shlex.quote(origin)}; LC_ALL=C apt-cache policy {shlex.join(names)}"
        )

    def process(self, output: list[str]) -> Offers:
        """Read the version tables: a version's line, then where it is to be had, newest version first."""
        offers: dict[str, str] = {}
        candidates: dict[str, str] = {}
        pins: list[str] = []
        origin = name = version = ""
        for line in output:
            words = line.split()
            if line.startswith("pin\t"):
                pins.append(line.split("\t", 1)[1])
            elif line.startswith("origin\t"):
                origin = line.split("\t", 1)[1].rstrip("/")
            elif line and not line[0].isspace():
                name = line.rstrip(":")
            elif words[:1] == ["Candidate:"]:
                candidates[name] = words[1]
            elif re.match(r"( \*\*\*|    ) \S+ -?\d+$", line):
                version = words[-2]
            elif len(words) > 1 and words[1].rstrip("/") == origin:
                offers.setdefault(name, version)
        return Offers(newest=offers, candidates=candidates, pins=tuple(pins))


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
    """Whether ``apt-get update`` has succeeded since the newest of ``inputs`` (sources, keys, pins) was changed, and
    what it read of the sources among them is still there."""

    @staticmethod
    def default() -> bool:
        """Not refreshed."""
        return False

    def command(self, stamp: str, inputs: tuple[str, ...]) -> str:
        """Compare the stamp that our own update leaves with the files that it read; look for each source's list.

        apt names a list for its URL: without scheme and user, ``_`` for each slash.
        """
        mark = shlex.quote(stamp)
        older = " && ".join(f"! test {shlex.quote(path)} -nt {mark}" for path in inputs)
        script = f"if test -e {mark} && {older}; then echo yes; else echo no; fi; "
        sources = [path for path in inputs if path.endswith(".sources")]
        if sources:
            script += (
                f"sed -n 's/^URIs: *//p' {shlex.join(sources)} 2>/dev/null | "
                "sed 's,^[a-z]*://,,; s,^[^/]*@,,; s,/*$,,; s,_,%5f,g; s,/,_,g' | while read -r name; do "
                'ls /var/lib/apt/lists/"$name"_dists_*Release >/dev/null 2>&1 || echo no; done'
            )
        return script

    def process(self, output: list[str]) -> bool:
        """``yes``, and no ``no``."""
        return output == ["yes"]


class Alternative(FactBase[bool]):
    """Whether ``link`` leads to the best of the alternatives of ``group``; True too where there is no such group."""

    @staticmethod
    def default() -> bool:
        """Nothing to be turned."""
        return True

    def command(self, group: str, link: str) -> str:
        """Prints ``elsewhere`` when it does not."""
        return (
            f"best=$(update-alternatives --query {shlex.quote(group)} 2>/dev/null | sed -n 's/^Best: //p'); "
            f'[ -z "$best" ] || [ "$(readlink -f {shlex.quote(link)})" = "$best" ] || echo elsewhere'
        )

    def process(self, output: list[str]) -> bool:
        """The word, or nothing."""
        return output != ["elsewhere"]


class AptLists(FactBase[tuple[str, ...]]):
    """Names of apt's list files that begin with one of ``prefixes``."""

    @staticmethod
    def default() -> tuple[str, ...]:
        """None."""
        return ()

    def command(self, prefixes: tuple[str, ...]) -> str:
        """One name a line; an archive's address stands in its lists' names, with _ for /."""
        begins = " ".join(f"-o -name {shlex.quote(prefix + '*')}" for prefix in prefixes).removeprefix("-o ")
        return f"find /var/lib/apt/lists -maxdepth 1 -type f \\( {begins} \\) -printf '%f\\n' | sort"

    def process(self, output: list[str]) -> tuple[str, ...]:
        """The names."""
        return tuple(line for line in output if line)
