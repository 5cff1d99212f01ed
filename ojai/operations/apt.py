"""apt: keys by fingerprint, sources that apt has really read, packages despite locks and interrupted runs.

pyinfra's ``apt.key`` only checks that a file exists, its ``apt.packages`` neither waits for the lock nor completes what
a killed dpkg left, and nothing in it knows whether a changed source has been read since.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from pyinfra import host
from pyinfra.api import FunctionCommand, Host, State, operation

from ojai.facts.apt import (
    ALTERED,
    INDEXTARGETS,
    Alternative,
    AptLists,
    AptOffers,
    AptPackages,
    KeyringFingerprints,
    Offers,
    Packages,
    SourceRefreshed,
    Versions,
    list_name,
)
from ojai.facts.files import Entry, Places
from ojai.operations import Steps, steps_or_noop
from ojai.operations.ledger import ADDED_DIR, STATE_DIR, added, forget, note, note_lines, noted, record_residue
from ojai.operations.progress import ask, complain, connector_arguments, refuse, say, with_progress
from ojai.versions import newer

#: Seconds to wait for another apt or dpkg (unattended-upgrades, most of the time) before giving up.
LOCK_TIMEOUT = 900

#: Written by our own ``apt-get update``: if it is newer than every source, key and pin, apt has read them.
STAMP = f"{STATE_DIR}/apt-refreshed"

#: Ledger: ``name=version`` of packages of the owner's that another archive's version replaced.
_REPLACED = "replaced"

#: Lists older than this (seconds) are updated before an installation.
STALE_LISTS = 86_400

#: Sources that failed in the last update, and that no package of ours needs.
SKIPPED = "/run/ojai-apt-skipped"

#: Host -> package -> the version that it had before this run replaced it.
moved: dict[str, dict[str, str]] = {}

_ENVIRONMENT = "DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a NEEDRESTART_SUSPEND=1 APT_LISTCHANGES_FRONTEND=none"
#: apt-get without questions, waiting for its lock.
COMMAND = f"{_ENVIRONMENT} apt-get -o DPkg::Lock::Timeout={LOCK_TIMEOUT} -q -y"
#: The same, for everything that installs: it stops rather than remove a package, and leaves configuration files alone.
INSTALL = (
    f"{COMMAND} -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold --no-remove "
    # Ubuntu gives an update to some machines first. With APT::Get::Phase-Policy apt hides it from the others, and what
    # needs it cannot be installed there.
    "--no-install-recommends -o APT::Get::Always-Include-Phased-Updates=true"
)
#: Install what installed packages lack, if that removes nothing.
_FIX = f"{INSTALL} -f install"

# A power cut leaves empty lists that look fresh, and that apt neither reads nor fetches again: delete them first, and
# have the new ones on disk before anything depends on them.
# Only sources that are needed may fail the run: those in the files $needed, and the distribution's, in its own files.
# Which one a line of apt's is about, its address tells; an error that names none is everybody's.
_UPDATE = f"""\
find /var/lib/apt/lists -maxdepth 1 -type f -empty ! -name lock -delete
sites() {{ {INDEXTARGETS} "$@" --format '$(SITE) $(COMPONENT)' 2>/dev/null | sort -u; }}
log=$(mktemp) && trap 'rm -f "$log"' EXIT || exit 1
rm -f {SKIPPED}
LC_ALL=C {_ENVIRONMENT} apt-get -o DPkg::Lock::Timeout={LOCK_TIMEOUT} -o APT::Update::Error-Mode=any -q update \
  >"$log" 2>&1 && sync && exit 0
