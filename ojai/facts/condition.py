"""What a host that may be ill answers: its logs, units, containers and servers, for ``ojai doctor``.

One command, which needs no program that such a host may lack: what cannot be asked is not said. Secrets stay on the
host: values of variables and options that are secret by name, tokens by their form, and whatever else has the value of
a secret in a service's environment file.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pyinfra.api import FactBase

from ojai import gateway, releases
from ojai.facts.docker import DOCKER, MASK_JSON, SECRET_NAME
from ojai.facts.readings import READINGS, Asked
from ojai.facts.report import HostReport, Report
from ojai.facts.service import CURL
from ojai.weights.program import STATE

#: Lines of logs at most: of the kernel, and of the units.
KERNEL_LINES, UNIT_LINES = 1500, 3000

# Facts are lines that begin with "fact" (see ojai/data/symptoms.yaml); the lines of HostReport follow.
_SCRIPT = r"""
export LC_ALL=C
unset DOCKER_HOST DOCKER_CONTEXT
fact() { printf 'fact %s\n' "$*"; }
%READINGS%
facts() {
  fact system "$(timeout 10 systemctl is-system-running 2>/dev/null)"
  fact boot "$(cat /proc/cmdline)"
  fact uptime "$(cut -d' ' -f1 /proc/uptime)"
  fact load "$(cut -d' ' -f1-3 /proc/loadavg)"
  awk '/^(MemTotal|MemAvailable|SwapFree):/ {printf "%s%s", (n++ ? " " : "fact memory "), $1 $2} END {print ""}' \
    /proc/meminfo
  timeout 10 systemctl list-units --failed --no-legend --plain 2>/dev/null | awk '{print "fact unit-failed " $1}'
  df -P -B1M -x tmpfs -x devtmpfs -x overlay -x squashfs 2>/dev/null | awk 'NR > 1 && $2 > 0 {
    print "fact disk " $6 " " ($4 < 200 ? "full" : $4 " MiB free")}'
  df -P -i -x tmpfs -x devtmpfs -x overlay -x squashfs 2>/dev/null |
    awk 'NR > 1 && $2 > 0 && $4 < 1000 {print "fact inodes " $6 " full"}'
  # The file system's own options: a mount of a part of it may be read-only, and it is not.
  awk '{for (i = 7; $i != "-"; i++); if ($(i + 1) ~ /^(ext4|xfs|btrfs)$/ && $(i + 3) ~ /(^|,)ro(,|$)/)
    print "fact readonly " $5}' /proc/self/mountinfo
  [ -e /dev/kfd ] || fact device /dev/kfd missing
  set -- /dev/dri/renderD*
  [ -e "$1" ] || fact device /dev/dri/renderD128 missing
  for file in /sys/fs/pstore/dmesg* /var/lib/systemd/pstore/*; do [ ! -e "$file" ] || fact pstore "$file"; done
  last=$(timeout 10 journalctl --no-pager -b -1 -n 3 -o cat 2>/dev/null)
  case $last in '' | *'Journal stopped'*) ;; *) fact previous-boot unclean;; esac
  gpu
  if ! command -v docker >/dev/null; then fact docker missing
  elif version=$(%DOCKER% version --format '{{.Server.Version}}' 2>/dev/null) && [ -n "$version" ]; then
    fact docker "$version"
  else fact docker down
  fi
}
unit() {
  timeout 10 systemctl show "$1" \
    -p LoadState,ActiveState,SubState,Result,ExecMainCode,ExecMainStatus,NRestarts,ActiveEnterTimestamp 2>/dev/null |
    awk -F= -v unit="$1" '{found[$1] = substr($0, length($1) + 2)} END {if (NR) printf "fact unit %s LoadState=%s " \
      "ActiveState=%s SubState=%s Result=%s ExecMainStatus=%s NRestarts=%s since=%s\n", unit, found["LoadState"],
      found["ActiveState"], found["SubState"], found["Result"], found["ExecMainStatus"], found["NRestarts"],
      found["ActiveEnterTimestamp"]}'
}
# name unit url health metrics models model key_file, and the metrics' names
service() {
  name=$1 unit=$2 url=$3 health_path=$4 metrics_path=$5 model=$7 key_file=$8
  shift 8
  unit "$unit"
  # What the last healthy release of this service was started by; a release of another ojai may not say it.
  healthy=%RELEASES%/healthy/release.json found=$(sha256sum "/etc/systemd/system/$unit" 2>/dev/null)
  [ -z "$found" ] || ! grep -q "\"name\": *\"$name\"" "$healthy" 2>/dev/null || grep -q "${found%% *}" "$healthy" ||
    fact unit-edited "$unit"
  state=$(%DOCKER% container inspect --format 'Status={{.State.Status}} ExitCode={{.State.ExitCode}} '\
'OOMKilled={{.State.OOMKilled}} Image={{.Config.Image}} StartedAt={{.State.StartedAt}}' "$name" 2>/dev/null) &&
    fact container "$name" "$state"
  health=$(%CURL% -s -o /dev/null -m 5 -w '%{http_code}' "$url$health_path" 2>/dev/null)
  [ -z "$health" ] || fact health "$name" "$health"
  [ "$health" = 200 ] || return
  counted=$(metrics "$key_file" "$url$metrics_path" "$@")
  [ -z "$counted" ] || fact metrics "$name$counted"
  fact probe "$name" "$(with_key "$key_file" -m 60 -w ' status=%{http_code} seconds=%{time_total}' \
    -H 'Content-Type: application/json' -d "{\"model\": \"$model\", \"max_tokens\": 24, \"temperature\": 0, \
\"messages\": [{\"role\": \"user\", \"content\": \"Name three rivers.\"}]}" "$url/v1/chat/completions" |
    tr '\n\t' '  ' | cut -c 1-1200)"
}
logs() {
  {
    # The kernel of a container tells of all that the machine around it does.
    systemd-detect-virt -cq 2>/dev/null || {
      kernel=$(timeout 30 journalctl --no-pager -q -k -b -n %KERNEL% -o short-iso-precise --utc 2>/dev/null)
      [ -n "$kernel" ] || kernel=$({ dmesg --time-format iso || dmesg; } 2>/dev/null | tail -n %KERNEL%)
      printf '%s\n' "$kernel"
    }
    set -- _SYSTEMD_UNIT=docker.service + UNIT=docker.service + _SYSTEMD_UNIT=containerd.service
    # Not what it logs of each request, which goes by syslog.
    set -- "$@" + _SYSTEMD_UNIT=%GATEWAY% _TRANSPORT=stdout + UNIT=%GATEWAY%
    for unit in %UNITS%; do set -- "$@" + "_SYSTEMD_UNIT=$unit" + "UNIT=$unit"; done
    timeout 30 journalctl --no-pager -q -b -n %LINES% -o short-iso-precise --utc "$@" 2>/dev/null
  } | grep . | sort -s -k 1,1 | sed 's/^/doctor-log\t/'
}
files() {
  set -- /etc/docker/daemon.json /etc/systemd/system/docker.service.d/*.conf %RELEASES%/*/release.json
  for unit in %UNITS%; do set -- "$@" "/etc/systemd/system/$unit" "/etc/systemd/system/$unit.d"/*.conf; done
  for file; do
    [ ! -f "$file" ] || head -c 20000 "$file" | sed "s|^|doctor-file\t$file\t|"
  done
  for file in %WEIGHTS%/models--*@*; do
    case $file in *.part) ;; *) sed -n "s|^commit\t|doctor-file\tweights\t${file##*/} |p" "$file" 2>/dev/null;; esac
  done
  uname -a | sed 's/^/doctor-file\tuname\t/'
  cat /etc/os-release 2>/dev/null | sed 's/^/doctor-file\tos-release\t/'
  dpkg-query -W -f '${db:Status-Status} ${Package} ${Version}\n' 'linux-image-*' 'linux-firmware*' 'docker*' \
    'containerd*' 'rocm*' 'amdgpu*' 2>/dev/null | sed -n 's/^installed /doctor-file\tpackages\t/p'
}
secrets=$({ sed -nE 's/^[[:space:]]*[A-Za-z0-9_]*%SECRET%[A-Za-z0-9_]*=//Ip' %ENV_FILES% /dev/null
  cat /etc/ojai/*.secrets/* /etc/ojai/gateway/keys/*.key; } 2>/dev/null |
  tr -d "\"'" | awk 'length >= 6')
# shellcheck disable=SC2329  # the report's functions, which are called in a pipe here
{ facts
%SERVICES%[ ! -e /etc/systemd/system/%GATEWAY% ] || unit %GATEWAY%
logs
files
%REPORT%
} 2>/dev/null | %MASK% | secrets="$secrets" awk 'BEGIN {many = split(ENVIRON["secrets"], secret, "\n")} {
  for (i = 1; i <= many; i++) if (secret[i] != "") while (at = index($0, secret[i]))
    $0 = substr($0, 1, at - 1) "(removed)" substr($0, at + length(secret[i]))
  print}'
"""

#: What has the form of a secret, whatever its name: tokens, and values in Python's or JSON's notation.
_MASK_FORMS = (
    r"""sed -E 's/\b(hf_|sk-|ghp_|gho_|glpat-|dckr_pat_)[A-Za-z0-9_-]{8,}/\1(removed)/g; """
    r"""s/\b(bearer|basic) +[A-Za-z0-9._~+\/=-]{6,}/\1 (removed)/Ig; """
    r"""s/([\x27"][A-Za-z_-]*(key|token|password|secret)[\x27"]: *)"""
    r"""(\[[^]]*\]|\x27[^\x27]*\x27|"[^"]*")/\1(removed)/Ig'"""
)

#: Removes secrets from the lines of its input.
MASK = f"{MASK_JSON} | {_MASK_FORMS}"


@dataclass(frozen=True)
class Answered:
    """A host's answer.

    + facts: lines that begin with ``fact``
    + log: lines of the kernel's and the units' journal, in the order of time
    + files: texts that a maintainer would ask for, by name
    + report: None where there is none
    """

    facts: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    report: Report | None = None


def read(lines: Sequence[str]) -> Answered:
    """Read the answer of :class:`Condition`."""
    files: dict[str, list[str]] = {}
    log = []
    for line in lines:
        kind, _, rest = line.partition("\t")
        if kind == "doctor-log":
            log.append(rest)
        elif kind == "doctor-file":
            name, _, text = rest.partition("\t")
            files.setdefault(name, []).append(text)
    return Answered(
        facts=tuple(line for line in lines if line.startswith("fact ")),
        log=tuple(log),
        files={name: "\n".join(text) for name, text in files.items()},
        report=HostReport().process([line for line in lines if not line.startswith(("fact ", "doctor-"))]),
    )


class Condition(FactBase[Answered]):
    """The :class:`Answered` of a host.

    + services: those to ask about, :class:`Asked`
    + report: arguments of the fact ``HostReport``, which is asked for in the same command
    """

    @staticmethod
    def default() -> Answered:
        """No answer."""
        return Answered()

    def command(self, services: tuple[Asked, ...], report: dict[str, Any]) -> str:
        """Both scripts; the exit status tells nothing."""
        calls = "".join(f"{shlex.join(['service', *one.words])}\n" for one in services)
        words = {
            "%READINGS%": READINGS,
            "%DOCKER%": DOCKER,
            "%CURL%": CURL,
            "%SECRET%": SECRET_NAME,
            "%MASK%": MASK,
            "%KERNEL%": str(KERNEL_LINES),
            "%LINES%": str(UNIT_LINES),
            "%GATEWAY%": gateway.UNIT,
            "%UNITS%": shlex.join(one.unit for one in services),
            "%RELEASES%": shlex.quote(releases.FOLDER),
            "%WEIGHTS%": shlex.quote(STATE),
            "%ENV_FILES%": shlex.join(one.env_file for one in services),
            "%SERVICES%": calls,
            "%REPORT%": HostReport().command(**report),
        }
        script = _SCRIPT
        for mark, text in words.items():
            script = script.replace(mark, text)
        return script

    def process(self, output: list[str]) -> Answered:
        """Read the lines."""
        return read(output)
