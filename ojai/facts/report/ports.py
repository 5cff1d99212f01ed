"""Who holds a service's port: now, and after the next boot."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ojai.facts.docker import DOCKER
from ojai.facts.ledger import OwnUnits

#: Of a command line only the words that have a wanted port in them leave the host, each with the word before it: there
#: may be a key in the others. A process in another network namespace has its own ports, and is not in /proc/net.
SCRIPT = r"""
port_words() { awk -v port="$1" '$0 ~ "(^|[^0-9])" port "([^0-9]|$)" { print before, $0 } { before = $0 }'; }
for port in %PORTS%; do
  awk -v end="$(printf ':%04X$' "$port")" '$2 ~ end && $4 == "0A" { print $10, $2 }' /proc/net/tcp /proc/net/tcp6 \
    2>/dev/null | while read -r inode local; do
    found=
    for pid in $(find /proc/[0-9]*/fd -lname "socket:\[$inode\]" 2>/dev/null | cut -d/ -f3 | sort -nu); do
      found=yes
      group=$(sed -n 's/^\(0:\|1:name=systemd\)://p' "/proc/$pid/cgroup" 2>/dev/null | head -n 1)
      say port_listener "$port ${local%:*} $pid ${group:-/} $(cat "/proc/$pid/comm" 2>/dev/null)"
    done
    [ -n "$found" ] || say port_listener "$port ${local%:*} 0 / "
  done
done
set -- %PORTS%
if [ $# -gt 0 ]; then
  { %OWN_UNITS%; } | while IFS= read -r unit; do say own_unit "$unit"; done
  if command -v docker >/dev/null; then
    if containers=$(%DOCKER% ps --all --quiet --no-trunc 2>/dev/null); then
      say docker_answers yes
      [ -z "$containers" ] ||
        printf '%s\n' "$containers" | xargs %DOCKER% container inspect --format '{{.Id}} {{.Name}} {{.State.Status}} '\
'{{or .HostConfig.RestartPolicy.Name "no"}} {{.HostConfig.NetworkMode}} {{range .HostConfig.PortBindings}}{{range .}}'\
'{{.HostPort}},{{end}}{{end}}- {{json .Args}}' 2>/dev/null |
        while read -r id name status restart network published words; do
          say container "$id ${name#/} $status $restart"
          for port in %PORTS%; do
            case ",$published" in *",$port,"*) say port_container "$port $id published";; esac
            [ "$network" = host ] && printf '%s\n' "$words" | sed 's/^\["//; s/"\]$//; s/","/\n/g' |
              port_words "$port" | while IFS= read -r words; do say port_container "$port $id $words"; done
          done
        done
    fi
  fi
  unit_files
  units=$(printf '%s\n' "$unit_files" | awk '$1 !~ /@\./ && $2 ~ /^(enabled|generated)$/ { print $1 }')
  [ -z "$units" ] || printf '%s\n' "$units" |
    xargs systemctl show --property=Id --property=ExecStart --property=Environment --property=Listen 2>/dev/null |
    awk 'BEGIN { RS = ""; FS = "\n" }
      { for (i = 1; i <= NF; i++) if ($i ~ /^Id=/) id = substr($i, 4)
        for (i = 1; i <= NF; i++) if ($i !~ /^Id=/) print id, $i }' |
    while read -r unit line; do
      for port in %PORTS%; do
        case $line in *"$port"*)
          printf '%s\n' "$line" | sed 's/^ExecStart=.*argv\[\]=\(.*\) ; ignore_errors=.*/\1/' | tr ' ' '\n' |
            port_words "$port" | while IFS= read -r words; do say port_unit "$port $unit $words"; done;;
        esac
      done
    done