sed -i 's,://[^/@ ]*@,://,g' "$log"
cat "$log"
distribution='/etc/apt/sources.list /etc/apt/sources.list.d/ubuntu.sources /etc/apt/sources.list.d/debian.sources'
{{
  for file in $needed $distribution; do
    case " $distribution " in
      *" $file "*) of='^(main|restricted|universe|multiverse|contrib|non-free.*)$';; *) of=.;;
    esac
    [ ! -e "$file" ] || sites -o Dir::Etc::sourcelist="$file" -o Dir::Etc::sourceparts=/dev/null |
      awk -v of="$of" '$2 ~ of {{print "needed", $1}}'
  done
  sites | sed 's/^/any /'
  cat "$log"
}} | awk '
  $1 == "needed" {{ needed[$2]; next }}
  $1 == "any" {{ if (!($2 in needed)) other[$2]; next }}
  function names(site,  at) {{
    at = index($0, site)
    return at && substr($0, at + length(site), 1) !~ /[A-Za-z0-9._~-]/
  }}
  /^(Err:|E: |W: (GPG error|Failed|An error))/ {{
    for (site in needed) if (names(site)) bad = 1
    for (site in other) if (names(site)) skipped[site] = $0
  }}
  END {{ for (site in skipped) {{ print site; some = 1 }} exit (bad || !some) }}' >{SKIPPED} && sync || {{
    rm -f {SKIPPED}; exit 1; }}"""


#: Prints "pid command" of the holder of a lock of apt or dpkg. Every host has /proc/locks; not every host has fuser.
_HOLDER = (
    "for file in /var/lib/dpkg/lock-frontend /var/lib/dpkg/lock /var/lib/apt/lists/lock; do "
    "inode=$(stat -c %i $file 2>/dev/null) || continue; "
    'awk -v inode=":$inode" \'$2 == "POSIX" && index($6 " ", inode " ") {print $5}\' /proc/locks; done '
    '| sort -u | while read -r pid; do echo "$pid $(cat /proc/$pid/comm 2>/dev/null)"; done'
)


def wait_for_lock(state: State, host: Host) -> bool:
    """Wait until no lock of apt or dpkg is held, naming the holder; False after :data:`LOCK_TIMEOUT` seconds."""
    started = time.monotonic()
    while True:
        success, output = ask(host, _HOLDER, **connector_arguments(host))
        if not success:
            complain(host, "apt's locks could not be read: " + (output.stderr or "no answer from the host"))
            return False
        holders = ", ".join(output.stdout_lines)
        if not holders:
            return True
        waited = time.monotonic() - started
        if waited > LOCK_TIMEOUT:
            complain(
                host,
                f"apt's lock has been held for {waited:.0f} s by {holders}; expected: free. "
                "Let that process finish, or stop it, then run the deploy again.",
            )
            return False
        say(host, f"waiting for apt's lock, held by {holders} ({waited:.0f} of at most {LOCK_TIMEOUT} s)")
        time.sleep(5)


def locked(command: str, doing: str, show: bool = False) -> Steps:
    """A long command that needs apt's lock. ``show``: print what it says."""
    yield FunctionCommand(wait_for_lock, (), {})
    yield with_progress(command, doing, show)


def _say_skipped(state: State, host: Host) -> bool:
    _, output = ask(host, f"cat {SKIPPED} 2>/dev/null", **connector_arguments(host))
    for site in output.stdout_lines:
        say(host, f"apt-get update: {site} failed. No package of ojai's needs this source, so the deploy goes on.")
    return True


def _update(then: str = "true", needed: Sequence[str] = ()) -> Steps:
    """Update the package lists. ``then``: shell after it; ``needed``: files whose sources must not fail."""
    files = shlex.quote(" ".join(needed))
    yield from locked(f"needed={files}; ( {_UPDATE}\n) && {then}", "apt-get update")
    yield FunctionCommand(_say_skipped, (), {})


