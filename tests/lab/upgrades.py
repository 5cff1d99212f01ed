"""Upgrades that fail, each in its own way: is the service that worked before back, and how long was it away?

    python -m tests.lab.upgrades [--only NAME …] [--keep]

Runs on a machine of its own, writes what it saw to results/upgrades.json, and docs/reference/failed-upgrades.md from
that. Exit status 1 when one was not taken back.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.lab import results
from tests.lab.machine import ROOT, Deploy, Guest, Lab

UNIT = "/etc/systemd/system/vllm-gemma4.service"
ENV = "/etc/ojai/vllm-gemma4.env"
MODEL = "google/gemma-4-E4B-it"

#: Listens on a port and answers as another server would; ends by itself, so that none is left behind.
OTHER_SERVER = """
import http.server, threading
class Other(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"data": [{"id": "somebody-elses"}]}'
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words): pass
server = http.server.ThreadingHTTPServer(("0.0.0.0", 8001), Other)
threading.Timer(300, server.shutdown).start()
server.serve_forever()
"""
#: Kills the container of the upgrade, and of it alone, whenever it is there.
_KILLER = (
    "while sleep 0.5; do if docker container inspect -f '{{.Config.Env}}' vllm-gemma4 2>/dev/null | "
    "grep -q OJAI_LAB_LOAD_SECONDS=60; then docker kill vllm-gemma4; fi; done"
)


@dataclass(frozen=True)
class Failure:
    """An upgrade that fails. ``services``: what the inventory asks for instead; ``says``: a regular expression that
    the deploy's output must have; ``before`` and ``after``: shell on the guest, as root; ``also``: what else the old
    inventory changes back, since the new one asked for it and it is in no release."""

    name: str
    says: str
    services: tuple[dict[str, Any], ...]
    before: str = ""
    after: str = ""
    data: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    @property
    def words(self) -> list[str]:
        """The options of the deploy that ask for it."""
        asked = [{"start_timeout": 120, **service} for service in self.services]
        options = ["--data", f"services={json.dumps(asked)}"]
        for entry in self.data:
            options += ["--data", entry]
        return options


def _one(**choices: Any) -> tuple[dict[str, Any], ...]:
    return ({"profile": "gemma-4-e4b", **choices},)


FAILURES = (
    Failure(
        "the image does not exist",
        r"pulling vllm/vllm-openai-rocm:v0\.20\.9: failed",
        _one(image="vllm/vllm-openai-rocm:v0.20.9"),
    ),
    Failure(
        "the image has another digest",
        r"pulling vllm/vllm-openai-rocm:v0\.20\.1@sha256:0+: failed",
        _one(image_digest="sha256:" + "0" * 64),
    ),
    Failure(
        "the image lacks the program that it starts",
        r"vllm-of-another-image.*executable file not found",
        _one(image="vllm/vllm-openai-rocm:broken"),
    ),
    Failure(
        "the server crashes on start",
        r"OJAI_LAB_CRASH_AT=start",
        _one(environment={"OJAI_LAB_CRASH_AT": "start"}),
    ),
    Failure(
        "the server crashes while loading",
        r"OJAI_LAB_CRASH_AT=loading",
        _one(environment={"OJAI_LAB_CRASH_AT": "loading"}),
    ),
    Failure(
        "killed while loading",
        r"status=137",
        _one(environment={"OJAI_LAB_LOAD_SECONDS": "60"}),
        before=f"systemd-run -q --unit=killer sh -c {shlex.quote(_KILLER)}",
        after="systemctl stop killer",
    ),
    Failure(
        "never healthy",
        r"not healthy within 40 s",
        _one(environment={"OJAI_LAB_NEVER_HEALTHY": "1"}, start_timeout=40),
    ),
    Failure(
        "the model's name is wrong",
        r"E4B-itt is not a model",
        _one(model="google/gemma-4-E4B-itt"),
    ),
    # Preflight refuses what it can foresee; a checkpoint larger than its profile says it cannot.
    Failure(
        "out of GPU memory",
        r"cause: (after the weights nothing|the weights do not fit)",
        _one(model="google/gemma-4-31B-it"),
    ),
    Failure(
        "a weight file cannot be mapped",
        r"cause: the kernel refused the private mapping",
        _one(model="google/gemma-4-26B-A4B-it"),
        data=('sysctl={"vm.overcommit_memory": 0}',),
        # With this swap mode 0 grants the small model's mappings and not the large one's.
        before="fallocate -l 30G /swap && chmod 600 /swap && mkswap -q /swap && swapon /swap",
        after="swapoff /swap && rm /swap && sysctl -q -w vm.overcommit_memory=1",
        also=("Sysctl | Set kernel parameters",),
    ),
    Failure(
        "another program has the port",
        r"port 8001 is held by \d+ python3",
        _one(port=8001),
        before=f"systemd-run -q --unit=other python3 -c {shlex.quote(OTHER_SERVER)}; sleep 5; ss -ltn | grep -q :8001",
        after="systemctl stop other",
    ),
    Failure(
        "an argument that vLLM does not know",
        r"cause: (this vLLM does not know a flag|vLLM 0.20.1 no longer knows)",
        _one(engine_args=["--disable-log-requests"], allow=["unknown-flag"]),
    ),
    Failure(
        "a line in the environment file that docker cannot read",
        r"poorly formatted environment|contains whitespaces",
        _one(),
        before=f"echo 'two words=1' >> {ENV}",
    ),
    Failure(
        "a context that does not fit the KV cache",
        r"cause: the KV cache does not hold one sequence",
        _one(model="google/gemma-4-26B-A4B-it", gpu_memory_utilization=0.79, max_model_len=131072),
    ),
    Failure(
        "a service of another name that crashes",
        r"gemma-next\.service: (systemd gave up on it|not healthy within)",
        _one(name="gemma-next", environment={"OJAI_LAB_CRASH_AT": "loading"}),
    ),
    Failure(
        "the second of two services crashes",
        r"second\.service: (systemd gave up on it|not healthy within)",
        (
            {"name": "vllm-gemma4", "profile": "gemma-4-e4b", "gpu_memory_utilization": 0.45},
            {
                "name": "second",
                "profile": "gemma-4-e4b",
                "port": 8001,
                "gpu_memory_utilization": 0.45,
                "environment": {"OJAI_LAB_CRASH_AT": "loading"},
            },
        ),
    ),
)


@contextmanager
def watched(lab: Lab, guest: Guest) -> Iterator[list[tuple[float, bool]]]:
    """Ask the guest's port 8000 each half second, on the guest, whether it serves the model: (time, yes) pairs."""
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


