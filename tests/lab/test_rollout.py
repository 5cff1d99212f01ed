"""Rollouts over SSH to containers on the lab's bridge: stopped, interrupted, resumed, finished, two at once.

The deploy is short: the deploy's lock, the ledger and the caches of the real roles. The inventory is the example that
reads a CSV: a host that is down stays in it.
"""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ojai.paths import ROLLOUT
from tests.lab.machine import ROOT, Lab
from tests.unit.browsing import BROWSERS, in_a_browser

DEPLOY = """
from pyinfra import config, host, state
from pyinfra.operations import server

from ojai.connection import configure_connection, lock
from ojai.roles import caches, ledger, preflight
from ojai.settings.inventory import settings_of

config.SUDO = True
configure_connection(host)
if preflight.can_read_ledger():
    settings = settings_of(host)
    ledger.apply()
    caches.apply(settings=settings)
    if not lock.only_looks(state):
        server.shell(name="Wait", commands=["touch /run/waits; while [ -e /run/wait ]; do sleep 0.2; done"])
"""
CONFIG = "from ojai.connection import prepare_run\nprepare_run()\n"
CHECKS = ("--only", "ledger", "--only", "caches", "--only", "drift", "--smoke", "none")
FOLDER = "/srv/fleet"

#: The deploy fails where its folder is a file; it is undone again and again by another program.
BREAK = {
    "deploy": f"touch {FOLDER}",
    "verify": f"systemd-run --unit undo sh -c 'while :; do chmod 0700 {FOLDER}; sleep 0.1; done'",
}
MEND = {"deploy": f"rm {FOLDER}", "verify": "systemctl stop undo"}


