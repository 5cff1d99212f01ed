"""apt: keys by fingerprint, sources that apt has really read, packages despite locks and interrupted runs.

pyinfra's ``apt.key`` only checks that a file exists, its ``apt.packages`` neither waits for the lock nor completes what
a killed dpkg left, and nothing in it knows whether a changed source has been read since.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Sequence
from itertools import chain

from pyinfra import host
from pyinfra.api import FunctionCommand, Host, State, operation

from ojai.facts.apt import (
    ALTERED,
    Alternative,
    AptLists,
    AptOffers,
    AptPackages,
    KeyringFingerprints,
    Offers,
    Packages,
    SourceRefreshed,
)
from ojai.facts.files import Entry, Places
from ojai.operations import Steps, steps_or_noop
from ojai.operations.ledger import STATE_DIR, added, forget, note, note_lines, record_residue
from ojai.operations.progress import ask, complain, connector_arguments, refuse, say, with_progress

#: Seconds to wait for another apt or dpkg (unattended-upgrades, most of the time) before giving up.
LOCK_TIMEOUT = 900

#: Written by our own ``apt-get update``: if it is newer than every source, key and pin, apt has read them.
STAMP = f"{STATE_DIR}/apt-refreshed"

#: Lists older than this (seconds) are updated before an installation.
STALE_LISTS = 86_400

_ENVIRONMENT = "DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a NEEDRESTART_SUSPEND=1 APT_LISTCHANGES_FRONTEND=none"
#: apt-get without questions, waiting for its lock.
COMMAND = f"{_ENVIRONMENT} apt-get -o DPkg::Lock::Timeout={LOCK_TIMEOUT} -q -y"
_KEEP_CONFIGURATION = "-o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold"

# A power cut leaves empty lists that look fresh, and that apt neither reads nor fetches again: delete them first, and
# have the new ones on disk before anything depends on them.
_UPDATE = (
    "find /var/lib/apt/lists -maxdepth 1 -type f -empty ! -name lock -delete; "
    f"{_ENVIRONMENT} apt-get -o DPkg::Lock::Timeout={LOCK_TIMEOUT} -o APT::Update::Error-Mode=any -q update && sync"
)


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


def locked(command: str, doing: str) -> Steps:
    """A long command that needs apt's lock."""
    yield FunctionCommand(wait_for_lock, (), {})
    yield with_progress(command, doing)


