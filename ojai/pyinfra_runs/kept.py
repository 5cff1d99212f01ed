"""What ``ojai verify`` last found, kept on this computer for ``ojai status``: a small file a host."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import time

from pydantic import TypeAdapter, ValidationError

from ojai.pyinfra_runs.verification import DRIFT, Verdict


@dataclass(frozen=True)
class Kept:
    """A verdict. ``when``: seconds since 1970; ``drifted``: whether a deploy would have changed something."""

    host: str
    when: float
    drifted: bool


_KEPT = TypeAdapter(Kept)


def _file(inventory: str, host: str) -> Path:
    folder = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    name = hashlib.sha256(f"{inventory}\n{host}".encode()).hexdigest()[:32]
    return Path(folder) / "ojai" / "verified" / f"{name}.json"


def keep(inventory: str, verdict: Verdict) -> None:
    """Keep whether a host has drifted, where that was looked at. A folder that cannot be written to is no failure."""
    outcomes = [one.outcome for one in verdict.checks if one.area == DRIFT and one.outcome != "skipped"]
    if not outcomes:
        return
    file = _file(inventory, verdict.host)
    with suppress(OSError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = file.with_suffix(f".{os.getpid()}")
        new.write_bytes(_KEPT.dump_json(Kept(verdict.host, time(), "failed" in outcomes)))
        new.replace(file)


def kept(inventory: str, host: str) -> Kept | None:
    """What was last kept of a host; None without anything that can be read."""
    try:
        return _KEPT.validate_json(_file(inventory, host).read_bytes())
    except (OSError, ValidationError):
        return None
