"""What is worth a warning in how a host sleeps and what its desktop takes; nothing of it refuses the host."""

from __future__ import annotations

from collections.abc import Iterator

from ojai.facts.report import Report
from ojai.settings import HostSettings
from ojai.sizes import GIB


def warnings(settings: HostSettings, report: Report) -> Iterator[str]:
    """Why the host may be asleep when it is asked, or have less memory for models than its GPU has."""
    if settings.headless:
        return
    power = report.power
    graphical = bool(power.state.manager) and power.state.target == "graphical.target"
    reasons = [f"logind does `{power.idle_action}` when it is idle"] * (power.idle_action not in ("", "ignore", "lock"))
    if graphical and power.gnome_suspends:
        reasons.append(f"GNOME suspends it on mains power for {', '.join(power.gnome_suspends)}")
    elif graphical and not reasons and not power.gnome_asked:
        reasons.append(f"it boots into a desktop ({power.state.manager}), whose settings decide")
    if reasons and "suspend.target" in power.state.sleepers:
        yield (
            f"sleep: this host may suspend itself, and its services with it: {'; '.join(reasons)}, and suspend.target "
            "is not masked. `headless: true` masks sleep, reversibly"
        )
    if power.state.desktop:
        largest = sorted(power.gpu_clients.items(), key=lambda item: -item[1])
        held = ", ".join(f"{program} {size * 1024 / GIB:.0f} MiB" for program, size in largest)
        yield (
            f"desktop: {power.state.manager} runs a graphical session"
            + (f", and programs outside containers hold memory of the GPU: {held}" if held else "")
            + ". What it takes, no model can have. `headless: true` stops it, reversibly"
        )
