"""The gateway: its keys, its certificate, nginx as a service that is reloaded rather than restarted."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pyinfra import host
from pyinfra.api import FunctionCommand, Host, State, StringCommand, operation

from ojai import gateway
from ojai.facts.files import Existing, NewerThan
from ojai.facts.gateway import CertificateDue, GatewayAnswers, GatewayKeys
from ojai.facts.service import SystemdUnit
from ojai.operations import Step, Steps, steps_or_noop
from ojai.operations.ledger import note, undo
from ojai.operations.progress import OnFailure, complain, read
from ojai.operations.service import start
from ojai.paths import UNITS

#: Kind of the ledger: units of others that were masked.
_MASKED = "gateway"

#: Seconds in which the gateway must answer once the engines do.
_PATIENCE = 30


@operation()
def package_unit_masked() -> Steps:
    """Mask nginx's own unit before its package is installed, which would start it on port 80.

    Where nginx is there already, it is the owner's, and so is its unit.
    """
    unit = f"{UNITS}/{gateway.PACKAGE_UNIT}"
    if host.get_fact(Existing, paths=("/usr/sbin/nginx", unit)):
        host.noop("nginx or a unit of that name is there")
        return
    yield note(_MASKED, [gateway.PACKAGE_UNIT])
    yield f"systemctl mask {gateway.PACKAGE_UNIT}"


@operation()
def package_unit_unmasked() -> Steps:
    """Take away the mask of nginx's own unit, once its package is gone."""
    yield from steps_or_noop(
        undo(_MASKED, lambda unit: f"systemctl unmask {shlex.quote(unit)}"), "this project has masked none"
    )


# A key is 256 bits of the kernel's random numbers. It is on no command line: printf is the shell's own. A line of
# standard input: the name, the sum of a key that is made elsewhere or -, and the inventory's text for its renewal.
_MAKE_KEYS = (
    "least={} most={}".format(*gateway.KEY_LENGTHS)
    + r"""
set -eu; umask 077; mkdir -p "$folder"; chown root:root "$folder"; chmod 700 "$folder"
while read -r name sum renewed; do
  file="$folder/$name"
  if [ "$sum" = - ]; then
    if [ "$renewed" != "$(sed -n 's/^# //p' "$file.map" 2>/dev/null)" ]; then rm -f "$file.key"; fi
    if [ ! -s "$file.key" ]; then
      printf 'ojai-%s\n' "$(head -c 32 /dev/urandom | base64 | tr -d '=\n' | tr '+/' '-_')" > "$file.key.new"
      sync "$file.key.new"; mv "$file.key.new" "$file.key"
    fi
    chown root:root "$file.key"; chmod 600 "$file.key"
    if ! tr -d '\n' < "$file.key" | LC_ALL=C grep -qxE "[!-~]{$least,$most}"; then
      echo "gateway: found no key in $file.key; expected one word of $least to $most letters, digits and signs." \
        "What to do: write another into it, or delete it, then run the deploy again." >&2
      exit 1
    fi
    sum=$(tr -d '\n' < "$file.key" | sha256sum | cut -d' ' -f1)
  else
    rm -f "$file.key"
  fi
  # nginx takes no sum twice, and one of them could not be revoked alone.
  if other=$(grep -ls "^\"$sum\"" "$folder"/*.map | grep -vxF -e "$file.map" -e "$file.old.map"); then
    echo "gateway: found for $name the key of ${other##*/}; expected one of its own." \
      "What to do: give it another, then run the deploy again." >&2
    exit 1
  fi
  old=$(sed -n 's/^"\([0-9a-f]\{64\}\)" .*/\1/p' "$file.map" 2>/dev/null || true)
  if [ -n "$old" ] && [ "$old" != "$sum" ] && [ "$overlap" -gt 0 ]; then
    printf '"%s" "%s@%s";\n' "$old" "$name" "$(($(date +%s) + overlap))" > "$file.old.map.new"
    sync "$file.old.map.new"; mv "$file.old.map.new" "$file.old.map"
  elif [ "$old" != "$sum" ]; then
    rm -f "$file.old.map"
  fi
  { [ -z "$renewed" ] || printf '# %s\n' "$renewed"; printf '"%s" "%s";\n' "$sum" "$name"; } > "$file.map.new"
  chown root:root "$file.map.new"; chmod 600 "$file.map.new"
  sync "$file.map.new"; mv "$file.map.new" "$file.map"
done"""
)


