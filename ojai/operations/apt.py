"""apt: keys by fingerprint, sources that were really read, packages in spite of locks and cut-off runs.

pyinfra's ``apt.key`` checks only that a file exists, ``apt.packages`` neither waits for the lock nor mends what a
killed dpkg left, and nothing in it knows whether a changed source has been read since.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Sequence

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
from ojai.facts.ledger import Added
from ojai.operations import Steps
from ojai.operations.ledger import ADDED_DIR, STATE_DIR, forget, note, note_lines, record_residue
from ojai.operations.progress import ask, complain, connector_arguments, refuse, say, with_progress

#: Seconds to wait for another apt or dpkg (unattended-upgrades, most of the time) before giving up.
LOCK_TIMEOUT = 900

#: Left by our own ``apt-get update``: newer than every source, key and pin means that those were read.
STAMP = f"{STATE_DIR}/apt-refreshed"

#: Lists older than this (seconds) are read anew before something has to be installed.
STALE_LISTS = 86_400

_ENVIRONMENT = "DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a NEEDRESTART_SUSPEND=1 APT_LISTCHANGES_FRONTEND=none"
#: apt-get as it is called here: without questions, waiting for its lock.
COMMAND = f"{_ENVIRONMENT} apt-get -o DPkg::Lock::Timeout={LOCK_TIMEOUT} -q -y"

# A power cut leaves lists without content that look fresh, and that apt neither reads nor fetches again: they go first,
# and what is fetched is on the disk before anything counts on it.
_UPDATE = (
    "find /var/lib/apt/lists -maxdepth 1 -type f -empty ! -name lock -delete; "
    f"{_ENVIRONMENT} apt-get -o DPkg::Lock::Timeout={LOCK_TIMEOUT} -o APT::Update::Error-Mode=any -q update && sync"
)


#: Prints "pid command" of whoever holds a lock of apt or dpkg. /proc/locks is there on every host; fuser is not.
_HOLDER = (
    "for file in /var/lib/dpkg/lock-frontend /var/lib/dpkg/lock /var/lib/apt/lists/lock; do "
    "inode=$(stat -c %i $file 2>/dev/null) || continue; "
    'awk -v inode=":$inode" \'$2 == "POSIX" && index($6 " ", inode " ") {print $5}\' /proc/locks; done '
    '| sort -u | while read -r pid; do echo "$pid $(cat /proc/$pid/comm 2>/dev/null)"; done'
)


def wait_for_lock(state: State, host: Host) -> bool:
    """Wait until nobody holds a lock of apt or dpkg, saying who does; False after :data:`LOCK_TIMEOUT` seconds."""
    started = time.monotonic()
    while True:
        success, output = ask(host, _HOLDER, **connector_arguments(host))
        if not success:
            complain(host, "apt's locks could not be looked at: " + (output.stderr or "no answer from the host"))
            return False
        holders = ", ".join(output.stdout_lines)
        if not holders:
            return True
        waited = time.monotonic() - started
        if waited > LOCK_TIMEOUT:
            complain(
                host,
                f"apt's lock has been held for {waited:.0f} s by {holders}; expected: free. "
                "Let that process finish (or stop it), then run the deploy again.",
            )
            return False
        say(host, f"waiting for apt's lock, held by {holders} ({waited:.0f} of at most {LOCK_TIMEOUT} s)")
        time.sleep(5)


def locked(command: str, doing: str) -> Steps:
    """A long command that needs apt's lock, after waiting for it."""
    yield FunctionCommand(wait_for_lock, (), {})
    yield with_progress(command, doing)


@operation()
def keyring(path: str, url: str, fingerprint: str) -> Steps:
    """The signing key at ``url`` as a binary keyring at ``path``, and no other key in it.

    ``fingerprint`` (40 hex digits, blanks ignored) is that of the primary key: AMD re-issued its key with a new
    expiry under the same one (ROCm/ROCm#854), so a hash of the file would not do.
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
            # apt reads it as a user of its own, and says only that there is no key when it cannot.
            yield f"chown root:root {file} && chmod 644 {file}"
            return
    # One that a run which was cut off has put there meanwhile is left: a newer one would want the lists read anew.
    yield with_progress(
        f"""set -eu
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; export GNUPGHOME="$work"
curl --fail --silent --show-error --location --retry 3 --max-time 120 -o "$work/key" {shlex.quote(url)} || {{
  echo "the signing key could not be had from {url}: is the mirror up, and does this host reach it?" >&2; exit 1; }}
