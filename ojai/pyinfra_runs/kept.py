"""What ``ojai verify`` and ``ojai smoke`` last found, kept on this computer for other commands: a file a host."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Literal

from pydantic import TypeAdapter, ValidationError

import ojai
from ojai.pyinfra_runs.verification import DRIFT, Outcome, Verdict


@dataclass(frozen=True)
class Kept:
    """The last result of a check.

    + by: the command
    + about: the area of a check of verify, the service of one of smoke
    + said: why it failed or was skipped; of a check of smoke what came
    + when: seconds since 1970; ojai: the version that looked
    """

    by: Literal["verify", "smoke"]
    about: str
    name: str
    outcome: Outcome
    said: str
    when: float
    ojai: str


@dataclass(frozen=True)
class Drift:
    """Whether a deploy would have changed something, ``when`` that was looked at (seconds since 1970)."""

    host: str
    when: float
    drifted: bool


_KEPT = TypeAdapter(tuple[Kept, ...])


def _file(inventory: str, host: str) -> Path:
    folder = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    name = hashlib.sha256(f"{inventory}\n{host}".encode()).hexdigest()[:32]
    return Path(folder) / "ojai" / "results" / f"{name}.json"


def _key(one: Kept) -> tuple[str, ...]:
    """What a new result takes the place of: verify asks for whole areas, smoke for single checks."""
    return (one.by, one.about) if one.by == "verify" else (one.by, one.about, one.name)


def keep(inventory: str, verdict: Verdict) -> None:
    """Keep what ``ojai verify`` found on a host."""
    keep_results(
        inventory, verdict.host, "verify", [(one.area, one.name, one.outcome, one.message) for one in verdict.checks]
    )


def keep_results(
    inventory: str,
    host: str,
    by: Literal["verify", "smoke"],
    found: Sequence[tuple[str, str, Outcome, str]],
) -> None:
    """Keep results: about what, name, outcome, what was said. A folder that cannot be written to is no failure."""
    if not found:
        return
    now = time()
    new = [Kept(by, about, name, outcome, said, now, ojai.__version__) for about, name, outcome, said in found]
    replaced = {_key(one) for one in new}
    old = [one for one in kept(inventory, host) if _key(one) not in replaced]
    file = _file(inventory, host)
    with suppress(OSError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        written = file.with_suffix(f".{os.getpid()}")
        written.write_bytes(_KEPT.dump_json((*old, *new)))
        written.replace(file)


def kept(inventory: str, host: str) -> tuple[Kept, ...]:
    """What was last kept of a host; nothing where that cannot be read."""
    try:
        return _KEPT.validate_json(_file(inventory, host).read_bytes())
    except (OSError, ValidationError):
        return ()


def drift(inventory: str, host: str) -> Drift | None:
    """What was last found of a host's drift; None where it was not looked for."""
    found = [
        one for one in kept(inventory, host) if (one.by, one.about) == ("verify", DRIFT) and one.outcome != "skipped"
    ]
    if not found:
        return None
    return Drift(host, found[-1].when, any(one.outcome == "failed" for one in found))
