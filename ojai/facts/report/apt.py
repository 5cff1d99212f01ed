"""What apt and dpkg have on a host before we come: sources, keys, pins, holds, breakage, and what apt would do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ojai.facts.apt import INDEXTARGETS, LISTS_READ, OTHER_PINS, UNMET, usable_fingerprints

#: Prints a line for each source that is in force. apt itself reads the files, one by one, so that one it refuses
#: hides no other; of its fields only Signed-By is read here, because no version of apt prints it. Credentials in URLs
#: never leave the host.
SCRIPT = (
    r"""
apt_tab=$(printf '\t')
apt_targets() {
  apt_format="\$(SOURCESENTRY)$apt_tab\$(IDENTIFIER)$apt_tab\$(SITE)$apt_tab\$(RELEASE)$apt_tab"
  apt_format="$apt_format\$(COMPONENT)$apt_tab\$(ARCHITECTURE)$apt_tab\$(METAKEY)$apt_tab\$(FILENAME)"
  %INDEXTARGETS% "$@" --format "$apt_format" 2>&1
}
# $1: a file of sources; $2: print the key that is embedded in this stanza, not the sources
apt_file() {
  awk -F '\t' -v file="$1" -v wanted="$2" '
    function trim(text) { gsub(/^[ \t]+|[ \t]+$/, "", text); return text }
    BEGIN {
      while ((getline line < file) > 0) {
        sub(/\r$/, "", line)
        number++
        if (file !~ /\.sources$/) {
          if (match(line, /signed-by=[^] \t]*/)) signed[number] = substr(line, RSTART + 10, RLENGTH - 10)
        } else if (line == "") inside = 0
        else if (line !~ /^#/) {
          if (!inside) { stanza++; inside = 1 }
          if (line !~ /^[ \t]/) {
            name = tolower(line)
            sub(/[ \t]*:.*/, "", name)
            sub(/^[^:]*:/, "", line)
          }
          if (name == "signed-by") signed[stanza] = signed[stanza] "\n" trim(line)
        }
      }
      if (wanted != "") { gsub(/\n\.(\n|$)/, "\n\n", signed[wanted]); print signed[wanted]; exit }
    }
    wanted != "" { next }
    /^E: / {
      gsub(/:\/\/[^\/@ ]*@/, "://")
      sub(/^E: */, "")
      if ($0 !~ /^The list of sources could not be read/) print "apt_unreadable\t" file "\t" $0
    }
    $2 == "Packages" || $2 == "Sources" {
      entry = $1
      sub(/.*:/, "", entry)
      for (i = 5; i <= 6; i++) if ($i ~ /^\$/) $i = ""
      if ($2 == "Sources") $6 = "source"
      key = signed[entry]
      gsub(/\n/, " ", key)
      key = key ~ /-----BEGIN/ ? "embedded" : trim(key)
      sub(/^.*\//, "", $8)
      release = "/var/lib/apt/lists/" substr($8, 1, length($8) - length($7))
      origin = ""
      for (i = 1; i <= 2 && origin == ""; i++) {
        list = release (i == 1 ? "InRelease" : "Release")
        while (origin == "" && (getline line < list) > 0)
          if (line ~ /^Origin: /) origin = substr(line, 9)
        close(list)
      }
      print "apt_source\t" file "\t" entry "\t" $3 "\t" $4 "\t" $5 "\t" $6 "\t" key "\t" origin
    }'
}
apt_sources() {
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
    [ -f "$file" ] || continue
    case ${file##*/} in *[!a-zA-Z0-9_.-]*) continue;; esac
    apt_targets -o Dir::Etc::sourcelist="$file" -o Dir::Etc::sourceparts=/dev/null | apt_file "$file"
  done
}
# $1: file, $2: entry, $3: Signed-By
apt_keys() {
  home=$(mktemp -d)
  show() { gpg --homedir "$home" --batch --quiet --with-colons --show-keys "$@" 2>/dev/null; }
  case $3 in
    embedded) apt_file "$1" "$2" </dev/null | show;;
    '') for ring in /etc/apt/trusted.gpg /etc/apt/trusted.gpg.d/*.gpg /etc/apt/trusted.gpg.d/*.asc; do
      [ ! -e "$ring" ] || show "$ring"; done;;
    *) for key in $(printf '%s' "$3" | tr , ' '); do
      case $key in /*) show "$key";; *) printf 'pub:::::::::::s:\nfpr:::::::::%s:\n' "${key%!}";; esac; done;;
  esac | sed -n "s,^\(pub\|sub\|fpr\):,apt_key\t$1\t$2\t&,p"
  rm -rf "$home"
}
apt_report() {
  found=$(apt_sources)
  printf '%s\n' "$found"
  # A file may be right by itself, and contradict another.
  apt_targets -o Dir::Etc::sourcelist=/etc/apt/sources.list -o Dir::Etc::sourceparts=/etc/apt/sources.list.d |
    sed -n 's/^E: *//p' | grep -v '^The list of sources could not be read' | sed 's,://[^/@ ]*@,://,g' |
    head -n 1 | sed 's/^/apt_conflict\t/'
  command -v gpg >/dev/null || printf 'apt_no_gpg\tyes\n'
  printf '%s\n' "$found" | awk -F '\t' 'tolower($0) ~ /^apt_source.*(docker|radeon|rocm|amd([^6]|$))/ {
    print $2 "|" $3 "|" $8 }' | sort -u | while IFS='|' read -r file entry signed; do
    apt_keys "$file" "$entry" "$signed"
    dpkg-query -S "$file" 2>/dev/null | sed "s,: .*,,; s,^,apt_owner\t$file\t,"
  done
  for file in /etc/apt/preferences /etc/apt/preferences.d/*; do
    [ -f "$file" ] && sed '/^#/d' "$file" | awk -v file="$file" 'BEGIN { RS = "" }
      tolower($0) ~ /radeon|rocm|amd|hip|hsa|migraphx/ { gsub(/\n/, "; "); print "apt_pin\t" file "\t" $0 }'
  done
}
apt_state() {
  dpkg-query -W -f 'apt_package\t${Status}\t${Package}\t${Version}\n' %ASKED% 2>/dev/null
  dpkg-query -W -f '${db:Status-Status}\t${Package}\n' |
    sed -nE 's/^(unpacked|half-configured|half-installed)\t/apt_broken\t/p'
  { %UNMET%; } | sed 's/^/apt_/'
  # Who depends on a version of one of them, which another archive may not have.
  asked="$(printf ' %s' %ROCM%) "
  dpkg-query -W -f '${db:Status-Status}\t${Package}\t${Pre-Depends}, ${Depends}\n' | awk -F '\t' -v asked="$asked" '
    $1 == "installed" {
      count = split($3, needed, ", *")
      for (i = 1; i <= count; i++) {
        name = needed[i]
        sub(/[ :(].*/, "", name)
        if (needed[i] ~ /\(/ && needed[i] !~ /\|/ && index(asked, " " name " ")) print "apt_needs\t" $2 "\t" needed[i]
      }
    }'
}
simulate() {
  LC_ALL=C apt-get --simulate -q -y --no-remove --no-install-recommends \
    -o APT::Get::Always-Include-Phased-Updates=true -o Dir::Etc::preferencesparts="$pins" "$@"
}
policy() { LC_ALL=C apt-cache -o Dir::Etc::preferencesparts="$pins" policy "$@" 2>/dev/null; }
# $1: what for, the rest: packages. What keeps apt from installing them.
apt_try() {
  reason=$1
  shift
  missing=
  for name; do
    case $(dpkg-query -W -f '${db:Status-Status}' "${name%%=*}" 2>/dev/null)$name in
      installed*=*) [ "$(dpkg-query -W -f '${Version}' "${name%%=*}")" = "${name#*=}" ] || missing="$missing $name";;
      installed*) ;;
      *) missing="$missing $name";;
    esac
  done
  [ -n "$missing" ] || return 0
  # shellcheck disable=SC2086
  set -- $missing
  if simulated=$(simulate --allow-downgrades install "$@" 2>&1); then
    printf '%s\n' "$simulated" | sed -n 's/^Inst linux-image-\(unsigned-\)\{0,1\}\([0-9][^ ]*\) .*/apt_kernel\t\2/p'
    return 0
  fi
  case $simulated in
    *'dpkg was interrupted'*) return 0;;
  esac
  # A breakage of others that is mended by adding packages does not stand in the way.
  case $simulated in *'--fix-broken install'*)
    simulate -f install >/dev/null 2>&1 && return 0;;
  esac
  printf '%s\n' "$simulated" | awk -v what="$reason" '
    /^[^ ]/ { part = "" }
    /^The following packages will be REMOVED:/ { part = "removes"; next }
    /unmet dependencies:$/ { part = "lacks"; next }
    part != "" { sub(/^ +/, ""); print "apt_" part "\t" what "\t" $0 }
    sub(/^E: */, "") { print "apt_refuses\t" what "\t" $0 }'
}
# What is foretold is what comes with the pins of the lock, whichever are there now.
apt_plan() {
  %OTHER_PINS%
  for each in %LOCKED%; do
    printf 'Package: %s\nPin: version %s\nPin-Priority: 999\n\n' "${each%%=*}" "${each#*=}" >>"$pins/ojai-lock"
  done
  apt_try 'the system' %SYSTEM%
  apt_try Docker %ENGINE%
  policy %ENGINE% | awk '/^[^ ]/ { sub(/:$/, ""); name = $0 }
    $1 == "Candidate:" && $2 != "(none)" { print "apt_engine\t" name "\t" $2 }'
  # Before AMD's archive is known, its versions are not.
  rocm=%ROCM_URI%
  case $found in *"$rocm"*) had=$(LC_ALL=C apt-cache madison %ROCM% 2>/dev/null |
    awk -v uri="$rocm" '$5 == uri { print $1 "=" $3 }');;
    *) had=;;
  esac
  # What the lock says counts, not what is newest; if the lists do not have it, apt is not asked.
  known=
  for each in $(printf '%s\n' "$had" | awk -F = '!($1 in seen) { print; seen[$1] }'); do
    # shellcheck disable=SC2089,SC2090
    for locked in %LOCKED%; do [ "${locked%%=*}" != "${each%%=*}" ] || each=$locked; done
    # shellcheck disable=SC2089,SC2090
    printf 'apt_offer\t%s\t%s\n' "${each%%=*}" "${each#*=}"
    ! printf '%s\n' "$had" | grep -qxF "$each" || known="$known $each"
  done
  # shellcheck disable=SC2086,SC2090
  apt_try ROCm $known
  # Without our own pin, what apt prefers says nothing yet.
  if [ -n "$known" ] && grep -qsx 'Pin-Priority: 600' /etc/apt/preferences.d/ojai-rocm-pin-600; then
    for each in $known; do policy "${each%%=*}"; done |
      awk '/^[^ ]/ { sub(/:$/, ""); name = $0 } $1 == "Candidate:" { print "apt_candidate\t" name "\t" $2 }'
  fi
  LC_ALL=C apt-config dump APT::Default-Release 2>/dev/null | sed -n 's/^[^"]*"\(.*\)";$/apt_default_release\t\1/p'
  newest=%LISTS_READ%
  [ -z "$newest" ] || printf 'apt_lists_age\t%s\n' "$(($(date +%s) - newest))"
  rm -rf "$pins"
}
# Which versions of the locked packages there are: in the archives, and where those have moved on, in the snapshot of
# the day of the lock, read into a folder of its own.
# shellcheck disable=SC2120
apt_locked() {
  dpkg-query -W -f 'apt_package\t${Status}\t${Package}\t${Version}\n' "$@" 2>/dev/null
  LC_ALL=C apt-cache madison "$@" 2>/dev/null | sed 's,://[^/@ ]*@,://,' | awk -F ' *[|] *' '
    { sub(/^ +/, "", $1); sub(/ .*/, "", $3) }
    !(($1, $2) in seen) { print "apt_version\t" $1 "\t" $2; seen[$1, $2] }
    !(($1, $3) in named) { print "apt_mirror\t" $1 "\t" $3; named[$1, $3] }'
}
# $1: the snapshot, the rest: packages
apt_snapshot() {
  snapshot=$1
  shift
  missing=
  for each; do
    name=${each%%=*}
    [ "$(dpkg-query -W -f '${Version}' "$name" 2>/dev/null)" = "${each#*=}" ] ||
      printf '%s\n' "$locked_found" | grep -qxF "$(printf 'apt_version\t%s\t%s' "$name" "${each#*=}")" ||
      missing="$missing $name"
  done
  # Only what the archives know, and have in other versions alone.
  known=
  for name in $missing; do
    ! printf '%s\n' "$locked_found" | grep -q "$(printf '^apt_version\t%s\t' "$name")" || known="$known $name"
  done
  [ -n "$known" ] || return 0
  apt-get --version | grep -q '^apt \(2\.[7-9]\|[3-9]\)' || return 0
  lists=$(mktemp -d)
  chmod 755 "$lists"
  # By its Release file apt knows where the snapshots of an archive are: without one, only of a few hosts. An archive
  # without snapshots stays as it is.
  cp /var/lib/apt/lists/*Release "$lists" 2>/dev/null
  set -- -q -o APT::Snapshot="$snapshot" -o Dir::State::lists="$lists" -o Dir::Cache::pkgcache= \
    -o Dir::Cache::srcpkgcache= -o Acquire::Languages=none
  LC_ALL=C timeout 90 apt-get "$@" update >"$lists.said" 2>&1
  [ $? != 124 ] || printf 'apt_snapshot_failed\tno end within 90 s\n'
  sed -n "s,://[^/@ ]*@,://,g; /^[EW]: .*$snapshot/{s/^.: /apt_snapshot_failed\t/p;q}" "$lists.said"
  # shellcheck disable=SC2086
  LC_ALL=C apt-cache "$@" madison $known 2>/dev/null |
    awk -F ' *[|] *' '{ sub(/^ +/, "", $1); print "apt_snapshot\t" $1 "\t" $2 }' | sort -u
  rm -rf "$lists" "$lists.said"
}
sort -u /var/lib/ojai/added/packages /var/lib/ojai/added/dependencies 2>/dev/null | sed 's/^/apt_ours\t/'
if command -v apt-get >/dev/null; then
  apt_report
  apt_state
  apt_plan
  for each in %LOCKED_NAMES%; do
    locked_found=$(apt_locked %LOCKED_NAMES%)
    printf '%s\n' "$locked_found"
    # shellcheck disable=SC2086,SC2089,SC2090
    for group in %SNAPSHOTS%; do apt_snapshot $group; done
    break
  done
fi
""".replace("%UNMET%", UNMET)
    .replace("%INDEXTARGETS%", INDEXTARGETS)
    .replace("%OTHER_PINS%", OTHER_PINS)
    .replace("%LISTS_READ%", LISTS_READ)
)


@dataclass(frozen=True)
class Source:
    """An archive that apt reads packages from, by one entry of one file.

    + file, entry: where it is; ``entry`` is the number of the line, or of the stanza in a ``.sources`` file
    + uri: without credentials, without a slash at the end
    + suite: as it is written, such as ``noble`` or ``./``
    + components, architectures: what is taken from it; ``source`` stands for source packages
    + signed_by: keyrings or fingerprints as they are written, ``embedded`` for a key in the file itself
    + origin: of its Release file, empty before apt has read it
    + keys: fingerprints of the primary keys that it may be signed with and that are usable; only of AMD's and Docker's
    + package: the package that the file is part of
    """

    file: str
    entry: int
    uri: str
    suite: str
    components: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    signed_by: str = ""
    origin: str = ""
    keys: tuple[str, ...] = ()
    package: str = ""

    @property
    def kind(self) -> str:
        """``rocm``, ``docker`` or ``other``: by the Release file, else by the address."""
        address = self.uri.partition("://")[2]
        host = address.partition("/")[0].partition(":")[0]
        if _ROCM_HOST.search(host) or _ROCM_ORIGIN.search(self.origin) or _ROCM_PATH.search(f"{address}/"):
            # The container toolkit's archive has one package, which no release of ROCm has.
            return "other" if "/amd-container-toolkit/" in f"{address}/" else "rocm"
        if host == "download.docker.com" or self.origin == "Docker" or "/docker-ce/linux/" in address:
            return "docker"
        return "other"

    @property
    def archive(self) -> tuple[str, str]:
        """What two entries for the same archive have in common: the address without its scheme, and the suite."""
        return self.uri.partition("://")[2].rstrip("/"), self.suite.rstrip("/")

    def __str__(self) -> str:
        return f"{self.file} ({' '.join([self.uri, self.suite, *self.components])})"


_ROCM_HOST = re.compile(r"(^|\.)(radeon|amd)\.com$")
_ROCM_ORIGIN = re.compile(r"radeon|\bamd\b|rocm", re.IGNORECASE)
#: On a mirror that apt has not read yet.
_ROCM_PATH = re.compile(r"/(rocm/(apt|core|packages)/|(amdgpu|graphics)/\d)", re.IGNORECASE)


@dataclass(frozen=True)
class Refusal:
    """Why apt would not install something: it says ``why``, would remove ``removes``, or names what others lack."""

    why: tuple[str, ...] = ()
    removes: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()


@dataclass(frozen=True)
class AptReport:
    """What apt and dpkg have.

    + sources: all that are in force
    + unreadable: file -> why apt cannot read it
    + conflict: why apt cannot read all files together
    + no_gpg: gpg is not installed, so that no key could be read
    + pins: file -> its stanzas that name AMD's archive or packages
    + ours: packages that the ledger names
    + installed: name -> version, of those that were asked about
    + held: those of them that are on hold, installed or not
    + broken: packages, of all, that dpkg left half done
    + unmet: package, of all -> its dependencies that nothing installed provides
    + needs: package, of all -> versions of AMD's packages that it depends on
    + offers: name -> the newest version in AMD's archive; empty before apt has read that archive
    + candidates: name -> the version that apt prefers, with our pin; empty before that is there
    + engines: package of the engine -> the version that apt would install
    + refusals: what for -> why apt would not install what is missing
    + kernels: releases of the kernels that would be installed
    + default_release: apt's setting of that name
    + lists_age: seconds since the package lists were read
    + versions: locked package -> its versions in the archives; empty before apt has read one that has it
    + mirrors: locked package -> addresses of the archives that have it in any version
    + snapshot_failed: why a snapshot could not be read
    + snapshot: the same as ``versions`` in Ubuntu's snapshot of the day of the lock, of those that are gone from it
    """

    sources: tuple[Source, ...] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)
    conflict: str = ""
    no_gpg: bool = False
    pins: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ours: frozenset[str] = frozenset()
    installed: Mapping[str, str] = field(default_factory=dict)
    held: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    unmet: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    offers: Mapping[str, str] = field(default_factory=dict)
    candidates: Mapping[str, str] = field(default_factory=dict)
    engines: Mapping[str, str] = field(default_factory=dict)
    refusals: Mapping[str, Refusal] = field(default_factory=dict)
    kernels: tuple[str, ...] = ()
    default_release: str = ""
    lists_age: int | None = None
    versions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    mirrors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    snapshot: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    snapshot_failed: str = ""


def words(
    system: tuple[str, ...],
    rocm: tuple[str, ...],
    engine: tuple[str, ...],
    archive: str,
    locked: tuple[str, ...] = (),
    snapshots: tuple[str, ...] = (),
) -> dict[str, tuple[str, ...]]:
    """What the script loops over: packages by what they are for, the address of AMD's archive, locked versions."""
    asked = tuple(dict.fromkeys((*system, *rocm, *engine)))
    pinned = {"%LOCKED_NAMES%": tuple(one.partition("=")[0] for one in locked), "%LOCKED%": locked}
    return {
        **pinned,
        "%SNAPSHOTS%": snapshots,
        "%ASKED%": asked,
        "%SYSTEM%": system,
        "%ROCM%": rocm,
        "%ENGINE%": engine,
        "%ROCM_URI%": (archive,),
    }


def read(every: Mapping[str, list[str]]) -> AptReport:
    """Read the lines of the script: key -> values."""
    entries: dict[tuple[str, int, str, str], list[list[str]]] = {}
    for line in every.get("apt_source", []):
        file, entry, uri, suite, *rest = line.split("\t")
        if len(rest) == 4 and entry.isdigit():
            entries.setdefault((file, int(entry), uri.rstrip("/"), suite), []).append(rest)
    keys: dict[tuple[str, str], list[str]] = {}
    for line in every.get("apt_key", []):
        file, entry, record = line.split("\t", 2)
        keys.setdefault((file, entry), []).append(record)
    owners = dict(_pairs(every.get("apt_owner", [])))
    why, removes, lacks = (_lists(every, key) for key in ("apt_refuses", "apt_removes", "apt_lacks"))
    states = [line.split("\t") for line in every.get("apt_package", [])]
    age = every.get("apt_lists_age", [""])[0]
    return AptReport(
        sources=tuple(
            Source(
                file=file,
                entry=entry,
                uri=uri,
                suite=suite,
                components=tuple(dict.fromkeys(row[0] for row in rows if row[0])),
                architectures=tuple(dict.fromkeys(row[1] for row in rows if row[1] not in ("", "all"))),
                signed_by=rows[0][2],
                origin=rows[0][3],
                keys=usable_fingerprints(keys.get((file, str(entry)), ())),
                package=owners.get(file, ""),
            )
            for (file, entry, uri, suite), rows in entries.items()
        ),
        unreadable=dict(_pairs(every.get("apt_unreadable", []))),
        conflict=every.get("apt_conflict", [""])[0],
        no_gpg=bool(every.get("apt_no_gpg")),
        pins=_lists(every, "apt_pin"),
        installed={name: version for status, name, version in states if status.endswith(" ok installed")},
        held=tuple(name for status, name, _ in states if status.startswith("hold ")),
        broken=tuple(every.get("apt_broken", [])),
        unmet=_lists(every, "apt_unmet"),
        needs=_lists(every, "apt_needs"),
        offers=dict(_pairs(every.get("apt_offer", []))),
        candidates=dict(_pairs(every.get("apt_candidate", []))),
        engines=dict(_pairs(every.get("apt_engine", []))),
        refusals={
            what: Refusal(
                why=why.get(what, ()),
                removes=tuple(" ".join(removes.get(what, ())).split()),
                lacks=lacks.get(what, ()),
            )
            for what in why
        },
        kernels=tuple(every.get("apt_kernel", ())),
        default_release=every.get("apt_default_release", [""])[0],
        lists_age=int(age) if age else None,
        versions=_lists(every, "apt_version"),
        mirrors=_lists(every, "apt_mirror"),
        snapshot=_lists(every, "apt_snapshot"),
        snapshot_failed=every.get("apt_snapshot_failed", [""])[0],
        ours=frozenset(every.get("apt_ours", [])),
    )


def _lists(every: Mapping[str, list[str]], key: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for name, value in _pairs(every.get(key, [])):
        found[name] = (*found.get(name, ()), value)
    return found


def _pairs(lines: Iterable[str]) -> Iterable[tuple[str, str]]:
    for line in lines:
        key, tab, value = line.partition("\t")
        if tab:
            yield key, value