gpg --batch --quiet --dearmor -o "$work/key.gpg" "$work/key" 2>/dev/null || cp "$work/key" "$work/key.gpg"
found=$(gpg --batch --with-colons --show-keys "$work/key.gpg" 2>/dev/null |
  awk -F: '$1 == "pub" {{p = 1}} $1 == "sub" {{p = 0}} $1 == "fpr" && p {{print $10; p = 0}}' | paste -sd ' ')
if [ "$found" != {expected} ]; then
  echo "the key at {url} is not the one that was asked for: found ${{found:-no key}}, expected {expected}." >&2
  echo "Nothing was installed. If the key really was replaced, check the new fingerprint with its owner and set it." >&2
  exit 1
fi
install -d -m 755 "$(dirname {file})"; install -m 644 -o root -g root "$work/key.gpg" {file}.new
if cmp -s {file}.new {file} && ! test -L {file}; then rm {file}.new
else sync {file}.new; rm -f {file}; mv -T {file}.new {file}; fi""",
        f"fetching the signing key {expected[-16:]}",
    )


@operation()
def refreshed(inputs: list[str]) -> Steps:
    """apt has read its sources since the newest of ``inputs`` (sources, keys, pins) was changed."""
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
    """``names`` are installed, and nothing is left half done by a run that was cut off.

    With ``origin`` (a repository's URL) in the version that it offers: another release line is gone over to, and a
    package of the same name from elsewhere is replaced; a pin of others that prefers another is refused. Waits for
    apt's locks (:data:`LOCK_TIMEOUT` s). What was not there before is noted for removal. Nothing else is taken away
    for it: apt then stops and says what. A hold is taken off (it would keep the next release, and fixes, away), and
    a package whose files are gone or were changed is installed anew. ``state``, ``folders`` and
    ``groups``: what the packages make and leave behind when they are removed (see ``ojai.operations.ledger``).
    """
    found = host.get_fact(AptPackages, names=tuple(names))
    missing = [name for name in names if name not in found.installed]
    offers = host.get_fact(AptOffers, names=tuple(names), origin=origin) if origin else Offers()
    for name, offered in offers.newest.items():
        candidate = offers.candidates.get(name, offered)
        if candidate not in (offered, found.installed.get(name)):
            yield refuse(
                f"{name}: found apt preferring {candidate}; expected {offered} of {origin}. Pins that name it: "
                f"{', '.join(offers.pins) or 'none'}. What to do: remove the pin, then run the deploy again."
            )
            return
    others = [
        f"{name}={offers.newest[name]}"
        for name in names
        if name in found.installed and offers.newest.get(name, "") not in ("", found.installed[name])
    ]
    if found.held:
        yield f"apt-mark unhold {shlex.join(found.held)}"
    yield from _finished(found)
    if missing or others:
        if missing:
            yield note("packages", missing)
            if state or folders or groups:
                yield record_residue(state, folders, groups)
        change = "--allow-downgrades" if others else "--no-remove"
        if found.lists_age is None or found.lists_age > STALE_LISTS:
            yield from locked(_UPDATE, "apt-get update")
        install = (
            f"{COMMAND} -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "
            f"--no-install-recommends {change} install {shlex.join([*missing, *others])}"
        )
        # What comes with them is noted too: nobody else knows later what was there before.
        new = (
            f"{install} --simulate 2>/dev/null | sed -n 's/^Inst \\([^ ]*\\) (.*/\\1/p' | "
            f"grep -vxF {' '.join(f'-e {shlex.quote(name)}' for name in names)}"
        )
        yield from locked(
            f"{note_lines('dependencies', new)}; {install}", f"installing {' '.join([*missing, *others])}"
        )
    altered = [
        name for name in found.altered if name not in missing and not any(o.startswith(f"{name}=") for o in others)
    ]
    if altered:
        yield from locked(reinstall(altered), f"installing {' '.join(altered)} anew")
    if not (missing or others or altered or found.held or found.broken or found.unmet):
        host.noop(f"installed: {' '.join(names)}")


def _finished(found: Packages) -> Steps:
    """Nothing is left half done by a dpkg that was cut off."""
    if found.broken or found.unmet:
        what = " ".join([*found.broken, *found.unmet][:5])
        yield from locked(
            f"{_ENVIRONMENT} dpkg --configure -a --force-confdef --force-confold && {COMMAND} -f install",
            f"finishing what dpkg left half done ({what})",
        )


def _purge(names: str, ours: Iterable[str]) -> str:
    """Shell that purges those of ``names`` (words) with which nothing has to go that is not among ``ours``."""
    return (
        f"set -e; all=' {' '.join(ours)} '; set --; for name in {names}; do "
        f"with=$({COMMAND} --simulate purge \"$name\" | sed -n 's/^\\(Purg\\|Remv\\) \\([^ ]*\\).*/\\2/p'); "
        'needed=; for each in $with; do case "$all" in *" $each "*) ;; *) needed="$needed $each";; esac; done; '
        'if [ -z "$needed" ]; then set -- "$@" "$name"; else echo "$name stays:$needed needs it"; fi; done; '
        f'[ $# = 0 ] || {COMMAND} purge "$@"'
    )


def reinstall(names: list[str]) -> str:
    """Shell that puts the files of installed packages back. Fails where apt cannot get the version any more."""
    return (
        f"set -e; {COMMAND} -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold --reinstall install "
        f"{shlex.join(names)}; altered() {{ {ALTERED}; }}; for name in {shlex.join(names)}; do "
        'left=$(altered "$name" || true); [ -z "$left" ] || { echo "$name: still not as it was installed: $left. Its '
        'version can perhaps not be downloaded any more: apt-get install $name" >&2; exit 1; }; done'
    )


@operation()
def packages_removed(names: list[str]) -> Steps:
    """Those of ``names`` that this project installed are gone, but for what something else needs by now.

    What came with them: :func:`dependencies_removed`.
    """
    added = host.get_fact(Added, directory=ADDED_DIR, kind="packages")
    ours = [name for name in names if name in added]
    if not ours:
        host.noop("none of them was installed by this project")
        return
    found = host.get_fact(AptPackages, names=tuple(ours))
    yield from _finished(found)
    there = [*found.installed, *found.left]
    if there:
        came = host.get_fact(Added, directory=ADDED_DIR, kind="dependencies")
        yield from locked(_purge(shlex.join(there), [*added, *came]), f"removing {' '.join(there)}")
    yield forget("packages", ours)


@operation()
def dependencies_removed() -> Steps:
    """What came with our packages is gone, but for what something else needs now, or a person has asked for since.

    Not ``--auto-remove``: that also takes what was there before us, and leaves what another package only suggests.
    """
    names = host.get_fact(Added, directory=ADDED_DIR, kind="dependencies")
    found = host.get_fact(AptPackages, names=names) if names else Packages()
    yield from _finished(found)
    there = [*found.installed, *found.left]
    if there:
        yield from locked(
            # What is in the middle of being removed is in no list of apt's of what came by itself.
            _purge(f"$(apt-mark showauto {shlex.join(there)}) {shlex.join(found.left)}", there),
            "removing what came with our packages and nothing else needs",
        )
    if names:
        yield forget("dependencies", names)
    else:
        host.noop("nothing came with our packages")


@operation()
def lists_removed(uris: list[str]) -> Steps:
    """apt has no lists of these archives (``uris``, whose sources are gone) any more."""
    prefixes = tuple(uri.split("://", 1)[-1].rstrip("/").replace("/", "_") + "_" for uri in uris)
    found = host.get_fact(AptLists, prefixes=prefixes)
    if found:
        yield f"rm -f {shlex.join(f'/var/lib/apt/lists/{name}' for name in found)}"
    else:
        host.noop("apt has none")


@operation()
def alternative(group: str, link: str) -> Steps:
    """``link`` leads to the best of the alternatives of ``group``, which a package set up. Nothing where none did."""
    if host.get_fact(Alternative, group=group, link=link):
        host.noop(f"{link} leads where it should")
    else:
        yield f"update-alternatives --auto {shlex.quote(group)}"
