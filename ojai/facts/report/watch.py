"""What watches the host already: Prometheus, node exporter, Alertmanager, ours or the owner's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ojai.gateway import NODE_PORT

# The owner's may be of another source than Ubuntu's packages: the process is asked. Of its command line only two
# options leave the host: where its configuration is, and where it reads texts and listens.
SCRIPT = r"""
for entry in prometheus:prometheus prometheus-node-exporter:node_exporter prometheus-alertmanager:alertmanager; do
  package=${entry%:*}
  ! grep -qsx "$package" /var/lib/ojai/added/packages || { say watch_ours "$package"; continue; }
  [ ! -x "/usr/bin/$package" ] || say watch_theirs "$package"
  for process in /proc/[0-9]*; do
    binary=$(readlink "$process/exe" 2>/dev/null) || continue
    case ${binary##*/} in "$package" | "${entry#*:}") ;; *) continue;; esac
    # One in a container has other folders.
    ! grep -qsE 'docker|containerd|libpod' "$process/cgroup" || continue
    say watch_runs "$package"
    options=$(tr '\0' '\n' <"$process/cmdline" |
      awk '/^--?(config.file|collector.textfile.directory|web.listen-address)$/ {getline value; $0 = $0 "=" value} 1' |
      sed -n 's/^--\{0,1\}\(config\.file\|collector\.textfile\.directory\|web\.listen-address\)=/\1 /p')
    [ -z "$options" ] || printf '%s\n' "$options" | while read -r line; do say watch_option "$package $line"; done
    # Debian's has its own place for it.
    config=$(printf '%s\n' "$options" | sed -n 's/^config\.file //p' | tail -n 1)
    [ "$package" != prometheus ] || ! grep -qs /etc/ojai/watch/ "${config:-/etc/prometheus/prometheus.yml}" ||
      say watch_joined yes
  done
done
[ ! -d /var/lib/prometheus/node-exporter ] || say watch_textfiles there
"""

PROMETHEUS, EXPORTER, ALERTMANAGER = "prometheus", "prometheus-node-exporter", "prometheus-alertmanager"

#: Where Debian's node exporter reads texts unless it is told otherwise.
TEXTFILES = "/var/lib/prometheus/node-exporter"


@dataclass(frozen=True)
class WatchReport:
    """The answers.

    + ours: packages that this project installed
    + theirs: programs of the owner's, by the names of the packages; ``running``: those of them that run
    + joined: Prometheus reads what this project writes for it
    + textfiles: the folder in which the owner's node exporter reads texts; empty without one
    + node_port: where the owner's listens
    """

    ours: tuple[str, ...] = ()
    theirs: tuple[str, ...] = ()
    running: tuple[str, ...] = ()
    joined: bool = False
    textfiles: str = ""
    node_port: int = NODE_PORT


def read(every: Mapping[str, Sequence[str]]) -> WatchReport:
    """Read the answers."""
    options = {}
    for entry in every.get("watch_option", ()):
        package, option, value = entry.split(" ", 2)
        options[package, option] = value
    default = TEXTFILES if "watch_textfiles" in every else ""
    port = options.get((EXPORTER, "web.listen-address"), "").rpartition(":")[2]
    running = tuple(dict.fromkeys(every.get("watch_runs", ())))
    return WatchReport(
        ours=tuple(every.get("watch_ours", ())),
        theirs=tuple(dict.fromkeys((*every.get("watch_theirs", ()), *running))),
        running=running,
        joined="watch_joined" in every,
        textfiles=options.get((EXPORTER, "collector.textfile.directory"), default),
        node_port=int(port) if port.isdigit() else NODE_PORT,
    )