@operation()
def keyring(path: str, url: str, fingerprint: str) -> Steps:
    """Install a signing key as a binary keyring with no other key in it.

    + path: the keyring
    + url: where to download the key
    + fingerprint: 40 hex digits of the primary key, blanks ignored. A hash of the file would not do: AMD re-issued its
      key with a new expiry under the same fingerprint (ROCm/ROCm#854). An expired key is replaced by the one at ``url``
    """
    expected = fingerprint.replace(" ", "").upper()
    found = host.get_fact(KeyringFingerprints, path=path)
    file = shlex.quote(path)
    if found == (expected,):
        place = host.get_fact(Places, paths=(path,)).get(path)
        if place == Entry("regular file", "root", "root", "644"):
            host.noop(f"{path} holds {expected}")
            return
        if place and place.kind == "regular file":
            # apt reads it as another user, and reports a missing key if it cannot.
            yield f"chown root:root {file} && chmod 644 {file}"
            return
    # The same key from an interrupted run is kept: a newer file would require another update of the lists.
    yield with_progress(
        f"""set -eu
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; export GNUPGHOME="$work"
curl --fail --silent --show-error --location --retry 3 --max-time 120 -o "$work/key" {shlex.quote(url)} || {{
  echo "the signing key could not be downloaded from {url}: is the mirror up, and reachable from this host?" >&2
  exit 1; }}
gpg --batch --quiet --dearmor -o "$work/key.gpg" "$work/key" 2>/dev/null || cp "$work/key" "$work/key.gpg"
gpg --batch --with-colons --show-keys "$work/key.gpg" >"$work/shown" 2>/dev/null || true
found=$(awk -F: '$1 == "pub" {{p = 1}} $1 == "sub" {{p = 0}} $1 == "fpr" && p {{print $10; p = 0}}' "$work/shown" |
  paste -sd ' ')
if [ "$found" != {expected} ]; then
  echo "the key at {url} is not the expected one: found ${{found:-no key}}, expected {expected}." >&2
  echo "Nothing was installed. If the key really was replaced, check the new fingerprint with its owner and set it." >&2
  exit 1
fi
if awk -F: '$1 == "pub" {{bad = $2 ~ /^[erdi]/}} $1 == "sub" && $12 ~ /s/ {{n++; good += $2 !~ /^[erdi]/}}
  END {{exit !(bad || n && !good)}}' "$work/shown"; then
  echo "the key at {url} has expired, or was revoked: found {expected}; expected: the same key, valid today." >&2
  echo "What to do: wait until its owner has re-issued it there, then run the deploy again." >&2
  exit 1
fi
install -d -m 755 "$(dirname {file})"; install -m 644 -o root -g root "$work/key.gpg" {file}.new
if cmp -s {file}.new {file} && ! test -L {file}; then rm {file}.new
else sync {file}.new; rm -f {file}; mv -T {file}.new {file}; fi""",
        f"downloading the signing key {expected[-16:]}",
    )


@operation()
def lists_updated(inputs: list[str]) -> Steps:
    """Update the package lists if apt has not read its sources since they were changed.

    + inputs: files of sources, keys and pins
    """
    if host.get_fact(SourceRefreshed, stamp=STAMP, inputs=tuple(inputs)):
        host.noop("apt has read these sources")
        return
    sources = [path for path in inputs if path.endswith((".list", ".sources"))]
    yield from _update(f"mkdir -p {STATE_DIR} && touch {STAMP}", sources)