def away(seen: list[tuple[float, bool]]) -> float:
    """Seconds for which the model was not served."""
    pairs = itertools.pairwise(seen)
    return sum(later[0] - sooner[0] for sooner, later in pairs if not sooner[1])


def state(guest: Guest) -> str:
    """What a release consists of, on the guest now."""
    return guest.root(
        f"sha256sum {UNIT} {ENV}; docker container inspect --format '{{{{.Image}}}}' vllm-gemma4; "
        "systemctl is-active vllm-gemma4; systemctl is-enabled vllm-gemma4; ls /etc/systemd/system/*.service"
    )


@dataclass(frozen=True)
class Outcome:
    """What became of one failed upgrade. ``faults`` is empty when all was as it should be."""

    faults: tuple[str, ...]
    said: str
    seconds_away: float
    seconds: float

    @property
    def back(self) -> bool:
        return not self.faults


def rehearse(lab: Lab, guest: Guest, failure: Failure) -> Outcome:
    """Upgrade, see it fail, and look what serves then."""
    before = state(guest)
    started = time.monotonic()
    if failure.before:
        guest.root(failure.before)
    with watched(lab, guest) as seen:
        failed = lab.deploy(*failure.words)
        names = guest.run("curl -s -m 5 http://127.0.0.1:8000/v1/models").stdout
    took = time.monotonic() - started
    after = state(guest)
    if failure.after:
        guest.root(failure.after)
    again = lab.deploy()
    return Outcome(tuple(_faults(failure, failed, names, before, after, again)), _said(failed), away(seen), took)


