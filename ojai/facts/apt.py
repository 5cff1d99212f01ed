"""What apt and dpkg report."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field

from pyinfra.api import FactBase

from ojai.facts import Lines, Yes, script


@dataclass(frozen=True)
class Packages:
    """State of the packages that were asked about.

    + installed: name -> version of those that are fully installed
    + left: names of those that are neither that nor purged
    + broken: packages, of all, that dpkg left half done
    + triggers: packages, of all, whose triggers are left to do
    + interrupted: whether dpkg left a journal, without whose completion apt does nothing
    + unmet: package, of all -> its dependencies that nothing installed provides
    + held: names of those that are on hold, also of those that are not installed
    + unheld: packages that lost their hold when a run of ours was interrupted
    + altered: name -> its files that are gone or changed (not configuration, nor documentation that was left out)
    + lists_age: seconds since the last complete ``apt-get update``, None without one
    """

    installed: dict[str, str] = field(default_factory=dict)
    left: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    triggers: tuple[str, ...] = ()
    interrupted: bool = False
    unmet: dict[str, tuple[str, ...]] = field(default_factory=dict)
    held: tuple[str, ...] = ()
    unheld: tuple[str, ...] = ()
    altered: dict[str, tuple[str, ...]] = field(default_factory=dict)
    lists_age: int | None = None


#: ``apt-get indextargets`` of all sources, read or not; without lists and packages, whose cache it would make anew. The
#: names of lists come out in the folder ``/nowhere``.
INDEXTARGETS = (
    "LC_ALL=C apt-get -q -o Dir::State::lists=/nowhere/ -o Dir::State::status=/dev/null -o Dir::Cache::pkgcache= "
    "-o Dir::Cache::srcpkgcache= -o APT::Get::IndexTargets::ReleaseInfo=false indextargets"
)

#: Shell: when apt last read what an archive has, in seconds since 1970; nothing before the first time.
LISTS_READ = (
    "$(stat -c %Y /var/lib/apt/lists/*InRelease /var/lib/apt/lists/*_Release 2>/dev/null | sort -n | tail -n 1)"
)

#: A folder ``$pins`` with the preferences but for our own pins, for ``Dir::Etc::preferencesparts``: those say what was
#: locked before. Who asks removes it.
OTHER_PINS = r"""
pins=$(mktemp -d) && chmod 755 "$pins" || pins=/nowhere
for file in /etc/apt/preferences.d/*; do
  case $file in */ojai-lock) ;; *) [ ! -f "$file" ] || ln -s "$file" "$pins/";; esac