@operation()
def packages(
    names: list[str],
    origin: str | None = None,
    state: Sequence[str] = (),
    groups: Sequence[str] = (),
    users: Sequence[str] = (),
    versions: Mapping[str, str] | None = None,
    snapshot: str | None = None,
) -> Steps:
    """Install packages, and complete what an interrupted run left half done.

    A package on hold stays as it is; one that would have to be changed is refused. A package whose files are gone or
    changed is reinstalled. Nothing is removed for an installation: apt then stops and says what. New packages and the
    dependencies that come with them are recorded for removal, and so is the version of a package that is replaced.

    + names: the packages
    + origin: URL of a repository. They must have the version that it offers: another version is replaced, and a pin
      that prefers another is refused
    + state, groups, users: what the packages create and leave behind (see :func:`ledger.record_residue`)
    + versions: locked package -> version, also of what they depend on. Those that are installed must have it
    + snapshot: of the archive, in which a locked version is looked for that the archive has no more
    """
    versions = versions or {}
    found = host.get_fact(AptPackages, names=tuple(names))
    others = tuple(name for name in versions if name not in names)
    beside: dict[str, str] = host.get_fact(Versions, names=others) if others else {}
    there = {**beside, **found.installed}
    offers = host.get_fact(AptOffers, names=tuple(names), origin=origin) if origin else Offers()
    expected = {**offers.newest, **versions}
    outranked = _outranked(found, offers, versions)
    if outranked:
        name, candidate = outranked
        yield refuse(
            f"{name}: found apt preferring {candidate}; expected {offers.newest[name]} of {origin}. Pins that name it: "
            f"{', '.join(offers.pins) or 'none'}. What to do: remove the pin, then run the deploy again."
        )
        return
    missing = [name for name in names if name not in found.installed]
    replaced = {
        name: expected[name]
        for name in (*names, *others)
        if name in there and expected.get(name, "") not in ("", there[name])
    }
    fixed = [name for name in (*missing, *replaced) if name in found.held]
    if fixed:
        shown = [
            f"{name} {there[name]} where {replaced[name]} is wanted"
            if name in replaced
            else f"{name}, which is not installed"
            for name in fixed
        ]
        yield refuse(
            f"packages on hold: found {'; '.join(shown)}; expected packages that may be installed. What to do: `sudo "
            f"apt-mark unhold {' '.join(fixed)}`, or take them out of the inventory, then run the deploy again."
        )
        return
    altered = [name for name in found.altered if name not in missing and name not in replaced]
    wanted = [f"{name}={versions[name]}" if name in versions else name for name in missing]
    wanted += map("=".join, replaced.items())
    if host.state.is_executing:
        moved.setdefault(host.name, {}).update((name, there[name]) for name in replaced)
    steps = chain(
        _hold_again(found.unheld),
        _complete(found, names),
        _record(missing, state, groups, users),
        _install(names, wanted, bool(replaced), found, origin, versions, snapshot),
        _reinstall(altered),
    )
    yield from steps_or_noop(steps, f"installed: {' '.join(names)}")


def _outranked(found: Packages, offers: Offers, versions: Mapping[str, str]) -> tuple[str, str] | None:
    """A package for which apt prefers a version of another repository, and that version; not one that is locked."""
    for name, offered in offers.newest.items():
        if name in versions:
            continue
        candidate = offers.candidates.get(name, offered)
        if candidate not in (offered, found.installed.get(name)):
            return name, candidate
    return None


def _hold_again(names: Sequence[str]) -> Steps:
    """Put back the holds that a run was interrupted in putting back."""
    if names:
        yield f"apt-mark hold {shlex.join(names)} && rm -f {ADDED_DIR}/holds"


#: Whether these packages (``name``, or ``name=version``) are installed.
_INSTALLED = (
    'installed() { for each in "$@"; do case "$each '
    '$(dpkg-query -W -f \'${db:Status-Status} ${Version}\\n\' "${each%%=*}" 2>/dev/null | head -n 1)" in '
    '*=*" installed ${each#*=}"|*=*" triggers-"*" ${each#*=}") ;; *=*) return 1;; '
    '*" installed "*|*" triggers-"*) ;; *) return 1;; esac; done; }'
)


def _complete(found: Packages, names: Sequence[str]) -> Steps:
    """Complete what an interrupted dpkg left half done of ours: of ``names``, and of what the ledger names.

    What others left is not touched, unless apt refuses to install ours for it (see :func:`_install`).
    """
    if not (found.interrupted or found.broken or found.triggers or found.unmet):
        return
    ours = {*names, *added("packages"), *added("dependencies")}
    broken = [name for name in found.broken if name in ours]
    unmet = [name for name, needed in found.unmet.items() if name in ours or ours.intersection(needed)]
    configure = f"{_ENVIRONMENT} dpkg --configure -a --force-confdef --force-confold"
    if broken:
        # A script of another package that fails is its owner's trouble.
        yield from locked(
            f"{_INSTALLED}; {{ {configure} && {_FIX}; }} || installed {shlex.join(broken)}",
            f"completing what dpkg left half done ({' '.join(broken[:5])})",
        )
        return
    if found.triggers or found.interrupted:
        what = " ".join(found.triggers[:5]) or "its journal"
        yield from locked(f"{configure} || true", f"completing what dpkg left half done ({what})")
    if unmet:
        yield from locked(_FIX, f"installing what packages lack ({' '.join(unmet[:5])})")


