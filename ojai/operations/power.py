"""A host that never sleeps and starts no desktop; what it did before is recorded, and given back."""

from __future__ import annotations

import shlex

from pyinfra import host
from pyinfra.api import operation

from ojai.facts.power import PowerState
from ojai.operations import Steps, steps_or_noop
from ojai.operations.ledger import added, note, undo
from ojai.paths import UNITS

_KIND = "power"
_TEXT = "multi-user.target"
_LINK = shlex.quote(f"{UNITS}/default.target")


@operation()
def configured(headless: bool) -> Steps:
    """Mask all ways to sleep, boot without a desktop and stop one that runs; or give back what this changed earlier.

    What the owner had masked, or had chosen to boot into, is not recorded as ours, and stays.

    + headless: whether the host is to be awake and without a desktop; False changes nothing of a host that never was
    """
    if headless:
        yield from steps_or_noop(_headless(), "it neither sleeps nor starts a desktop")
    else:
        yield from steps_or_noop(undo(_KIND, _given_back), "this project has changed nothing of it")


def _headless() -> Steps:
    found = host.get_fact(PowerState)
    known = added(_KIND)
    notes = [f"mask={unit}" for unit in found.sleepers]
    steps = [f"systemctl mask {shlex.join(found.sleepers)}"] if found.sleepers else []
    if found.target != _TEXT:
        if not any(entry.startswith("default=") for entry in known):
            notes.append(f"default={found.link}")
        steps.append(f"systemctl set-default {_TEXT}")
    if found.desktop:
        notes.append(f"start={found.manager}")
        steps.append(f"systemctl stop {shlex.quote(found.manager)}")
    new = [entry for entry in notes if entry not in known]
    if new:
        yield note(_KIND, new)
    yield from steps


def _given_back(entry: str) -> str:
    word, _, value = entry.partition("=")
    if word == "mask":
        return f"systemctl unmask {shlex.quote(value)}"
    if word == "start":
        return f"! systemctl cat {shlex.quote(value)} >/dev/null 2>&1 || systemctl start {shlex.quote(value)}"
    restore = f"ln -sfT {shlex.quote(value)} {_LINK}" if value else f"rm -f {_LINK}"
    # Unless somebody has chosen another target since.
    return f"case $(readlink {_LINK}) in */{_TEXT}) {restore} && systemctl daemon-reload;; esac"