@dataclass
class Fleet:
    """Containers ``edge-1`` and on, and a repository with their inventory."""

    lab: Lab
    top: Path
    names: list[str]

    def up(self) -> None:
        done = self.lab.ojai("lab", "container", "edge", "--hosts", str(len(self.names)))
        assert done.returncode == 0, done.stderr

    def write(self, **data: str) -> None:
        """The repository; ``data``: more columns, the same for all. This deploy makes nothing of Docker's."""
        records = json.loads((self.lab.folder / "state.json").read_text())["containers"]
        shutil.copy(ROOT / "examples" / "csv" / "fleet.py", self.top)
        (self.top / "deploy.py").write_text(DEPLOY)
        (self.top / "config.py").write_text(CONFIG)
        columns = {
            "profile": "",
            "ssh_user": "ojai",
            "ssh_key": str(self.lab.folder / "keys" / "login"),
            "ssh_known_hosts_file": str(self.lab.folder / "known_hosts"),
            "ssh_strict_host_key_checking": "yes",
            "data_directory": FOLDER,
            **data,
        }
        with (self.top / "fleet.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["name", "group", "ssh_hostname", *columns])
            writer.writeheader()
            for number, name in enumerate(self.names):
                place = {"name": name, "group": ("berlin", "porto")[number % 2]}
                writer.writerow({**place, "ssh_hostname": records[name]["address"], **columns})

    def start(self, *words: str, state: str = "one") -> subprocess.Popen[str]:
        """A rollout of a controller; ``state``: its own folder for what commands keep."""
        argv = [sys.executable, "-m", "ojai", "rollout", str(self.top / "fleet.py"), "--json", *CHECKS, *words]
        environment = self.lab.environment({"XDG_STATE_HOME": str(self.top / state)})
        pipe = subprocess.PIPE
        return subprocess.Popen(argv, cwd=self.top, env=environment, stdout=pipe, stderr=pipe, text=True)

    def ended(self, run: subprocess.Popen[str]) -> tuple[int, dict[str, str], dict[str, Any]]:
        """Exit status, the hosts' states, and all of the JSON."""
        out, err = run.communicate(timeout=1200)
        assert "Traceback" not in err, err[-3000:]
        document = json.loads(out)
        document["said"] = err
        return run.returncode, {one["host"]: one["state"] for one in document["hosts"]}, document

    def rollout(self, *words: str, state: str = "one") -> tuple[int, dict[str, str], dict[str, Any]]:
        return self.ended(self.start(*words, state=state))

    def root(self, name: str, command: str) -> str:
        done = self.lab.ojai("lab", "ssh", name, "--", f"sudo sh -c {shlex.quote(command)}")
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def states(self, **special: str) -> dict[str, str]:
        return {name: special.get(name.replace("-", "_"), special["rest"]) for name in self.names}


def fleet(folder: str, hosts: int, top: Path) -> Iterator[Fleet]:
    lab = Lab(ROOT / folder)
    lab.ojai("lab", "down", "--destroy")
    found = Fleet(lab, top, [f"edge-{number}" for number in range(1, hosts + 1)])
    try:
        found.up()
        found.write()
        yield found
    finally:
        down = lab.ojai("lab", "down", "--destroy")
    assert down.returncode == 0, down.stderr


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    yield from fleet(".lab-rollout", 4, tmp_path_factory.mktemp("four"))


def seen(page: Path, width: int, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = in_a_browser(
        page.read_text(),
        "return {width: innerWidth, page: document.documentElement.scrollWidth, text: document.body.innerText,"
        " rows: document.querySelector('table').rows.length};",
        width,
        folder,
    )
    return found


def commands(fleet: Fleet, name: str) -> int:
    """How many commands sshd has logged; not those of the lab's own connection, which is from before it did."""
    names = "--identifier=sshd --identifier=sshd-session"
    logged = f"journalctl {names} --output=cat | grep --count '^Starting session: command'"
    return int(fleet.root(name, f"sleep 1; journalctl --sync; {logged} || true"))


def test_it_stops_goes_on_and_is_finished(four, tmp_path):
    four.root("edge-1", "echo LogLevel VERBOSE >/etc/ssh/sshd_config.d/00-count.conf; systemctl reload ssh")
    four.root("edge-2", BREAK["deploy"])
    four.root("edge-3", BREAK["verify"])
    assert four.lab.ojai("lab", "down", "edge-4").returncode == 0

    status, states, document = four.rollout("--batch", "2", "--html", str(tmp_path / "page.html"))
    assert (status, states) == (1, four.states(edge_1="done", edge_4="offline", rest="failed")), document
    why = {one["host"]: one["why"] for one in document["hosts"]}
    assert "Caches | " in why["edge-2"] and why["edge-3"].startswith("verify: ") and "drift: " in why["edge-3"], why
    assert "after batch 2, in which edge-2, edge-3 failed" in document["stopped"]

    # From another computer: the hosts tell, and nobody else.
    before = commands(four, "edge-1")
    status, states, document = four.rollout("--dry", state="two")
    assert commands(four, "edge-1") - before == 1, "a host that is as wanted costs one look"
    assert (status, states) == (1, four.states(edge_1="there", edge_4="offline", rest="waiting"))
    assert "failed at " in {one["host"]: one["why"] for one in document["hosts"]}["edge-3"]

    four.root("edge-2", MEND["deploy"])
    status, states, _ = four.rollout("--batch", "1", state="two")
    assert (status, states) == (1, {"edge-1": "there", "edge-2": "done", "edge-3": "failed", "edge-4": "offline"})

    four.root("edge-3", MEND["verify"])
    four.up()
    status, states, _ = four.rollout("--finish")
    assert (status, states) == (0, {"edge-1": "there", "edge-2": "there", "edge-3": "done", "edge-4": "done"})
    status, states, document = four.rollout()
    assert (status, states) == (0, four.states(rest="there"))
    assert not any(one["seconds"] for one in document["hosts"]), "nothing was done"


def test_what_another_deploy_has_touched_is_not_taken_for_done(four):
    assert four.root("edge-1", f"stat -c '%U:%a' {ROLLOUT}") == "root:600"
    done = four.lab.run(
        sys.executable,
        "-m",
        "pyinfra",
        "-y",
        "--limit",
        "edge-1",
        str(four.top / "fleet.py"),
        str(four.top / "deploy.py"),
    )
    assert done.returncode == 0, done.stderr
    assert four.rollout("--dry")[1] == four.states(edge_1="waiting", rest="there")
    assert four.rollout()[1] == four.states(edge_1="done", rest="there")


@pytest.mark.parametrize(
    "how", [*(pytest.param(one, marks=pytest.mark.whole) for one in (signal.SIGINT, signal.SIGTERM)), signal.SIGKILL]
)
def test_interrupted_it_goes_on(four, how):
    four.write(docker_log_max_size=f"{how.value + 10}m")
    four.root("edge-1", "rm -f /run/waits; touch /run/wait")
    run = four.start()
    four.root("edge-1", "for i in $(seq 300); do [ -e /run/waits ] && exit; sleep 0.2; done; exit 1")
    busy = four.rollout("--dry", state="two")[2]["hosts"][0]
    assert busy["state"] == "busy" and f"`ojai rollout {four.top / 'fleet.py'}`" in busy["why"]
    run.send_signal(how)
    if how is signal.SIGKILL:
        run.communicate(timeout=60)
    else:
        status, states, document = four.ended(run)
        assert (status, states) == (1, four.states(rest="waiting")) and document["interrupted"]
        assert document["hosts"][0]["why"] == "interrupted while deploying"
    four.root("edge-1", "rm -f /run/wait")
    assert four.root("edge-1", f"ls {ROLLOUT} 2>/dev/null || true") == "", "it is not taken for done"
    status, states, _ = four.rollout("--batch", "100%")
    assert (status, states) == (0, four.states(rest="done"))


@pytest.mark.whole
def test_two_controllers_at_once_keep_apart(four):
    """Over one fleet, and each over its own group; in the end every host is as wanted."""
    four.write(docker_log_max_size="50m")
    both = [four.start("--batch", "1", state=state) for state in ("one", "two")]
    for run in both:
        status, states, document = four.ended(run)
        assert set(states.values()) <= {"there", "done", "busy"}, document
        assert status == int("busy" in states.values())
    assert four.rollout()[:2] == (0, four.states(rest="there"))
    four.write(docker_log_max_size="51m")
    both = [four.start("--limit", group, "--batch", "1", state=group) for group in ("berlin", "porto")]
    assert [four.ended(run)[:2] for run in both] == [
        (0, {"edge-1": "done", "edge-3": "done"}),
        (0, {"edge-2": "done", "edge-4": "done"}),
    ]
    assert four.rollout()[:2] == (0, four.states(rest="there"))


@pytest.mark.whole
def test_twenty_four(tmp_path):
    """Two broken, one offline: stopped, resumed, finished; its page on a wide and a narrow screen."""
    for edge in fleet(".lab-rollout-24", 24, tmp_path):
        edge.root("edge-9", BREAK["deploy"])
        edge.root("edge-20", BREAK["verify"])
        assert edge.lab.ojai("lab", "down", "edge-5").returncode == 0
        page = tmp_path / "page.html"
        words = ("--canary", "2", "--batch", "25%", "--html", str(page))

        status, states, document = edge.rollout(*words)
        done = {f"edge_{number}": "done" for number in (1, 2, 3, 4, 6, 7, 8)}
        assert (status, states["edge-9"], states["edge-5"]) == (1, "failed", "offline"), document
        assert states == edge.states(**done, edge_5="offline", edge_9="failed", rest="waiting")
        edge.root("edge-9", MEND["deploy"])
        status, states, document = edge.rollout(*words, state="another")
        assert (status, states["edge-20"], states["edge-9"]) == (1, "failed", "done"), document
        there = sum(state in ("there", "done") for state in states.values())
        print(f"after the second: {there} of 24, {sorted(set(states.values()))}; {document['stopped']}")
        if any(shutil.which(name) for name in BROWSERS):
            for width in (1280, 500):
                found = seen(page, width, tmp_path)
                assert found["page"] <= found["width"], "the page scrolls sideways"
                assert found["rows"] == 25 and f"{there} of 24 hosts are as wanted" in found["text"]
        status, states, _ = edge.rollout(*words, "--max-failed", "1")
        assert (status, sorted(name for name in states if states[name] not in ("there", "done"))) == (
            1,
            ["edge-20", "edge-5"],
        )
        edge.root("edge-20", MEND["verify"])
        edge.up()
        status, states, _ = edge.rollout("--finish", "--html", str(page))
        assert (status, states) == (0, edge.states(edge_5="done", edge_20="done", rest="there"))
        kept = os.environ.get("OJAI_LAB_PAGE")
        if kept:
            shutil.copy(page, kept)