def _record(missing: list[str], state: Sequence[str], groups: Sequence[str], users: Sequence[str]) -> Steps:
    """Record for removal, before anything is installed."""
    if missing:
        yield note("packages", missing)
        if state or groups or users:
            yield record_residue(state, groups, users)


#: Shell that finds the versions of a lock: in the archives, in their lists read anew, or in a snapshot of them (whose
#: lists are kept apart, in ``$lists``). The shell's parameters are then what apt is given to take them from there.
_FIND_LOCKED = """set --
gone() {{
  had=$(LC_ALL=C apt-cache "$@" madison {names} 2>/dev/null | sed 's,://[^/@ ]*@,://,' |
    awk -F ' *[|] *' '{{ sub(/^ +/, "", $1); sub(/ .*/, "", $3); print $1 "=" $2, $3 }}')
  LC_ALL=C {install} --simulate 2>&1 |
    sed -n "s/^Inst \\([^ ]*\\) .*/\\1/p; s/^E: Version '.*' for '\\(.*\\)' was not found/\\1/p" | sort -u |
    while read -r name; do for each in {locked}; do
      [ "${{each%%=*}}" = "$name" ] || continue
      printf '%s\\n' "$had" | cut -d ' ' -f 1 | grep -qxF -- "$each" && continue
      mirrors=$(printf '%s\\n' "$had" | sed -n "s/^$name=[^ ]* //p" | sort -u | paste -sd ' ')
      echo "E: Version '${{each#*=}}' for '$name' was not found at $mirrors"
    done; done | grep .
}}
if gone "$@" >/dev/null; then
  {update}
  if gone "$@"; then
    {snapshot}
    ! gone "$@" >/dev/null || {{
      echo "What to do: ojai lock --upgrade INVENTORY PACKAGE, or a mirror that keeps old versions." >&2; exit 1; }}
  fi
fi"""

_SNAPSHOT = """echo "looking into the snapshot of {taken}" >&2
    lists=$(mktemp -d) && chmod 755 "$lists" && trap 'rm -rf "$lists"' EXIT
    cp /var/lib/apt/lists/*Release "$lists"
    set -- -o APT::Snapshot={taken} -o Dir::State::lists="$lists"
    set -- "$@" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
    apt-get -q "$@" update >/dev/null 2>&1"""


def _install(
    names: Sequence[str],
    wanted: list[str],
    replaces: bool,
    found: Packages,
    origin: str | None,
    versions: Mapping[str, str],
    snapshot: str | None,
) -> Steps:
    """Install ``wanted`` (a name, or ``name=version``), and record what comes with it or is replaced by it."""
    if not wanted:
        return
    if found.lists_age is None or found.lists_age > STALE_LISTS:
        yield from _update()
    options = "--allow-downgrades " if replaces and origin else ""
    found_locked = '"$@" ' if versions else ""
    install = f"{INSTALL} {found_locked}{options}install {shlex.join(wanted)}"
    simulate = f"{install} --simulate 2>/dev/null"
    dependencies = (
        f"{simulate} | sed -n 's/^Inst \\([^ ]*\\) (.*/\\1/p' | "
        f"grep -vxF {' '.join(f'-e {shlex.quote(name)}' for name in names)}"
    )
    steps = []
    if versions:
        update = f"( {_UPDATE}\n) || exit 1"
        steps.append(
            _FIND_LOCKED.format(
                install=install,
                names=shlex.join(versions),
                locked=shlex.join(map("=".join, versions.items())),
                update=f"needed=; {update}",
                snapshot=_SNAPSHOT.format(taken=shlex.quote(snapshot)) if snapshot else ":",
            )
        )
    steps.append(note_lines("dependencies", dependencies))
    if replaces:
        # Upgrades within an archive are the owner's daily business. Here the archive changes.
        ours = " || ".join(noted(kind, '"$name"') for kind in ("packages", "dependencies"))
        before = (
            f"{simulate} | sed -n 's/^Inst \\([^ ]*\\) \\[\\([^]]*\\)\\] .*/\\1=\\2/p' | while read -r each; do "
            f"name=${{each%%=*}}; {ours} "
            f'|| grep -qs "^$name=" {ADDED_DIR}/{_REPLACED} || echo "$each"; done'
        )
        steps.append(note_lines(_REPLACED, before))
    if found.unmet:
        steps.append(f"{simulate} >/dev/null || {_FIX}")
    # apt also configures what others left half done. If that fails, and ours are installed, ours have not failed.
    done = f"{install} || installed {shlex.join(wanted)}"
    steps.append(
        f"{_INSTALLED}; {{ {done}; }} && {{ {_as_locked(versions)}; }}" if versions else f"{_INSTALLED}; {done}"
    )
    yield from locked("; ".join(steps), f"installing {' '.join(wanted)}")
    if versions and origin and not replaces:
        # Before the archive was known, nothing could be said of it.
        yield FunctionCommand(_say_newer, (versions, origin), {})


