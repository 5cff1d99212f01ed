"""The rule set of :mod:`ojai.firewall`: loaded now and at every boot, or gone."""

from __future__ import annotations

import shlex

from pyinfra import host
from pyinfra.api import operation

from ojai import firewall
from ojai.facts.firewall import RulesLoaded, RulesThere
from ojai.facts.service import SystemdUnit
from ojai.operations import Step, Steps, steps_or_noop


@operation()
def loaded(rules: str) -> Steps:
    """Load the rules, and enable their units. They are replaced as one: there is no moment without them.

    + rules: what is in the file that the unit loads
    """
    units = {unit: host.get_fact(SystemdUnit, unit=unit) for unit in firewall.UNIT_FILES}
    found = units[firewall.UNIT]
    steps: list[Step] = []
    if any(unit.reload for unit in units.values()):
        steps.append("systemctl daemon-reload")
    if off := [unit for unit, state in units.items() if not state.starts_at_boot]:
        steps.append(f"systemctl enable {shlex.join(off)}")
    if not found.up:
        steps.append(f"systemctl reset-failed {firewall.UNIT} || true")
        steps.append(f"systemctl start {firewall.UNIT}")
    elif not host.get_fact(RulesLoaded, rules=rules):
        steps.append(f"systemctl reload {firewall.UNIT}")
    yield from steps_or_noop(steps, "the kernel has them")


@operation()
def gone() -> Steps:
    """Unload the rules, and remove their file and their units."""
    there = host.get_fact(RulesThere)
    steps: list[Step] = []
    units = [unit for unit, path in firewall.UNIT_FILES.items() if path in there]
    if units:
        steps.append(f"systemctl disable --now {shlex.join(units)}")
    if firewall.UNIT not in units and firewall.TABLE in there:
        steps.append(f"nft delete table {firewall.TABLE}")
    files = [path for path in there if path != firewall.TABLE]
    if files:
        steps.append(f"rm -f {shlex.join(files)} && systemctl daemon-reload")
    yield from steps_or_noop(steps, "there are none of ours")
