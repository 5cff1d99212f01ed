"""What would send a host to sleep, and which programs of a desktop hold memory of its GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ojai.facts.power import Power, PowerState

#: GNOME's settings are asked of its own programs: the default of its schema, then what the greeter and each account
#: have instead. GPU memory is in fdinfo, see docs.kernel.org/gpu/drm-usage-stats.html; containers are left out.
SCRIPT = r"""
( %POWER%
) | while IFS= read -r line; do say power "$line"; done
say idle_action "$(busctl get-property org.freedesktop.login1 /org/freedesktop/login1 \
  org.freedesktop.login1.Manager IdleAction 2>/dev/null | tr -d '"' | cut -d' ' -f2)"
if command -v gsettings >/dev/null && command -v dconf >/dev/null; then
  plugin=org.gnome.settings-daemon.plugins.power
  for key in type timeout; do
    place=/$(echo $plugin | tr . /)/sleep-inactive-ac-$key
    value=$(XDG_CURRENT_DESKTOP=ubuntu:GNOME GSETTINGS_BACKEND=memory gsettings get $plugin sleep-inactive-ac-$key \
      2>/dev/null) || continue
    say gnome "default $key $value"
    say gnome "greeter $key $(DCONF_PROFILE=gdm dconf read "$place" 2>/dev/null)"
    getent passwd | while IFS=: read -r account _ _ _ _ home _; do
      [ -f "$home/.config/dconf/user" ] || continue
      say gnome "$account $key $(runuser -u "$account" -- env HOME="$home" dconf read "$place" 2>/dev/null)"
    done
  done
fi
find /proc/[0-9]*/fd -lname '/dev/dri/*' 2>/dev/null | while IFS=/ read -r _ _ pid _ fd; do
  grep -qsE 'docker|libpod|containerd' "/proc/$pid/cgroup" || awk -v comm="$(cat "/proc/$pid/comm" 2>/dev/null)" '
    /^drm-client-id:/ { id = $2 }
    /^drm-memory-(vram|gtt):/ { kib += $2 * ($3 == "MiB" ? 1024 : 1); seen = 1 }
    END { if (seen) print id, kib, comm }' "/proc/$pid/fdinfo/$fd" 2>/dev/null
done | while IFS= read -r line; do say gpu_client "$line"; done
""".replace("%POWER%", PowerState().command())


@dataclass(frozen=True)
class PowerReport:
    """Power state and what acts on it.

    + state: sleep targets, boot target, display manager
    + idle_action: what logind does with an idle host, such as ``ignore`` or ``suspend``
    + gnome_suspends: for whom GNOME suspends a host on mains power: accounts, or ``greeter`` (the login screen)
    + gnome_asked: GNOME has said so, or that it suspends it for nobody
    + gpu_clients: program outside containers -> bytes of the GPU's memory that it holds
    """

    state: Power = field(default_factory=Power)
    idle_action: str = ""
    gnome_suspends: tuple[str, ...] = ()
    gnome_asked: bool = False
    gpu_clients: dict[str, int] = field(default_factory=dict)


def read(every: Mapping[str, Sequence[str]]) -> PowerReport:
    """Read the answers."""
    gnome: dict[str, dict[str, str]] = {}
    for entry in every.get("gnome", ()):
        account, key, value = (*entry.split(" ", 2), "")[:3]
        gnome.setdefault(account, {})[key] = value.strip("'")
    defaults = gnome.pop("default", {})
    suspends = []
    for account, own in gnome.items():
        values = {key: own.get(key) or defaults.get(key, "") for key in ("type", "timeout")}
        if values["type"] in ("suspend", "hibernate") and values["timeout"] not in ("0", ""):
            suspends.append(account)
    clients: dict[str, tuple[str, int]] = {}
    for entry in every.get("gpu_client", ()):
        number, kib, program = (*entry.split(" ", 2), "")[:3]
        clients[number] = (program, int(kib) * 1024)  # a client may have several descriptors
    memory: dict[str, int] = {}
    for program, size in clients.values():
        memory[program] = memory.get(program, 0) + size
    return PowerReport(
        state=PowerState().process(list(every.get("power", ()))),
        idle_action=every.get("idle_action", ("",))[0],
        gnome_suspends=tuple(suspends),
        gnome_asked=bool(gnome),
        gpu_clients={program: size for program, size in memory.items() if size},
    )