def _say_newer(state: State, host: Host, versions: Mapping[str, str], origin: str) -> bool:
    command = f"LC_ALL=C apt-cache madison {shlex.join(versions)} 2>/dev/null"
    _, output = ask(host, command, **connector_arguments(host))
    newest = dict(versions)
    for line in output.stdout_lines:
        words = [word.strip() for word in line.split("|")]
        if words[2].startswith(f"{origin} ") and newer(words[1], newest[words[0]]):
            newest[words[0]] = words[1]
    if shown := [f"{name} {one} (locked: {versions[name]})" for name, one in newest.items() if one != versions[name]]:
        say(host, f"lock: newer in the archives: {', '.join(shown)}; `ojai lock --upgrade INVENTORY` moves to it")
    return True


def _as_locked(versions: Mapping[str, str]) -> str:
    """Shell that fails where a locked package is installed in another version, and names it."""
    return (
        f"wrong=; for each in {shlex.join(map('='.join, versions.items()))}; do "
        "found=$(dpkg-query -W -f '${db:Status-Status} ${Version}' \"${each%%=*}\" 2>/dev/null); case $found in "
        '"installed ${each#*=}") ;; installed\\ *) wrong=yes; echo "${each%%=*}: found ${found#* } installed; expected '
        "${each#*=}, as the lock has it. What to do: apt-cache policy ${each%%=*} on the host says which pin or "
        'archive is in the way" >&2;; esac; done; [ -z "$wrong" ]'
    )


def reinstall(names: Sequence[str]) -> str:
    """Shell that restores the files of installed packages, and their holds, which a reinstallation takes off."""
    words = shlex.join(names)
    holds = note_lines("holds", "printf '%s\\n' \"$held\"")
    return (
        f"held=$(apt-mark showhold {words}); "
        f'[ -z "$held" ] || {{ {holds}; }}; '
        f"{INSTALL} --reinstall install {words}; status=$?; "
        """[ -z "$held" ] || { printf '%s\\n' "$held" | xargs apt-mark hold && """
        f"rm -f {ADDED_DIR}/holds; }}; [ $status = 0 ]"
    )


def _reinstall(names: list[str]) -> Steps:
    """Restore the files of installed packages. Fails if apt can no longer get their version."""
    if names:
        yield from locked(
            f"{reinstall(names)} || exit 1; altered() {{ {ALTERED}; }}; for name in {shlex.join(names)}; do "
            'left=$(altered "$name" || true); [ -z "$left" ] || { echo "$name: still not as it was installed: $left. '
            'Its version can perhaps no longer be downloaded: apt-get install $name" >&2; exit 1; }; done',
            f"reinstalling {' '.join(names)}",
        )


