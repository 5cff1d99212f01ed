"""Authorities of the owner's own, which every program of the host trusts beside those that it brings."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Sequence

from pyinfra import host
from pyinfra.api import operation

from ojai.facts.authorities import DOCKER, DOCKER_FILE, PLACE, OwnAuthorities
from ojai.operations import Steps
from ojai.operations.files import text_file
from ojai.operations.ledger import note_lines, noted

#: A host without this program makes the bundle when it is installed.
_UPDATE = "! command -v update-ca-certificates >/dev/null || update-ca-certificates --fresh"


@operation()
def trusted(certificates: Sequence[str], registries: Sequence[str] = ()) -> Steps:
    """The host trusts these authorities, and no others of ours.

    + certificates: each in PEM form
    + registries: those that Docker is to trust by them at once: what the host trusts, it reads when it starts
    """
    found = host.get_fact(OwnAuthorities)
    wanted = {f"{PLACE}{number}.crt": text for number, text in enumerate(certificates)}
    folders = [f"{DOCKER}/{name}" for name in registries] if certificates else []
    wanted |= {f"{folder}/{DOCKER_FILE}": "".join(certificates) for folder in folders}
    sums = {path: hashlib.sha256(text.encode()).hexdigest() for path, text in wanted.items()}
    changed = [path for path, digest in sums.items() if path not in found or found[path].sha256 != digest]
    gone = [path for path in found if path not in wanted]
    if folders and any(path.startswith(DOCKER) for path in changed):
        places = shlex.join([DOCKER.rpartition("/")[0], DOCKER, *folders])
        yield note_lines("folders", f'for each in {places}; do test -e "$each" || echo "$each"; done')
    for path in changed:
        yield from text_file._inner(path=path, text=wanted[path])
    if gone:
        yield f"rm -f -- {shlex.join(gone)}"
    for folder in sorted(path.rpartition("/")[0] for path in gone if path.startswith(DOCKER)):
        place = shlex.quote(folder)
        yield f"! {noted('folders', place)} || rmdir --ignore-fail-on-non-empty {place}"
    if changed or gone or not all(found[path].trusted for path in wanted):
        yield _UPDATE
    else:
        host.noop("it does" if wanted else "none is named")