@operation()
def keyring(path: str, url: str, fingerprint: str) -> Steps:
    """Install a signing key as a binary keyring with no other key in it.

    + path: the keyring
    + url: where to download the key
    + fingerprint: 40 hex digits of the primary key, blanks ignored. A hash of the file would not do: AMD re-issued its
      key with a new expiry under the same fingerprint (ROCm/ROCm#854)
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
found=$(gpg --batch --with-colons --show-keys "$work/key.gpg" 2>/dev/null |
  awk -F: '$1 == "pub" {{p = 1}} $1 == "sub" {{p = 0}} $1 == "fpr" && p {{print $10; p = 0}}' | paste -sd ' ')
if [ "$found" != {expected} ]; then
  echo "the key at {url} is not the expected one: found ${{found:-no key}}, expected {expected}." >&2
  echo "Nothing was installed. If the key really was replaced, check the new fingerprint with its owner and set it." >&2
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
    yield from locked(f"mkdir -p {STATE_DIR} || exit 1; {_UPDATE} && touch {STAMP}", "apt-get update")


@operation()
def packages(
    names: list[str],
    origin: str | None = None,
    state: Sequence[str] = (),
    folders: Sequence[str] = (),
    groups: Sequence[str] = (),
) -> Steps:
    """Install packages, and complete what an interrupted run left half done.

    A hold is removed, because it would keep fixes away. A package whose files are gone or changed is reinstalled.
    Nothing else is removed for an installation: apt then stops and says what. New packages and the dependencies that
    come with them are recorded for removal.

    + names: the packages
    + origin: URL of a repository. They must have the version that it offers: another version is replaced, and a pin
      that prefers another is refused
    + state, folders, groups: what the packages create and leave behind (see :func:`ledger.record_residue`)
    """
    found = host.get_fact(AptPackages, names=tuple(names))
    offers = host.get_fact(AptOffers, names=tuple(names), origin=origin) if origin else Offers()
    outranked = _outranked(found, offers)
    if outranked:
        name, candidate = outranked
        yield refuse(
            f"{name}: found apt preferring {candidate}; expected {offers.newest[name]} of {origin}. Pins that name it: "
            f"{', '.join(offers.pins) or 'none'}. What to do: remove the pin, then run the deploy again."
        )
        return
    missing = [name for name in names if name not in found.installed]
    replaced = {
        name: offers.newest[name]
        for name in names
        if name in found.installed and offers.newest.get(name, "") not in ("", found.installed[name])
    }
    altered = [name for name in found.altered if name not in missing and name not in replaced]
    steps = chain(
        _remove_holds(found.held),
        _complete(found),
        _record(missing, state, folders, groups),
        _install(names, [*missing, *map("=".join, replaced.items())], bool(replaced), found.lists_age),
        _reinstall(altered),
    )
    yield from steps_or_noop(steps, f"installed: {' '.join(names)}")


def _outranked(found: Packages, offers: Offers) -> tuple[str, str] | None:
    """A package for which apt prefers a version of another repository, and that version."""
    for name, offered in offers.newest.items():
        candidate = offers.candidates.get(name, offered)
        if candidate not in (offered, found.installed.get(name)):
            return name, candidate
    return None


def _remove_holds(held: Sequence[str]) -> Steps:
    if held:
        yield f"apt-mark unhold {shlex.join(held)}"


def _complete(found: Packages) -> Steps:
    """Complete what an interrupted dpkg left half done."""
    if found.broken or found.unmet:
        what = " ".join([*found.broken, *found.unmet][:5])
        yield from locked(
            f"{_ENVIRONMENT} dpkg --configure -a --force-confdef --force-confold && {COMMAND} -f install",
            f"completing what dpkg left half done ({what})",
        )


def _record(missing: list[str], state: Sequence[str], folders: Sequence[str], groups: Sequence[str]) -> Steps:
    """Record for removal, before anything is installed."""
    if missing:
        yield note("packages", missing)
        if state or folders or groups:
            yield record_residue(state, folders, groups)


def _install(names: list[str], wanted: list[str], downgrades: bool, lists_age: int | None) -> Steps:
    """Install ``wanted`` (a name, or ``name=version``), and record the dependencies that come with it."""
    if not wanted:
        return
    if lists_age is None or lists_age > STALE_LISTS:
        yield from locked(_UPDATE, "apt-get update")
    install = (
        f"{COMMAND} {_KEEP_CONFIGURATION} --no-install-recommends "
        f"{'--allow-downgrades' if downgrades else '--no-remove'} install {shlex.join(wanted)}"
    )
    dependencies = (
        f"{install} --simulate 2>/dev/null | sed -n 's/^Inst \\([^ ]*\\) (.*/\\1/p' | "
        f"grep -vxF {' '.join(f'-e {shlex.quote(name)}' for name in names)}"
    )
    yield from locked(f"{note_lines('dependencies', dependencies)}; {install}", f"installing {' '.join(wanted)}")


def _reinstall(names: list[str]) -> Steps:
    """Restore the files of installed packages. Fails if apt can no longer get their version."""
    if names:
        yield from locked(
            f"set -e; {COMMAND} {_KEEP_CONFIGURATION} --reinstall install "
            f"{shlex.join(names)}; altered() {{ {ALTERED}; }}; for name in {shlex.join(names)}; do "
            'left=$(altered "$name" || true); [ -z "$left" ] || { echo "$name: still not as it was installed: $left. '
            'Its version can perhaps no longer be downloaded: apt-get install $name" >&2; exit 1; }; done',
            f"reinstalling {' '.join(names)}",
        )


def _purge(names: str, ours: Iterable[str]) -> str:
    """Shell that purges those of ``names`` (shell words) whose removal takes nothing along but packages of ``ours``."""
    return (
        f"set -e; all=' {' '.join(ours)} '; set --; for name in {names}; do "
        f"with=$({COMMAND} --simulate purge \"$name\" | sed -n 's/^\\(Purg\\|Remv\\) \\([^ ]*\\).*/\\2/p'); "
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
    yield from _complete(found)
    there = [*found.installed, *found.left]
    if there:
        yield from locked(
            _purge(shlex.join(there), [*installed, *added("dependencies")]), f"removing {' '.join(there)}"
        )
    yield forget("packages", ours)


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
    yield from _complete(found)
    there = [*found.installed, *found.left]
    if there:
        yield from locked(
            # apt's list of automatic installations has no package whose removal was interrupted.
            _purge(f"$(apt-mark showauto {shlex.join(there)}) {shlex.join(found.left)}", there),
            "removing dependencies that nothing needs any more",
        )
    yield forget("dependencies", names)


@operation()
def lists_removed(uris: list[str]) -> Steps:
    """Remove the package lists of archives whose sources are gone.

    + uris: URLs of the archives
    """
    prefixes = tuple(uri.split("://", 1)[-1].rstrip("/").replace("/", "_") + "_" for uri in uris)
    found = host.get_fact(AptLists, prefixes=prefixes)
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
