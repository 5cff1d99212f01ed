"""Where a host stands in a rollout: what came of the last one there, and what it has of what a lock names."""

from __future__ import annotations

import base64
import re
import shlex
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError
from pyinfra.api import FactBase

from ojai.connection import lock
from ojai.facts import script
from ojai.facts.readings import READINGS
from ojai.paths import ROLLOUT
from ojai.releases import FOLDER, from_json
from ojai.weights.program import STATE

#: Seconds by which a deploy's own end may seem later on the host than here.
SLACK = 5


@dataclass(frozen=True)
class Record:
    """What came of a rollout to a host, as it is kept there.

    + wanted: stands for all that the host was to be (:func:`ojai.rollout.wanted`)
    + ok: it was deployed, verified and smoked; ``why`` not
    + when: UTC, ISO 8601; by: account and computer; ojai: the version
    """

    wanted: str
    ok: bool
    why: str
    when: str
    by: str
    ojai: str


_RECORD = TypeAdapter(Record)


@dataclass(frozen=True)
class HostStanding:
    """A host in a rollout.

    + record: of the last one, if no other deploy has begun since
    + busy: the deploy that runs there now
    + ours: there is something of ojai's
    + digests: service -> registry digest of its image, of the last healthy release
    + models: name of a model's record -> commit
    + packages: those of the lock that are installed -> version
    + vram, gtt: bytes of the largest GPU's own memory, and of the OS's that it may have
    """

    record: Record | None = None
    busy: str = ""
    ours: bool = False
    digests: dict[str, str] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)
    vram: int | None = None
    gtt: int | None = None


_SCRIPT = r"""
export LC_ALL=C
fact() { printf 'fact %s\n' "$*"; }
%READINGS%
[ ! -e "$record" ] || fact record "$(base64 -w 0 "$record")"
[ ! -e "$lock" ] || fact busy "$(%LOOK%)"
[ ! -e "$ours" ] || fact ours
[ ! -e "$release" ] || fact release "$(base64 -w 0 "$release")"
for name in %MODELS%; do fact model "$name $(sed -n 's/^commit\t//p' "$state/$name" 2>/dev/null)"; done
[ $# = 0 ] || dpkg-query -W -f 'fact package ${db:Status-Status} ${Package} ${Version}\n' "$@" 2>/dev/null
gpu
:
"""


class Standing(FactBase[HostStanding]):
    """The :class:`HostStanding` of a host.

    + models: names of models' records
    + packages: names of packages
    """

    @staticmethod
    def default() -> HostStanding:
        """A host that has nothing."""
        return HostStanding()

    def command(self, models: tuple[str, ...], packages: tuple[str, ...]) -> str:
        """One look; the exit status tells nothing."""
        text = _SCRIPT
        for mark, value in {"%READINGS%": READINGS, "%LOOK%": lock.LOOK, "%MODELS%": shlex.join(models)}.items():
            text = text.replace(mark, value)
        places = {"record": ROLLOUT, "lock": lock.FILE, "ours": "/var/lib/ojai/schema", "state": STATE}
        return script(text, *packages, release=f"{FOLDER}/healthy/release.json", **places)

    def process(self, output: list[str]) -> HostStanding:
        """Read the lines; a record that is not whole is none."""
        record: Record | None = None
        busy, ours = "", False
        digests: dict[str, str] = {}
        models: dict[str, str] = {}
        packages: dict[str, str] = {}
        memory: list[tuple[int, int]] = []
        for line in output:
            kind, _, rest = line.removeprefix("fact ").partition(" ")
            match kind:
                case "record":
                    record = _record(rest)
                case "busy":
                    busy = str(lock.read(rest) or "")
                case "ours":
                    ours = True
                case "release" if release := from_json(base64.b64decode(rest)):
                    digests = {one.serving.name: one.contents.digest for one in release.services}
                case "model":
                    name, _, commit = rest.partition(" ")
                    models.update({name: commit} if commit else {})
                case "package":
                    status, name, version = (*rest.split(" "), "", "")[:3]
                    packages.update({name: version} if status == "installed" or status.startswith("triggers") else {})
                case "gpu":
                    found = dict(re.findall(r"(\w+)=(\d+)", rest))
                    memory.append((int(found.get("vram_total", 0)), int(found.get("gtt_total", 0))))
        vram, gtt = max(memory, default=(0, 0))
        return HostStanding(record, busy, ours, digests, models, packages, vram or None, gtt or None)


def _record(text: str) -> Record | None:
    try:
        return _RECORD.validate_json(base64.b64decode(text))
    except (ValueError, ValidationError):
        return None


def note(record: Record, age: float) -> str:
    """Shell that keeps a record on the host. It fails where another deploy has run there in these ``age`` seconds.

    A deploy takes the record away when it begins; one that began before this is known by the lock's file. Nothing is
    kept on a host on which there is nothing of ojai's.
    """
    text, held, young = shlex.quote(_RECORD.dump_json(record).decode()), lock.FILE, int(max(0, age - SLACK))
    folder = ROLLOUT.rpartition("/")[0]
    return (
        f"if [ -e {held} ] && {{ ! flock --shared --nonblock {held} true || "
        f"[ $(($(date +%s) - $(stat -c %Y {held}))) -lt {young} ]; }}; then "
        f"echo 'another deploy has run here meanwhile'; exit 1; fi; [ ! -d {folder} ] || {{ umask 077; "
        f"printf '%s\\n' {text} >{ROLLOUT}.new && sync {ROLLOUT}.new && mv -f {ROLLOUT}.new {ROLLOUT} && "
        f"sync {folder}; }}"
    )