def _purge(names: str, ours: Iterable[str], found: Packages) -> str:
    """Shell that purges those of ``names`` (shell words) whose removal takes nothing along but packages of ``ours``.

    Judged for all of them together: what each of two packages may be removed for alone, both may not.
    """
    fix = f"{COMMAND} --simulate purge >/dev/null 2>&1 || {_FIX}; " if found.unmet else ""
    return (
        f"set -e; {fix}all=' {' '.join(ours)} '; set --; for name in {names}; do "
        f'with=$({COMMAND} --simulate purge "$@" "$name" | sed -n \'s/^\\(Purg\\|Remv\\) \\([^ ]*\\).*/\\2/p\'); '
        'needed=; for each in $with; do case "$all" in *" $each "*) ;; *) needed="$needed $each";; esac; done; '
        'if [ -z "$needed" ]; then set -- "$@" "$name"; else echo "$name stays:$needed needs it"; fi; done; '
        f'[ $# = 0 ] || {COMMAND} purge "$@"'
    )


@operation()
def packages_removed(names: list[str]) -> Steps:
    """Remove packages that this project installed, except those that something else needs by now.

    Their dependencies: :func:`dependencies_removed`.

    + names: the packages; those that the project did not install stay
    """
    installed = added("packages")
    ours = [name for name in names if name in installed]
    if not ours:
        host.noop("none of them was installed by this project")
        return
    found = host.get_fact(AptPackages, names=tuple(ours))
    yield from _complete(found, ours)
    there = [*found.installed, *found.left]
    if there:
        yield from locked(
            _purge(shlex.join(there), [*installed, *added("dependencies")], found), f"removing {' '.join(there)}"
        )
    yield forget("packages", ours)


@operation()
def packages_returned() -> Steps:
    """Give replaced packages the version that they had, where it can still be had, and nothing is removed for it."""
    entries = added(_REPLACED)
    if not entries:
        host.noop("no package was replaced")
        return
    install = f"{INSTALL} --allow-downgrades install"
    yield from locked(
        f"set --; for each in {shlex.join(entries)}; do "
        "case $(dpkg-query -W -f '${db:Status-Status}=${Version}' \"${each%%=*}\" 2>/dev/null) in "
        '"installed=${each#*=}") ;; installed=*) '
        f'if {install} --simulate "$@" "$each" >/dev/null 2>&1; then set -- "$@" "$each"; '
        'else echo "${each%%=*} stays as it is: apt cannot give $each back"; fi;; esac; done; '
        f'[ $# = 0 ] || {install} "$@"',
        "giving back the versions that were replaced",
        show=True,
    )
    yield forget(_REPLACED, entries)


@operation()
def dependencies_removed() -> Steps:
    """Remove the dependencies of our packages, except those that something else needs or a person asked for since.

    ``--auto-remove`` would also take what was there before us, and leave what another package only suggests.
    """
    names = added("dependencies")
    if not names:
        host.noop("nothing came with our packages")
        return
    found = host.get_fact(AptPackages, names=names)
    yield from _complete(found, names)
    there = [*found.installed, *found.left]
    if there:
        yield from locked(
            # apt's list of automatic installations has no package whose removal was interrupted.
            _purge(f"$(apt-mark showauto {shlex.join(there)}) {shlex.join(found.left)}", there, found),
            "removing dependencies that nothing needs any more",
        )
    yield forget("dependencies", names)


@operation()
def lists_removed(uris: list[str]) -> Steps:
    """Remove the package lists of archives whose sources are gone.

    + uris: URLs of the archives
    """
    found = host.get_fact(AptLists, prefixes=tuple(f"{list_name(uri)}_" for uri in uris))
    if found:
        yield f"rm -f {shlex.join(f'/var/lib/apt/lists/{name}' for name in found)}"
    else:
        host.noop("apt has none")


@operation()
def alternative(group: str, link: str) -> Steps:
    """Point a link to the best alternative of a group that a package set up. Nothing without such a group.

    + group: name of the alternatives
    + link: path that must lead to the best of them
    """
    if host.get_fact(Alternative, group=group, link=link):
        host.noop(f"{link} points to the best alternative")
    else:
        yield f"update-alternatives --auto {shlex.quote(group)}"
