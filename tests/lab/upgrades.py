"""Upgrades that fail, each in its own way: does the release that worked before serve again, and how long was it away?

The cases are in cases/upgrades.yaml. They run one after the other on one virtual machine.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tests.lab import results
from tests.lab.backends import TestHost, say
from tests.lab.cases import Upgrade
from tests.lab.machine import Deploy, Guest

UNIT = "/etc/systemd/system/vllm-gemma4.service"
ENV = "/etc/ojai/vllm-gemma4.env"
MODEL = "google/gemma-4-E4B-it"


def options(case: Upgrade) -> list[str]:
    """The deploy's options that ask for the upgrade."""
    asked = [{"start_timeout": 120, **service} for service in case.services]
    data = {"services": asked, **case.data}
    return [word for key, value in data.items() for word in ("--data", f"{key}={json.dumps(value)}")]


@contextmanager
def watched(guest: Guest) -> Iterator[list[tuple[float, bool]]]:
    """Ask port 8000 each half second, on the guest, whether it serves the model: (time, yes) pairs, at the end."""
    seen: list[tuple[float, bool]] = []
    place = "/run/ojai-watch"
    script = (
        f"systemctl stop ojai-watch 2>/dev/null; rm -f {place}; exec systemd-run -q --unit=ojai-watch sh -c "
        "'while :; do if curl -s -m 2 http://127.0.0.1:8000/v1/models | grep -q [\\\"]"
        + MODEL
        + '[\\"]; then w=up; else w=down; '
        f"fi; echo $(date +%s.%N) $w >> {place}; sleep 0.5; done'"
    )
    guest.root(script)
    try:
        yield seen
    finally:
        guest.root("systemctl stop ojai-watch")
        for line in guest.root(f"cat {place}").splitlines():
            moment, word = line.split()
            seen.append((float(moment), word == "up"))


def downtime(seen: Sequence[tuple[float, bool]]) -> float:
    """Seconds for which the model was not served."""
    pairs = itertools.pairwise(seen)
    return sum(later[0] - sooner[0] for sooner, later in pairs if not sooner[1])


def release(guest: Guest) -> str:
    """What a release consists of, on the guest now."""
    return guest.root(
        f"sha256sum {UNIT} {ENV}; docker container inspect --format '{{{{.Image}}}}' vllm-gemma4; "
        "systemctl is-active vllm-gemma4; systemctl is-enabled vllm-gemma4; ls /etc/systemd/system/*.service"
    )


@dataclass(frozen=True)
class Outcome:
    """What became of one failed upgrade. ``failures`` is empty when all was as it should be."""

    failures: tuple[str, ...]
    said: str = ""
    seconds_down: float = 0
    seconds: float = 0

    def record(self) -> results.Record:
        """As it is kept in the results."""
        return {
            "passed": not self.failures,
            "failures": list(self.failures),
            "said": self.said,
            "seconds_down": round(self.seconds_down, 1),
            "seconds": round(self.seconds, 1),
            "commit": results.commit(),
        }


def rehearse(host: TestHost, case: Upgrade) -> Outcome:
    """Upgrade, see it fail, and look what serves then."""
    guest = host.guest
    before = release(guest)
    started = time.monotonic()
    if case.before:
        guest.root(case.before)
    with watched(guest) as seen:
        failed = host.deploy(*options(case))
        names = guest.run("curl -s -m 5 http://127.0.0.1:8000/v1/models").stdout
    took = time.monotonic() - started
    after = release(guest)
    if case.after:
        guest.root(case.after)
    again = host.deploy()
    failures = tuple(_failures(case, failed, names, before, after, again))
    return Outcome(failures, _said(failed), downtime(seen), took)


def _failures(case: Upgrade, failed: Deploy, names: str, before: str, after: str, again: Deploy) -> Iterator[str]:
    if failed.status != 1:
        yield f"the deploy ended with status {failed.status}; expected 1"
    if not re.search(case.says, failed.output):
        yield f"the deploy did not say {case.says!r}"
    if not re.search(r"rolled back: the release of .* serves again|the release of .* still serves", failed.output):
        yield "the deploy did not say that the old release serves"
    if "Traceback" in failed.output:
        yield "a traceback"
    if f'"{MODEL}"' not in names:
        yield f"/v1/models names {names!r} when the deploy has ended"
    if after != before:
        yield f"not what it was before:\n{before}\n--\n{after}"
    if (again.status, again.changed) != (0, list(case.also)):
        yield f"the deploy of the old inventory ended with status {again.status} and changed {again.changed}"


def _said(done: Deploy) -> str:
    """The cause that the deploy named, or what failed."""
    plain = re.sub(r"^ *\[lab\] ", "", done.output, flags=re.MULTILINE)
    found = re.search(r"^cause: (.*)$", plain, re.MULTILINE)
    if found:
        return found[1]
    found = re.search(
        r"^.*(pulling .*: failed|systemd gave up on it|not healthy within|/v1/models names|poorly formatted|is held by)"
        r".*$",
        plain,
        re.MULTILINE,
    )
    return found[0].strip() if found else ""


def fits_container(case: Upgrade) -> bool:
    """Whether a container can hold it."""
    return not case.machine_only


def on_host(host: TestHost, cases: Sequence[Upgrade]) -> Iterator[tuple[str, results.Record]]:
    """Run them on a host that serves; yields each case's name and record."""
    for case in cases:
        say(case.name)
        try:
            outcome = rehearse(host, case)
        except (AssertionError, subprocess.SubprocessError) as error:
            outcome = Outcome((f"could not be run: {error}",))
        say(f"  away {outcome.seconds_down:.0f} s, in {outcome.seconds:.0f} s")
        yield case.name, outcome.record()
