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
    """Load the rules, and enable their unit. They are replaced as one: there is no moment without them.

    + rules: what is in the file that the unit loads
    """
    found = host.get_fact(SystemdUnit, unit=firewall.UNIT)
    steps: list[Step] = []
    if found.reload:
        steps.append("systemctl daemon-reload")
    if not found.starts_at_boot:
        steps.append(f"systemctl enable {firewall.UNIT}")
    if not found.up:
        steps.append(f"systemctl reset-failed {firewall.UNIT} || true")
        steps.append(f"systemctl start {firewall.UNIT}")
    elif not host.get_fact(RulesLoaded, rules=rules):
        steps.append(f"systemctl reload {firewall.UNIT}")
    yield from steps_or_noop(steps, "the kernel has them")


@operation()
def gone() -> Steps:
    """Unload the rules, and remove their file and their unit."""
    there = host.get_fact(RulesThere)
    steps: list[Step] = []
    if firewall.UNIT_FILE in there:
        steps.append(f"systemctl disable --now {firewall.UNIT}")
    elif firewall.TABLE in there:
        steps.append(f"nft delete table {firewall.TABLE}")
    files = [path for path in there if path != firewall.TABLE]
    if files:
        steps.append(f"rm -f {shlex.join(files)} && systemctl daemon-reload")
    yield from steps_or_noop(steps, "there are none of ours")