def _faults(failure: Failure, failed: Deploy, names: str, before: str, after: str, again: Deploy) -> Iterator[str]:
    if failed.status != 1:
        yield f"the deploy ended with status {failed.status}; expected 1"
    if not re.search(failure.says, failed.output):
        yield f"the deploy did not say {failure.says!r}"
    if not re.search(r"rolled back: the release of .* serves again|the release of .* still serves", failed.output):
        yield "the deploy did not say that the old release serves"
    if "Traceback" in failed.output:
        yield "a traceback"
    if f'"{MODEL}"' not in names:
        yield f"/v1/models names {names!r} when the deploy has ended"
    if after != before:
        yield f"not what it was before:\n{before}\n--\n{after}"
    if (again.status, again.changed) != (0, list(failure.also)):
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


def page(seen: dict[str, dict[str, Any]]) -> str:
    """docs/reference/failed-upgrades.md."""
    rows = []
    for failure in FAILURES:
        one = seen.get(failure.name)
        if one is None:
            rows.append([failure.name, "not run", "", "", ""])
            continue
        word = "yes" if one["back"] else "**NO**"
        rows.append([failure.name, results.cell(one["said"]), word, f"{one['seconds_away']:.0f}", f"`{one['commit']}`"])
    ran = sum(1 for failure in FAILURES if failure.name in seen)
    unrun = f"; {len(FAILURES) - ran} were not run" if ran < len(FAILURES) else ""
    back = sum(1 for failure in FAILURES if seen.get(failure.name, {}).get("back"))
    return (
        "# Upgrades that failed\n\n"
        "Written by `make upgrades` (tests/lab/upgrades.py); not by hand. On the lab's virtual machine a service that "
        "works is upgraded in each of these ways, and the upgrade fails. Back means: the deploy ended with status 1 "
        "and said so, the same model was served when it ended, unit, environment file and image were those of before, "
        "and a deploy of the old inventory found nothing to change. Away is how long the model was not served, asked "
        "twice a second on the machine; most of it is the time that the new one was given to come up (loading takes "
        "the stand-in server 5 s; a real model takes minutes).\n\n"
        f"Taken back: {back} of {ran} that were run{unrun}.\n\n"
        + results.table(["what failed", "what the deploy said", "back", "away (s)", "commit"], rows)
    )


def write_page() -> None:
    """Write the page from the results."""
    (results.REFERENCE / "failed-upgrades.md").write_text(page(results.load("upgrades")))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[f.name for f in FAILURES], default=None)
    parser.add_argument("--keep", action="store_true", help="leave the machine running at the end")
    words = parser.parse_args()
    asked = words.only
    lab = Lab(ROOT / ".lab-upgrades")
    guest = Guest(lab)
    up = lab.ojai("lab", "up")
    if up.returncode:
        sys.stderr.write(up.stderr)
        return 1
    first = lab.deploy()
    if first.status:
        sys.stderr.write(first.output)
        return 1
    seen = results.load("upgrades")
    lost = 0
    for failure in FAILURES:
        if asked and failure.name not in asked:
            continue
        try:
            outcome = rehearse(lab, guest, failure)
        except (AssertionError, subprocess.SubprocessError) as error:
            outcome = Outcome((f"the rehearsal itself failed: {error}",), "", 0, 0)
        lost += not outcome.back
        seen[failure.name] = {
            "back": outcome.back,
            "faults": list(outcome.faults),
            "said": outcome.said,
            "seconds_away": round(outcome.seconds_away, 1),
            "seconds": round(outcome.seconds, 1),
            "commit": results.commit(),
        }
        results.save("upgrades", {f.name: seen[f.name] for f in FAILURES if f.name in seen})
        write_page()
        word = "taken back" if outcome.back else "NOT TAKEN BACK"
        print(f"{failure.name}: {word}, away {outcome.seconds_away:.0f} s, in {outcome.seconds:.0f} s", flush=True)
        for fault in outcome.faults:
            print(f"    {fault}", flush=True)
    if not words.keep:
        lab.ojai("lab", "down", "--destroy")
    return 1 if lost else 0


if __name__ == "__main__":
    raise SystemExit(main())
