"""How a host and its services are at this moment, for ``ojai status``: one command, which changes nothing."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass

from pyinfra.api import FactBase

from ojai import resources
from ojai.connection import lock
from ojai.facts import script
from ojai.facts.readings import READINGS, Asked
from ojai.facts.service import CURL
from ojai.releases import FOLDER

#: Seconds between the two samples of the counters, from which the tokens a second are.
INTERVAL = 2


@dataclass(frozen=True)
class ServiceStatus:
    """A service; None is what it does not say.

    + load, active, sub: as systemd names them
    + since: when its unit became active (seconds since 1970)
    + health: HTTP status of the health path, 0 if nothing answers
    + model: the first of the models that the server lists
    + running, waiting: requests
    + tokens_per_second: of all requests together, over :data:`INTERVAL`
    + kv_cache: the share of the KV cache that is in use, 0 to 1
    + tuning: of its tuning file: ``kept``, ``stale`` (there are files of other images alone), ``missing``; or it
      ``tunes`` as it serves; None for a service without one
    """

    name: str
    load: str | None = None
    active: str | None = None
    sub: str | None = None
    since: float | None = None
    health: int | None = None
    model: str | None = None
    running: int | None = None
    waiting: int | None = None
    tokens_per_second: float | None = None
    kv_cache: float | None = None
    tuning: str | None = None


@dataclass(frozen=True)
class HostStatus:
    """A host; None is what it does not say. Amounts are bytes.

    + now: its clock (seconds since 1970)
    + gpu_busy: per cent; gpu_celsius: degrees
    + vram_used, vram_total: the carve-out; gtt_used, gtt_total: memory that is shared with the OS
    + disk_free, disk_total: of the file system with the weights
    + deployed: when the last deploy ended, or the last release was saved; deploying: one is running
    """

    now: float | None = None
    gpu_busy: float | None = None
    gpu_celsius: float | None = None
    vram_used: int | None = None
    vram_total: int | None = None
    gtt_used: int | None = None
    gtt_total: int | None = None
    disk_free: int | None = None
    disk_total: int | None = None
    deployed: float | None = None
    deploying: bool = False
    services: tuple[ServiceStatus, ...] = ()


_SCRIPT = r"""
export LC_ALL=C
fact() { printf 'fact %s\n' "$*"; }
%READINGS%
%TUNING%
seconds() { date -d "$1" +%s 2>/dev/null; }
fact now "$(date +%s)"
gpu
df -P -B1 "$data" 2>/dev/null | awk 'NR == 2 {print "fact disk free=" $4 " total=" $2}'
# A deploy empties the file of its lock when it ends; a reboot takes the file away.
[ ! -e "$lock" ] || [ -s "$lock" ] || fact deployed "$(stat -c %Y "$lock")"
[ ! -e "$lock" ] || [ -z "$(%LOOK%)" ] || fact deploying
for file in "$releases"/*/release.json; do
  kept=$(sed -n 's/.*"kept": *"\([^"]*\)".*/\1/p' "$file" 2>/dev/null | head -n 1)
  [ -z "$kept" ] || fact deployed "$(seconds "$kept")"
