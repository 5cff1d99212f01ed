"""What the logs of services say on a host: of a unit's journal and its container's log, in one command."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

#: What the host's lines begin with; what else a login prints is passed over.
MARK = "ojai-log"

# Lines: mark, service, source, time and text. Both sources have what the container says; whoever reads drops one.
_SCRIPT = r"""
export LC_ALL=C
unset DOCKER_HOST DOCKER_CONTEXT
begin=$(date +%s.%N)
if [ -n "$since" ]; then
  since=$(date -d "$since" +%s) || {
    printf '%s\t\terror\t\t%s\n' "$mark" 'found no time that `date` understands'
    exit
  }
fi
# service source
tagged() { sed -u "s/^/$mark\t$1\t$2\t/"; }
# Without what docker says of itself: its lines have no time.
dated() { grep --line-buffered -E '^[0-9]{4}-[0-9]{2}-[0-9]{2}T'; }
before() {
  journalctl --no-pager -q -u "$2" ${lines:+-n "$lines"} ${since:+--since "@$since"} --until "@$begin" -o short-unix \
    2>/dev/null | tagged "$1" journal
  timeout 20 docker logs -t ${lines:+--tail "$lines"} ${since:+--since "$since"} --until "$begin" "$1" 2>&1 | dated |
    tagged "$1" container
  printf '%s\t%s\tend\n' "$mark" "$1"
}
after() {
  journalctl -f -q -n all -u "$2" --since "@$begin" -o short-unix 2>/dev/null | tagged "$1" journal &
  while :; do
    docker logs -t -f --since "$begin" "$1" 2>&1 | dated | tagged "$1" container
    begin=$(date +%s.%N)
    sleep 2
  done &
}
"""


def command(services: Mapping[str, str], lines: int | None, since: str | None, follow: bool) -> str:
    """The script for ``services``, names and their units.

    ``since``: as ``date`` understands it; ``follow``: until its input ends.
    """
    given = {"mark": MARK, "lines": str(lines or ""), "since": since or ""}
    text = [*(f"{name}={shlex.quote(value)}" for name, value in given.items()), _SCRIPT]
    text += [shlex.join(["before", *service]) for service in services.items()]
    if follow:
        text += [shlex.join(["after", *service]) for service in services.items()]
        # Its input ends with the connection, and with it all that was started here.
        text.append("cat >/dev/null\nkill 0")
    return "\n".join(text)