@operation()
def keys(names: Sequence[str], sums: Mapping[str, str | None], renewed: Mapping[str, str], overlap_hours: int) -> Steps:
    """Make the keys of these names that are missing or replaced, and revoke all others.

    The host keeps the sum of a key. A key that it makes is in a file beside it until somebody deletes that; with
    another key in the file, that one is valid from then on. One that was replaced stays valid for a while.

    + names: of the keys
    + sums: of those that the host does not make; None: it must only be there
    + renewed: text for a key that the host makes; with another text it is made anew
    + overlap_hours: how long a key that was replaced stays valid
    """
    found = host.get_fact(GatewayKeys)
    revoked = sorted(set(found.keys) - set(names))
    due = [
        name
        for name in names
        if not (have := found.keys.get(name))
        or not have.right
        or (sums.get(name) or have.sum) != have.sum
        or (name not in sums and renewed.get(name, have.renewed) != have.renewed)
    ]
    if revoked:
        files = [f"{gateway.KEYS}/{name}.{kind}" for name in revoked for kind in ("map", "key", "old.map")]
        yield f"rm -f {shlex.join(files)}"
    if over := sorted(set(found.ended) - set(revoked)):
        yield f"rm -f {shlex.join(f'{gateway.KEYS}/{name}.old.map' for name in over)}"
    # A key that goes from one name to another is not the old one of the first: each sum is there once.
    owner = {have.sum: name for name, have in found.keys.items() if name in due and sums.get(name)}
    if moved := sorted({owner[key] for name in due if (key := sums.get(name)) in owner and owner[key] != name}):
        yield f"rm -f {shlex.join(f'{gateway.KEYS}/{name}.map' for name in moved)}"
    if due:
        texts = {name: renewed.get(name, found.keys[name].renewed if name in found.keys else "") for name in due}
        lines = "".join(f"{name} {sums.get(name) or '-'} {texts[name]}\n" for name in due)
        text = f"folder={gateway.KEYS} overlap={overlap_hours * 3600}\n{_MAKE_KEYS}"
        yield StringCommand(text, _stdin=lines)
    if not revoked and not due and not over:
        host.noop(f"valid: {', '.join(names)}")


@operation()
def certificate(names: Sequence[str]) -> Steps:
    """Make the local authority and the certificate that it signs, or renew them, where that is due.

    + names: what it is for, beside the host's own names and addresses
    """
    due = host.get_fact(CertificateDue, names=tuple(names))
    steps = [f"sh {gateway.RENEWAL} make {shlex.join(names)}"] if due else []
    yield from steps_or_noop(steps, "it is right")


@operation()
def running(inputs: Sequence[str], on_failure: OnFailure) -> Steps:
    """Enable the gateway and its timer; start it if it is down, reload it if it has read something older.

    A reload ends nothing: streams that are open go on. Only another unit file makes a restart.

    + inputs: files and folders that nginx reads
    + on_failure: called if it cannot be started
    """
    found = host.get_fact(SystemdUnit, unit=gateway.UNIT, inputs=(f"{UNITS}/{gateway.UNIT}",))
    timer = host.get_fact(SystemdUnit, unit=gateway.RENEWAL_TIMER)
    steps: list[Step] = []
    if found.reload or timer.reload:
        steps.append("systemctl daemon-reload")
    if not found.starts_at_boot:
        steps.append(f"systemctl enable {gateway.UNIT}")
    if not timer.starts_at_boot or timer.active != "active":
        steps.append(f"systemctl enable --now {gateway.RENEWAL_TIMER}")
    if not found.up or found.stale or found.reload:
        steps.append(f"systemctl reset-failed {gateway.UNIT} || true")
        steps.append(FunctionCommand(start, (gateway.UNIT, "restart" if found.up else "start", on_failure), {}))
    elif not host.get_fact(NewerThan, path=gateway.LOADED, inputs=tuple(inputs)):
        steps.append(FunctionCommand(start, (gateway.UNIT, "reload", on_failure), {}))
    yield from steps_or_noop(steps, "it runs with what is on disk")


@operation()
def stopped() -> Steps:
    """Stop the gateway, and start it at no boot. Its keys and its certificate stay, so that it can come back."""
    units = [
        unit
        for unit in (gateway.UNIT, gateway.RENEWAL_TIMER)
        if (found := host.get_fact(SystemdUnit, unit=unit)).active != "inactive" or found.enabled == "enabled"
    ]
    yield from steps_or_noop([f"systemctl disable --now {shlex.join(units)}"] if units else [], "it does not run")


@operation()
def answers(address: str, port: int, paths: Sequence[str], on_failure: OnFailure) -> Steps:
    """Wait until the engines can be reached through the gateway.

    + address, port: where it listens, as the host itself reaches it
    + paths: that must answer without a key
    + on_failure: called if they do not
    """
    where = {"address": address, "port": port, "paths": tuple(paths)}
    if host.get_fact(GatewayAnswers, **where):
        host.noop(f"it answers on port {port}")
        return
    yield FunctionCommand(_wait, (where, on_failure), {})


def _wait(state: State, host: Host, where: dict[str, Any], on_failure: OnFailure) -> bool:
    end = time.monotonic() + _PATIENCE
    while not read(host, GatewayAnswers(), **where):
        if time.monotonic() > end:
            complain(
                host,
                f"gateway: found no answer on port {where['port']} within {_PATIENCE} s; expected the engines' health. "
                f"What to do: `systemctl status {gateway.UNIT}` and `journalctl -t ojai_gateway` on the host.",
            )
            on_failure(state, host)
            return False
        time.sleep(2)
    return True