done
""".strip()

#: Prints the files of package $1 that are gone or changed.
ALTERED = (
    'dpkg --verify "$1" 2>/dev/null | '
    "sed -n 's,^missing  *\\(/.*\\)$,\\1,p; "
    "s,^..5......  *\\(/.*\\)$,\\1,p' | grep -v ^/usr/share/"
)

#: Prints ``unmet``, a package and what it needs for each dependency that nothing installed provides: without versions,
#: which apt checks when it installs. `apt-get check` knows more, but takes twenty times as long on every run, writes
#: its cache, and says nothing while a list or a source cannot be read.
UNMET = r"""
dpkg-query -W -f '${db:Status-Status}\t${Package}\t${Provides}\t${Pre-Depends}, ${Depends}\n' | awk -F '\t' '
  function plain(name) { sub(/\(.*/, "", name); sub(/:[a-z0-9]+ *$/, "", name); gsub(/ /, "", name); return name }
  $1 == "installed" || $1 ~ /^triggers-/ {
    there[$2]
    count = split($3, provided, ",")
    for (i = 1; i <= count; i++) there[plain(provided[i])]
    depends[$2] = $4
  }
  END {
    for (name in depends) {
      count = split(depends[name], needed, ",")
      for (i = 1; i <= count; i++) {
        alternatives = split(needed[i], one, "|")
        met = alternatives == 0
        for (j = 1; j <= alternatives; j++) if (plain(one[j]) == "" || plain(one[j]) in there) met = 1
        if (!met) print "unmet\t" name "\t" plain(one[1])
      }
    }
  }' | sort -u
""".strip()

_PACKAGES = (
    r"""
dpkg-query -W -f 'package\t${Status}\t${Package}\t${Version}\n' "$@" 2>/dev/null

dpkg-query -W -f '${db:Status-Status}\t${Package}\n' |
  sed -nE '/^(unpacked|half-configured|half-installed|triggers-awaited|triggers-pending)/s/^/broken\t/p'

[ -z "$(ls /var/lib/dpkg/updates 2>/dev/null)" ] || printf 'interrupted\tyes\n'
sed 's/^/unheld\t/' /var/lib/ojai/added/holds 2>/dev/null

%UNMET%

altered() { %ALTERED%; }
for name in "$@"; do altered "$name" | sed "s,^,altered\t$name\t,"; done

stamp=%LISTS_READ%
# Lists that a power cut emptied look fresh, and are as good as none.
empty=$(find /var/lib/apt/lists -maxdepth 1 -type f -empty ! -name lock 2>/dev/null | head -n 1)
[ -z "$stamp" ] || [ -n "$empty" ] || printf 'age\t%s\n' "$(($(date +%s) - stamp))"
printf 'end\n'
""".replace("%ALTERED%", ALTERED)
    .replace("%UNMET%", UNMET)
    .replace("%LISTS_READ%", LISTS_READ)
)


class AptPackages(FactBase[Packages]):
    """The state of packages: :class:`Packages`.

    + names: the packages
    """

    @staticmethod
    def default() -> Packages:
        """Nothing installed."""
        return Packages()

    def command(self, names: tuple[str, ...]) -> str:
        """What dpkg knows of them and of all packages, and the age of the package lists."""
        return script(_PACKAGES, *names)

    def process(self, output: list[str]) -> Packages:
        """Read the answer."""
        installed: dict[str, str] = {}
        left: list[str] = []
        broken: list[str] = []
        triggers: list[str] = []
        interrupted = False
        unheld: list[str] = []
        unmet: dict[str, tuple[str, ...]] = {}
        held: list[str] = []
        altered: dict[str, tuple[str, ...]] = {}
        age: int | None = None
        for line in output:
            if line.startswith("package\thold "):
                held.append(line.split("\t")[2])
            match line.split("\t"):
                case ["package", status, name, version] if status.endswith(" ok installed"):
                    installed[name] = version
                case ["package", status, name, _] if not status.endswith(" not-installed"):
                    left.append(name)
                case ["unmet", name, needed]:
                    unmet[name] = (*unmet.get(name, ()), needed)
                case ["altered", name, file]:
                    altered[name] = (*altered.get(name, ()), file)
                case ["broken", status, name]:
                    (triggers if status.startswith("triggers-") else broken).append(name)
                case ["interrupted", "yes"]:
                    interrupted = True
                case ["unheld", name]:
                    unheld.append(name)
                case ["age", seconds]:
                    age = int(seconds)
        return Packages(
            installed=installed,
            left=tuple(left),
            broken=tuple(broken),
            triggers=tuple(triggers),
            interrupted=interrupted,
            unheld=tuple(unheld),
            unmet=unmet,
            held=tuple(held),
            altered=altered,
            lists_age=age,
        )


class Versions(FactBase[dict[str, str]]):
    """The versions of those of the packages ``names`` that are installed."""

    @staticmethod
    def default() -> dict[str, str]:
        """None is."""
        return {}

    def command(self, names: tuple[str, ...]) -> str:
        """A line for each that dpkg knows."""
        form = r"${db:Status-Status}\t${Package}\t${Version}\n"
        return f"dpkg-query -W -f '{form}' {shlex.join(names)} 2>/dev/null || true"

    def process(self, output: list[str]) -> dict[str, str]:
        """Read the lines."""
        lines = (line.split("\t") for line in output)
        return {words[1]: words[2] for words in lines if len(words) == 3 and words[0] == "installed"}


@dataclass(frozen=True)
class Offers:
    """What a repository offers.

    + newest: name -> the newest version in it
    + candidates: name -> the version that apt would install
    + pins: preference files that name one of the packages
    """

    newest: dict[str, str] = field(default_factory=dict)
    candidates: dict[str, str] = field(default_factory=dict)
    pins: tuple[str, ...] = ()


_OFFERS = r"""
grep -slE "^Package:(.* )?(src:)?($pattern)( |$)" /etc/apt/preferences /etc/apt/preferences.d/* | sed 's/^/pin\t/'
printf 'origin\t%s\n' "$origin"
LC_ALL=C apt-cache policy "$@"
"""


class AptOffers(FactBase[Offers]):
    """The :class:`Offers` of a repository.

    + names: the packages
    + origin: URL of the repository
    """

    @staticmethod
    def default() -> Offers:
        """Nothing offered."""
        return Offers()

    def command(self, names: tuple[str, ...], origin: str) -> str:
        """The preferences that name the packages, and ``apt-cache policy``."""
        return script(_OFFERS, *names, pattern="|".join(re.escape(name) for name in names), origin=origin)

    def process(self, output: list[str]) -> Offers:
        """Read the version tables: a line for each version, newest first, followed by its sources."""
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


_FINGERPRINTS = r"""
[ -e "$path" ] || exit 0
# A home of its own, so that root's keyring is neither read nor created.
home=$(mktemp -d)
gpg --homedir "$home" --batch --quiet --with-colons --show-keys "$path" 2>/dev/null
rm -rf "$home"
"""


def usable_fingerprints(lines: Iterable[str]) -> tuple[str, ...]:
    """Fingerprints of the primary keys in gpg's listing that can sign today.

    A key that has expired or was revoked counts as absent. So does one whose subkeys for signing have all done so:
    gpg signs with a subkey where there is one.
    """
    fingerprints: list[str] = []
    primary = usable = False
    signing: list[bool] = []

    def close() -> None:
        if fingerprints and not (usable and (any(signing) or not signing)):
            fingerprints.pop()

    for line in lines:
        record = line.split(":")
        if record[0] == "pub":
            close()
            primary, usable, signing = True, record[1][:1] not in _UNUSABLE, []
            fingerprints.append("")
        elif record[0] == "sub":
            primary = False
            if "s" in record[11]:
                signing.append(record[1][:1] not in _UNUSABLE)
        elif record[0] == "fpr" and primary:
            fingerprints[-1] = record[9]
            primary = False
    close()
    return tuple(fingerprint for fingerprint in fingerprints if fingerprint)


#: gpg's letters for a key that is expired, revoked, disabled or invalid.
_UNUSABLE = frozenset("erdi")


class KeyringFingerprints(Lines):
    """Fingerprints (40 upper-case hex digits) of the usable primary keys in the keyring file at ``path``."""

    def command(self, path: str) -> str:
        """gpg's listing, for programs."""
        return script(_FINGERPRINTS, path=path)

    def process(self, output: list[str]) -> tuple[str, ...]:
        """Read gpg's records."""
        return usable_fingerprints(output)


_REFRESHED = r"""
[ -e "$stamp" ] || { echo no; exit 0; }
for input in "$@"; do
  [ ! "$input" -nt "$stamp" ] || echo no
  # apt names a list after its URL, with some characters encoded; what follows the archive is the file in it.
  case $input in *.sources|*.list)
    targets=$(%INDEXTARGETS% -o Dir::Etc::sourcelist="$input" -o Dir::Etc::sourceparts=/dev/null \
      --format '$(METAKEY) $(FILENAME)' 2>/dev/null) || echo no
    [ -z "$targets" ] || printf '%s\n' "$targets" |
      awk '{ sub(/^.*\//, "", $2); print substr($2, 1, length($2) - length($1)) }' | sort -u |
      while read -r archive; do ls /var/lib/apt/lists/"$archive"*Release >/dev/null 2>&1 || echo no; done;;
  esac
done
echo yes
""".replace("%INDEXTARGETS%", INDEXTARGETS)


class SourceRefreshed(Yes):
    """Whether apt has read its sources since they were last changed, and still has their lists.

    + stamp: file that our own ``apt-get update`` writes
    + inputs: sources, keys and pins
    """

    def command(self, stamp: str, inputs: tuple[str, ...]) -> str:
        """Prints ``no`` for each reason against it, then ``yes``."""
        return script(_REFRESHED, *inputs, stamp=stamp)


class Alternative(FactBase[bool]):
    """Whether ``link`` points to the best alternative of ``group``. True if there is no such group."""

    @staticmethod
    def default() -> bool:
        """Nothing to change."""
        return True

    def command(self, group: str, link: str) -> str:
        """Prints ``elsewhere`` if it does not."""
        return (
            f"best=$(update-alternatives --query {shlex.quote(group)} 2>/dev/null | sed -n 's/^Best: //p'); "
            f'[ -z "$best" ] || [ "$(readlink -f {shlex.quote(link)})" = "$best" ] || echo elsewhere'
        )

    def process(self, output: list[str]) -> bool:
        """Anything but ``elsewhere``."""
        return output != ["elsewhere"]


def list_name(uri: str) -> str:
    """How apt begins the names of an archive's lists: without scheme and user, _ for each slash."""
    address = uri.partition(":")[2].removeprefix("//").rstrip("/")
    host, slash, path = address.partition("/")
    quoted = "".join(f"%{ord(c):02x}" if c in _QUOTED else c for c in host.rpartition("@")[2] + slash + path)
    return quoted.replace("/", "_")


#: What apt encodes in the names of its lists (URItoFileName).
_QUOTED = frozenset('\\|{}[]<>"^~_=!@#$%&* ')

_LISTS = r"""
# What a source that is still there has, is not left over.
%INDEXTARGETS% --format '$(METAKEY) $(FILENAME)' 2>/dev/null |
  awk '{ sub(/^.*\//, "", $2); print "used " substr($2, 1, length($2) - length($1)) }' | sort -u
for prefix in "$@"; do
  find /var/lib/apt/lists -maxdepth 1 -type f -printf '%f\n' | awk -v prefix="$prefix" 'index($0, prefix) == 1'
done | sort -u
""".replace("%INDEXTARGETS%", INDEXTARGETS)


class AptLists(Lines):
    """Names of apt's list files that begin with one of ``prefixes``, and that no source has any more."""

    def command(self, prefixes: tuple[str, ...]) -> str:
        """The beginnings of names that are in use, then one name per line."""
        return script(_LISTS, *prefixes)

    def process(self, output: list[str]) -> tuple[str, ...]:
        """The names without those in use."""
        used = tuple(line.removeprefix("used ") for line in output if line.startswith("used "))
        return tuple(line for line in output if line and not line.startswith("used ") and not line.startswith(used))