done
# name unit url health metrics models model key_file, and the metrics' names
service() {
  name=$1 unit=$2 url=$3 health_path=$4 models_path=$6 key_file=$8
  timeout 10 systemctl show "$unit" -p LoadState,ActiveState,SubState,ActiveEnterTimestamp 2>/dev/null | {
    while IFS='=' read -r key value; do
      case $key in
        LoadState) load=$value ;; ActiveState) active=$value ;; SubState) sub=$value ;;
        ActiveEnterTimestamp) since=$(seconds "${value:-never}") ;;
      esac
    done
    [ -z "$active" ] || fact unit "$name" "load=$load active=$active sub=$sub since=$since"
  }
  state=$(tuning "/etc/systemd/system/$unit")
  [ -z "$state" ] || fact tuning "$name" "$state"
  health=$(%CURL% -s -o /dev/null -m 5 -w '%{http_code}' "$url$health_path" 2>/dev/null)
  [ -z "$health" ] || fact health "$name" "$health"
  [ "$health" != 200 ] || fact models "$name" "$(with_key "$key_file" -m 5 "$url$models_path" | tr '\n\t' '  ')"
}
sample() {
  name=$1 url=$3$5 key_file=$8
  shift 8
  counted=$(metrics "$key_file" "$url" "$@")
  [ -z "$counted" ] || fact sample "$name at=$(date +%s.%N)$counted"
}
%SERVICES%
"""


class Status(FactBase[HostStatus]):
    """The :class:`HostStatus` of a host.

    + services: those to ask about
    + data: the folder with the weights
    """

    @staticmethod
    def default() -> HostStatus:
        """A host that says nothing."""
        return HostStatus()

    def command(self, services: tuple[Asked, ...], data: str) -> str:
        """Two samples of the counters, with a pause between them; the exit status tells nothing."""
        calls = [shlex.join(["service", *one.words]) for one in services]
        samples = [shlex.join(["sample", *one.words]) for one in services]
        words = {
            "%READINGS%": READINGS,
            "%TUNING%": resources.text("tuning.sh"),
            "%CURL%": CURL,
            "%LOOK%": lock.LOOK,
            "%SERVICES%": "\n".join([*calls, *samples, f"sleep {INTERVAL}", *samples] if services else ()),
        }
        text = _SCRIPT
        for mark, value in words.items():
            text = text.replace(mark, value)
        return script(f"{text}\n:", data=data, lock=lock.FILE, releases=FOLDER)

    def process(self, output: list[str]) -> HostStatus:
        """Read the lines; of several GPUs the one with the most memory."""
        gpus: list[dict[str, str]] = []
        disk: dict[str, str] = {}
        now: float | None = None
        deployed: list[float] = []
        deploying = False
        found: dict[str, dict[str, list[str]]] = {}
        for line in output:
            kind, _, rest = line.removeprefix("fact ").partition(" ")
            match kind:
                case "now":
                    now = _number(rest)
                case "gpu":
                    gpus.append(_values(rest))
                case "disk":
                    disk = _values(rest)
                case "deployed" if (when := _number(rest)) is not None:
                    deployed.append(when)
                case "deploying":
                    deploying = True
                case "unit" | "health" | "models" | "sample" | "tuning":
                    name, _, said = rest.partition(" ")
                    found.setdefault(name, {}).setdefault(kind, []).append(said)
        gpu = max(
            gpus, key=lambda one: (_whole(one.get("vram_total")) or 0, _whole(one.get("gtt_total")) or 0), default={}
        )
        heat = _number(gpu.get("temperature"))
        return HostStatus(
            now=now,
            gpu_busy=_number(gpu.get("busy")),
            gpu_celsius=None if heat is None else heat / 1000,
            **{name: _whole(gpu.get(name)) for name in ("vram_used", "vram_total", "gtt_used", "gtt_total")},
            disk_free=_whole(disk.get("free")),
            disk_total=_whole(disk.get("total")),
            deployed=max(deployed, default=None),
            deploying=deploying,
            services=tuple(_service(name, said) for name, said in found.items()),
        )


def _values(text: str) -> dict[str, str]:
    return dict(re.findall(r"(\w+)=(\S*)", text))


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def _whole(text: str | None) -> int | None:
    found = _number(text)
    return None if found is None else int(found)


def _service(name: str, said: dict[str, list[str]]) -> ServiceStatus:
    unit = _values("".join(said.get("unit", [])))
    samples = [_values(line) for line in said.get("sample", [])]
    last = samples[-1] if samples else {}
    return ServiceStatus(
        name=name,
        load=unit.get("load"),
        active=unit.get("active"),
        sub=unit.get("sub"),
        since=_number(unit.get("since")),
        health=_whole("".join(said.get("health", []))),
        model=_model("".join(said.get("models", []))),
        running=_whole(last.get("running")),
        waiting=_whole(last.get("waiting")),
        tokens_per_second=_rate(samples),
        kv_cache=_number(last.get("kv_cache")),
        tuning="".join(said.get("tuning", [])).partition(" ")[0] or None,
    )


def _model(text: str) -> str | None:
    try:
        return str(json.loads(text)["data"][0]["id"])
    except (ValueError, KeyError, IndexError, TypeError):
        return None


def _rate(samples: list[dict[str, str]]) -> float | None:
    """Tokens a second between two samples; None where a counter began anew between them."""
    counted = [(_number(one.get("at")), _number(one.get("generated"))) for one in samples]
    match counted:
        case [(float(since), float(before)), (float(at), float(after))] if at > since and after >= before:
            return (after - before) / (at - since)
    return None