fi
""".replace("%OWN_UNITS%", OwnUnits().command("/var/lib/ojai/added")).replace("%DOCKER%", DOCKER)

Kind = Literal["container", "unit", "process"]


@dataclass(frozen=True)
class PortHolder:
    """A program that holds a wanted port, or will after the next boot.

    + port
    + kind: ``container`` of Docker, ``unit`` of systemd, or a ``process`` of neither, such as one in a terminal
    + name: of the container, the unit or the program; empty where the host does not know it
    + pid, program: the process that listens, and its name; 0 and empty for one that does not listen yet
    + address: the one address that it listens on; empty for all, or where that is not known
    + now: it holds the port now
    + at_boot: it will start at the next boot: the unit is enabled, or the container has a restart policy
    + ours: it belongs to a service of ours, whatever port that is to have
    """

    port: int
    kind: Kind
    name: str
    pid: int = 0
    program: str = ""
    address: str = ""
    now: bool = False
    at_boot: bool = False
    ours: bool = False


def words(ports: Sequence[int]) -> dict[str, tuple[str, ...]]:
    """What the script is to ask about."""
    return {"%PORTS%": tuple(map(str, ports))}


def read(every: Mapping[str, Sequence[str]]) -> tuple[PortHolder, ...]:
    """The holders of all wanted ports, each once."""
    own = set(every.get("own_unit", ()))
    containers = dict(_container(entry) for entry in every.get("container", ()))
    asked = [(int(port), containers[number], text) for port, number, text in _split(every, "port_container", 3)]
    units = {(int(port), unit) for port, unit, text in _split(every, "port_unit", 3) if _listens(text, int(port))}
    found: list[PortHolder] = []
    for number, local, pid, group, program in _split(every, "port_listener", 5):
        port = int(number)
        holder = PortHolder(port, "process", program, int(pid), program, _address(local), now=True)
        if docker := re.search(r"docker[-/]([0-9a-f]{64})", group):
            holder = replace(holder, kind="container", name=containers.get(docker[1], _NAMELESS).name)
        elif program == "docker-proxy":  # listens for a container
            publishers = (
                one.name for other, one, text in asked if (other, text, one.runs) == (port, "published", True)
            )
            holder = replace(holder, kind="container", name=next(publishers, ""))
        elif pid == "1":  # systemd itself listens for a socket unit
            sockets = [unit for other, unit in units if other == port and unit.endswith(".socket")]
            holder = replace(holder, kind="unit", name=sockets[0]) if sockets else holder
        elif unit := re.search(r"^(?!/user\.slice/).*?/([^/]+\.(?:service|scope))(?:/|$)", group):
            holder = replace(holder, kind="unit", name=unit[1])
        found.append(holder)
    for port, one, text in asked:
        publishes = text == "published"
        if (one.runs and publishes) or (one.at_boot and (publishes or _listens(text, port))):
            found.append(PortHolder(port, "container", one.name, now=one.runs and publishes, at_boot=one.at_boot))
    found += [PortHolder(port, "unit", unit, at_boot=True) for port, unit in sorted(units)]
    at_boot = {one.name for one in containers.values() if one.at_boot}
    # A Docker that does not answer names no container. On a host with services of ours, it is taken for one of them.
    nameless = bool(own) and "docker_answers" not in every
    holders: dict[tuple[int, Kind, str], PortHolder] = {}
    for each in found:
        first = holders.get((each.port, each.kind, each.name), each)
        of_container = each.kind == "container"
        holders[each.port, each.kind, each.name] = replace(
            first,
            address=first.address if first.address == each.address else "",
            now=first.now or each.now,
            at_boot=first.at_boot or each.at_boot or (of_container and each.name in at_boot),
            ours=(f"{each.name}.service" if of_container else each.name) in own or (of_container and nameless),
        )
    return tuple(holders.values())


@dataclass(frozen=True)
class _Container:
    name: str
    runs: bool
    at_boot: bool


_NAMELESS = _Container("", True, False)


def _container(entry: str) -> tuple[str, _Container]:
    number, name, status, restart = entry.split(" ")
    runs = status in ("running", "restarting", "paused")
    # One that was stopped by hand starts at boot with `always`, and stays down with every other policy.
    return number, _Container(name, runs, restart == "always" or (runs and restart != "no"))


def _address(text: str) -> str:
    """An address as the kernel prints it: hexadecimal, in words of four bytes that are reversed."""
    words = (bytes.fromhex(text[start : start + 8])[::-1] for start in range(0, len(text), 8))
    address = ipaddress.ip_address(b"".join(words))
    mapped = getattr(address, "ipv4_mapped", None) or address
    return "" if mapped.is_unspecified else str(mapped)


def _split(every: Mapping[str, Sequence[str]], key: str, parts: int) -> Iterator[list[str]]:
    for entry in every.get(key, ()):
        yield (entry.split(" ", parts - 1) + [""] * parts)[:parts]


#: A word before the port, or the beginning of its word, that says "listen here". A URL of the port is a client's.
_OPTION = (
    r"(?:^|\s)(?:-p|-b|-l|--?(?:(?:http|web|api|server|listen|rest)[-._])?"
    r"(?:port|listen|bind|address|publish)|(?:\S*[-.])?listen-address)[ =]"
)
_ADDRESS = r"(?:tcp://)?(?:(?:\[[0-9a-fA-F:.]*\]|\*|[\w.-]*[A-Za-z.][\w.-]*)?:)?"


def _listens(text: str, port: int) -> bool:
    """Whether a word of a command line, with the word before it, makes the program listen on ``port``."""
    return bool(
        re.search(rf"{_OPTION}{_ADDRESS}{port}(?::\d+)?(?:/tcp)?$", text)
        or re.search(rf"(?:^|\s)http\.server {port}$", text)
        or re.search(rf"(?:Environment=|\s)\w*(?:HOST|LISTEN|BIND|ADDR|ADDRESS|PORT)={_ADDRESS}{port}$", text)
        or re.search(rf"(?:^|\s)Listen=\S*\b{port}$", text)
    )
