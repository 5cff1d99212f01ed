"""`ojai rollout` and `ojai upgrade` over hosts that do not exist: order, what they keep, resuming, what is said."""

from __future__ import annotations

import io
import json
import re
import runpy
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pydantic import TypeAdapter
from rich.console import Console

import ojai.rollout
from ojai.cli import main
from ojai.cmdline import lock as lock_command
from ojai.cmdline import rollout as rollout_command
from ojai.cmdline.rollout import batch_size
from ojai.facts.rollout import HostStanding, Record
from ojai.parameters import resolved
from ojai.pyinfra_runs import batches
from ojai.pyinfra_runs.batches import FAILED, OK, REFUSED, UNREACHABLE
from ojai.pyinfra_runs.batches import Result as Came
from ojai.pyinfra_runs.verification import Check, Verdict
from ojai.rollout import wanted
from ojai.settings import parse
from ojai.settings.inventory import Entry, locked
from ojai.smoke import Report
from ojai.smoke import Result as Smoked
from tests.unit.browsing import in_a_browser

ROOT = Path(__file__).resolve().parents[2]
GIB = 1 << 30
RECORD = TypeAdapter(Record)


@dataclass
class World:
    """The hosts. What they keep is all that outlives a run.

    + broken: host -> the step that fails; offline, busy: hosts
    + before: called with the hosts of each deploy before it begins
    """

    records: dict[str, Record] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    offline: set[str] = field(default_factory=set)
    busy: dict[str, str] = field(default_factory=dict)
    standing: dict[str, Any] = field(default_factory=dict)
    runs: list[tuple[str, list[str]]] = field(default_factory=list)
    before: Callable[[list[str]], None] = lambda names: None

    def names(self, kind: str) -> list[list[str]]:
        return [names for what, names in self.runs if what == kind]

    def standings(
        self, entries: list[Entry], deploy: Path, notes: dict[str, str] | None = None
    ) -> tuple[dict[str, HostStanding], dict[str, Came]]:
        self.runs.append(("note" if notes else "ask", [one.name for one in entries]))
        there = [one.name for one in entries if one.name not in self.offline]
        found = {
            name: HostStanding(self.records.get(name), busy=self.busy.get(name, ""), ours=True, **self.standing)
            for name in there
        }
        for name in there:
            if text := (notes or {}).get(name):
                kept = re.search(r"printf '%s\\n' '(\{.*\})' >", text)
                assert kept, text
                self.records[name] = RECORD.validate_json(kept[1].replace("'\"'\"'", "'"))
        return found, {
            one.name: Came(OK) if one.name in there else Came(UNREACHABLE, "Could not connect (timed out)")
            for one in entries
        }

    def deploy(self, entries: list[Entry], file: Path, tell: Any, command: str) -> dict[str, Came]:
        names = [one.name for one in entries]
        self.before(names)
        self.runs.append(("deploy", names))
        assert command.startswith("ojai rollout /")
        tell("", "Docker | Install Docker Engine")
        for name in names:
            tell(name, "pulling the image: 3.1 GB of 20.0 GB, 11.0 MB/s, 26 min left")
            self.records.pop(name, None)  # as the deploy's lock does
        kinds = {
            "deploy": Came(FAILED, "Docker | Start: no"),
            "lock": Came(REFUSED, "deploy lock: found another deploy running here: x"),
        }
        return {name: kinds.get(self.broken.get(name, ""), Came(OK)) for name in names}

    def verify(self, entries: list[Entry], plan: Any) -> Iterator[Verdict]:
        self.runs.append(("verify", [one.name for one in entries]))
        for one in entries:
            bad = self.broken.get(one.name) == "verify"
            checks = (
                Check("docker", "it answers", "failed" if bad else "passed", 1.0, "no answer" if bad else ""),
                Check("drift", "the deploy would change nothing", "passed", 1.0),
                Check("docker", "it is new", "warned" if self.broken.get(one.name) == "old" else "passed", 1.0, "old"),
            )
            yield Verdict(one.name, ElementTree.Element("testsuite"), checks, state="failed" if bad else "ok")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    def entries(inventory: str, limit: tuple[str, ...]) -> tuple[str, list[Entry]]:
        """As `resolved`, without a process."""
        if limit:
            return resolved(inventory, limit)
        file = Path(inventory)
        hosts = runpy.run_path(inventory)["hosts"]
        lock = file.with_suffix(".lock")
        return str(file.resolve()), [
            Entry(name, ("hosts",), data, locked(name, parse(name, data), lock), lock) for name, data in hosts
        ]

    found = World()
    monkeypatch.setattr(rollout_command, "resolved", entries)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(batches, "standings", found.standings)
    monkeypatch.setattr(batches, "deploy", found.deploy)
    monkeypatch.setattr(ojai.rollout, "verify", found.verify)
    return found


def inventory(tmp_path: Path, hosts: int, services: object = (), **data: object) -> str:
    file = tmp_path / "fleet.py"
    names = [f"mini-{number:02}" for number in range(1, hosts + 1)]
    (tmp_path / "deploy.py").touch()
    file.write_text(f"hosts = {[(name, {'services': list(services), **data}) for name in names]!r}\n")  # type: ignore[call-overload]
    return str(file)


def run(*words: str, command: str = "rollout") -> Result:
    done = CliRunner().invoke(main, [command, *words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    return done


def states(*words: str) -> tuple[int, dict[str, list[str]], dict[str, Any]]:
    """Exit status; hosts by state; the whole document."""
    done = run(*words, "--json")
    document = json.loads(done.stdout)
    found: dict[str, list[str]] = {}
    for one in document["hosts"]:
        found.setdefault(one["state"], []).append(one["host"].removeprefix("mini-"))
    return done.exit_code, found, document


def test_a_canary_then_batches_and_a_second_run_only_asks(world, tmp_path):
    fleet = inventory(tmp_path, 6)
    status, found, _ = states(fleet, "--batch", "2")
    assert (status, found) == (0, {"done": ["01", "02", "03", "04", "05", "06"]})
    assert [len(names) for names in world.names("deploy")] == [1, 2, 2, 1]
    assert [kind for kind, _ in world.runs][:4] == ["ask", "deploy", "verify", "note"]
    world.runs.clear()
    status, found, document = states(fleet)
    assert (status, list(found)) == (0, ["there"]) and [kind for kind, _ in world.runs] == ["ask"]
    assert document["hosts"][0]["record"]["ok"] and "by " in document["hosts"][0]["why"]


def test_a_failed_batch_stops_it_and_it_goes_on_there(world, tmp_path):
    fleet = inventory(tmp_path, 7)
    world.broken["mini-03"] = "verify"
    status, found, document = states(fleet, "--batch", "2")
    assert (status, found) == (1, {"done": ["01", "02"], "failed": ["03"], "waiting": ["04", "05", "06", "07"]})
    assert document["stopped"] == "after batch 2, in which mini-03 failed"
    assert "verify: docker: it answers: no answer" in document["hosts"][2]["why"]
    done = run(fleet, "--dry")
    assert done.exit_code == 1 and "mini-03: failed at " in done.output and "Next: mini-03, mini-04" in done.output
    world.broken.clear()
    world.runs.clear()
    status, found, _ = states(fleet, "--batch", "3")
    assert (status, found) == (0, {"there": ["01", "02"], "done": ["03", "04", "05", "06", "07"]})
    assert world.names("deploy") == [["mini-03", "mini-04", "mini-05"], ["mini-06", "mini-07"]], "no canary again"


@pytest.mark.parametrize(("most", "status"), [("0", "waiting"), ("1", "done")])
def test_how_many_may_fail(world, tmp_path, most, status):
    fleet = inventory(tmp_path, 4)
    world.broken["mini-02"] = "deploy"
    _, found, document = states(fleet, "--batch", "1", "--max-failed", most)
    assert found["failed"] == ["02"] and "04" in found[status]
    assert document["hosts"][1]["why"] == "deploy: Docker | Start: no"


def test_a_canary_that_fails_always_stops_it(world, tmp_path):
    fleet = inventory(tmp_path, 3)
    world.broken["mini-01"] = "deploy"
    done = run(fleet, "--max-failed", "3")
    assert done.exit_code == 1 and world.names("deploy") == [["mini-01"]]
    assert "Stopped after the canary, in which mini-01 failed. What to do: mend it" in done.output


def test_a_canary_is_a_host_that_answers(world, tmp_path):
    fleet = inventory(tmp_path, 4)
    world.offline = {"mini-01"}
    status, found, _ = states(fleet, "--batch", "100%")
    assert (status, found) == (1, {"offline": ["01"], "done": ["02", "03", "04"]})
    assert world.names("deploy") == [["mini-02"], ["mini-03", "mini-04"]]


def test_who_was_offline_is_finished_later(world, tmp_path):
    fleet = inventory(tmp_path, 5)
    world.offline, world.broken = {"mini-04", "mini-05"}, {"mini-02": "deploy"}
    done = run(fleet, "--finish")
    assert done.exit_code == 1 and "found no host that is as" in done.output and not world.names("deploy")
    done = run(fleet, "--batch", "2", "--max-failed", "1")
    assert done.exit_code == 1 and "--finish" in done.output.splitlines()[-1]
    world.runs.clear()
    world.offline, world.broken = set(), {"mini-02": "deploy"}
    status, found, document = states(fleet, "--batch", "1", "--canary", "4", "--finish")
    assert (status, found) == (1, {"there": ["01", "03"], "failed": ["02"], "done": ["04", "05"]})
    assert document["stopped"] is None and [len(names) for names in world.names("deploy")] == [1, 1, 1]


def test_another_controllers_hosts_are_left_to_it(world, tmp_path):
    fleet = inventory(tmp_path, 4)
    world.busy = {"mini-01": "ada on laptop"}
    world.broken = {"mini-03": "lock"}
    status, found, document = states(fleet, "--batch", "1")
    assert (status, found) == (1, {"busy": ["01", "03"], "done": ["02", "04"]})
    assert "ada on laptop" in document["hosts"][0]["why"] and document["stopped"] is None


def test_what_another_controller_has_done_meanwhile_is_not_done_again(world, tmp_path):
    fleet = inventory(tmp_path, 4)
    world.busy = {"mini-04": "ada on laptop"}

    def meanwhile(names: list[str]) -> None:
        if names == ["mini-01"]:  # the other one has the same inventory, and comes to the same
            world.records |= {one.name: Record(one.wanted, True, "", "now", "ada", "1") for one in hosts[2:]}
            world.busy.clear()

    path, read = rollout_command.resolved(fleet, ())
    hosts = ojai.rollout.rows(read, path, (tmp_path / "deploy.py").resolve())
    world.before = meanwhile
    status, found, _ = states(fleet, "--batch", "3")
    assert (status, found) == (0, {"done": ["01", "02"], "there": ["03", "04"]})
    assert world.names("deploy") == [["mini-01"], ["mini-02"]]


def test_interrupted_it_says_where_it_stands(world, tmp_path):
    fleet = inventory(tmp_path, 4)
    page = tmp_path / "page.html"

    def interrupt(names: list[str]) -> None:
        if "mini-02" in names:
            raise KeyboardInterrupt

    world.before = interrupt
    done = run(fleet, "--batch", "2", "--html", str(page))
    assert done.exit_code == 1
    assert "mini-02: interrupted while deploying" in done.output and "Interrupted. `ojai rollout" in done.output
    assert "1 of 4 hosts are as wanted; 3 to do." in done.output and "1 of 4 hosts" in page.read_text()
    world.before = lambda names: None
    status, found, document = states(fleet, "--batch", "2")
    assert (status, found, document["interrupted"]) == (0, {"there": ["01"], "done": ["02", "03", "04"]}, False)


def test_what_is_verified_and_cannot_be_kept_is_not_done(world, monkeypatch, tmp_path):
    fleet = inventory(tmp_path, 1)
    fine = world.standings

    def lost(entries, deploy, notes=None):
        found, came = fine(entries, deploy)
        return found, {
            name: Came(FAILED, "Keep: another deploy has run here meanwhile") if notes else one
            for name, one in came.items()
        }

    monkeypatch.setattr(batches, "standings", lost)
    status, found, document = states(fleet)
    assert (status, found) == (1, {"busy": ["01"]}) and "another deploy has run" in document["hosts"][0]["why"]


def test_a_service_is_smoked(world, monkeypatch, tmp_path):
    fleet = inventory(tmp_path, 2, [{"profile": "gemma-4-e4b"}])
    asked = []

    def ask(place, inventory, rules, only, tell):
        asked.append((place.name, rules.form_only))
        tell(place.name, "3 checks done")
        bad = place.name == "mini-02"
        result = Smoked("chat", "failed" if bad else "passed", 1.0, "a", "nothing" if bad else "b", "c")
        return [Report(f"{place.name} vllm-gemma4", "m", (result,))]

    monkeypatch.setattr("ojai.smoke.hosts.ask", ask)
    status, found, document = states(fleet, "--smoke", "form")
    assert (status, found) == (1, {"done": ["01"], "failed": ["02"]}) and asked == [
        ("mini-01", True),
        ("mini-02", True),
    ]
    assert document["hosts"][1]["why"] == "smoke: mini-02 vllm-gemma4: chat: nothing"
    assert not world.records["mini-02"].ok
    assert states(fleet, "--smoke", "none")[:2] == (0, {"there": ["01"], "done": ["02"]}) and len(asked) == 2


def test_removal_is_rolled_out_and_nothing_is_kept(world, tmp_path):
    fleet = inventory(tmp_path, 2, removed=True)
    status, found, _ = states(fleet)
    assert (status, found) == (0, {"done": ["01", "02"]}) and not world.records and world.names("verify") == [[], []]


def test_two_hundred_hosts_cost_a_look_each_and_three_runs_a_batch(world, tmp_path):
    """What grows: processes of pyinfra with the batches, looks with the hosts."""
    fleet = inventory(tmp_path, 200)
    status, found, _ = states(fleet, "--batch", "10%")
    assert (status, len(found["done"])) == (0, 200)
    runs = [kind for kind, _ in world.runs if kind != "verify"]
    assert (runs.count("deploy"), runs.count("note"), runs.count("ask")) == (11, 11, 11)
    assert sum(len(names) for names in world.names("ask")) == 399 and len(world.names("ask")[0]) == 200
    world.runs.clear()
    assert states(fleet)[0] == 0 and [len(names) for _, names in world.runs] == [200]


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda: {}, True),
        (lambda: {"ssh_hostname": "192.0.2.9", "_sudo_password": "x"}, True),
        (lambda: {"data_mode": "0750"}, False),
        (lambda: {"vars": {"mine": 1}}, False),
    ],
)
def test_what_a_host_is_to_be_is_known_by_its_data(tmp_path, change, same):
    def entry(**data: Any) -> Entry:
        return Entry("mini", ("minis",), {"services": [], **data}, parse("mini", {"services": []}))

    words = ("fleet.py", tmp_path / "deploy.py")
    assert (wanted(entry(), *words) == wanted(entry(**change()), *words)) is same


def test_what_a_host_is_to_be_is_known_by_the_lock_and_the_deploy_with_its_roles(tmp_path):
    deploy, lock = tmp_path / "deploy.py", tmp_path / "fleet.lock"
    (tmp_path / "roles").mkdir()
    entry = Entry("mini", (), {}, parse("mini", {"services": []}), lock)

    def now() -> str:
        ojai.rollout._own.cache_clear()
        return wanted(entry, str(tmp_path / "fleet.py"), deploy)

    found = [now()]
    for file, text in ((deploy, "1"), (deploy, "2"), (tmp_path / "roles" / "mine.py", "3"), (lock, "format: 1")):
        file.write_text(text)
        found.append(now())
    assert len(set(found)) == 5
    for other in ("fleet.py", "README.md", "roles/notes.txt"):
        (tmp_path / other).write_text("x")
    assert now() == found[-1], "of these no deploy makes anything"


@pytest.mark.parametrize(("batch", "size"), [("5", 5), ("10%", 3), ("1%", 1), ("100%", 24)])
def test_sizes_of_batches(batch, size):
    assert batch_size(batch, 24) == size


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--batch", "0"), "found 0; expected a number of hosts (5) or a share of them (20%)"),
        (("--batch", "120%"), "found 120%"),
        (("--only", "dokcer"), "--only dokcer: there is no such area"),
        (("--canary", "-1"), "canary"),
        (("--limit", "none"), "found no host that matches --limit"),
    ],
)
def test_what_cannot_be_meant(world, tmp_path, words, said):
    done = run(inventory(tmp_path, 2), *words)
    assert done.exit_code == 2 and said in done.output and not world.runs


RECAP = """--> Starting operation: Docker | Install Docker Engine
    [one] Success
--> Recap:
    one    ok  4 of 34 operations changed something
    two    UNREACHABLE  Could not connect (timed out)
    three  FAILED  Docker | Install: E: Unable to locate package
    four   STOPPED  after 7 of 34 operations
""".splitlines(keepends=True)


def test_a_runs_recap_says_what_came_of_each_host():
    found = batches.results(("one", "two", "three", "four"), 1, RECAP)
    assert [(name, one.word) for name, one in found.items()] == [
        *(("one", "ok"), ("two", "UNREACHABLE"), ("three", "FAILED"), ("four", "STOPPED"))
    ]
    assert found["three"].reason == "Docker | Install: E: Unable to locate package"


def test_without_a_recap_nothing_is_taken_for_done():
    said = ["    [one] Connected\n", "    [two] Authentication error\n", "Killed\n"]
    found = batches.results(("one", "two"), -9, said)
    assert found["one"].word == FAILED and "pyinfra ended with status -9" in found["one"].reason
    assert found["two"] == Came(UNREACHABLE, "Authentication error")
    assert set(batches.results(("one", "two"), 0, said[:1]).values()) == {Came(OK)}


def test_fakes_are_really_asked_and_deployed_to(tmp_path):
    """The processes of pyinfra, whole: they cannot be verified, so that is where they fail."""
    (tmp_path / "fleet.py").write_text(
        "from ojai.fake import fake_host\nhosts = [fake_host(name, {'services': []}) for name in ('one', 'two')]\n"
    )
    (tmp_path / "deploy.py").write_text(
        "from pyinfra import host\nfrom ojai.connection import configure_connection\nfrom ojai.roles import ledger\n"
        "configure_connection(host)\nledger.apply()\n"
    )
    argv = [sys.executable, "-m", "ojai", "rollout", "fleet.py", "--json", "--only", "ledger"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    one, two = json.loads(done.stdout)["hosts"]
    assert one["why"].startswith("verify: cannot be checked") and (one["state"], two["state"]) == ("failed", "waiting")
    assert "@fake/one: deploying …\n@fake/one: verifying …\n@fake/one: failed: verify" in done.stderr


def test_what_each_host_does_is_seen_while_it_does_it(world, monkeypatch, tmp_path):
    """As on a terminal: a line a host of the batch, with the bytes and the time that are left."""
    fleet = inventory(tmp_path, 3)
    screen = io.StringIO()
    shown: list[str] = []

    class Terminal(rollout_command._Shown):
        def __init__(self, rollout: Any) -> None:
            super().__init__(rollout)
            self.console = Console(file=screen, force_terminal=True, width=100, highlight=False)

    def deploy(entries, file, tell, command):
        came = world.deploy(entries, file, tell, command)
        terminal.console.print(terminal._now())
        shown.append(screen.getvalue())
        return came

    def start(rollout: Any) -> Terminal:
        nonlocal terminal
        terminal = Terminal(rollout)
        return terminal

    terminal: Any = None
    monkeypatch.setattr(rollout_command, "_Shown", start)
    monkeypatch.setattr(batches, "deploy", deploy)
    assert run(fleet, "--batch", "2").exit_code == 0
    last = shown[-1].splitlines()[-3:]
    assert re.match(r"mini-02 +deploying +0 s +pulling the image: 3.1 GB of 20.0 GB, 11.0 MB/s, 26 min left", last[0])
    assert last[2] == "Batch 2: 1 of 3 hosts are as wanted; 2 to do."


@pytest.fixture
def page(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A rollout of 24 hosts with two broken and one offline."""
    fleet = inventory(tmp_path, 24, [{"profile": "gemma-4-e4b"}])
    world.broken, world.offline = {"mini-09": "deploy", "mini-20": "verify", "mini-03": "old"}, {"mini-05"}
    world.standing = {"vram": 64 * GIB, "gtt": 30 * GIB}
    good = Smoked("chat", "passed", 1.0, "a", "b", "c")
    monkeypatch.setattr("ojai.smoke.hosts.ask", lambda place, *_: [Report(place.name, "m", (good,))])
    file = tmp_path / "page.html"
    assert run(fleet, "--max-failed", "2", "--html", str(file)).exit_code == 1
    return file.read_text()


def test_the_page_reads_without_colour(page):
    text = re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL)
    assert "21 of 24 hosts are as wanted; 2 failed; 1 offline." in text
    assert text.count("✗ 1 failed") == text.count("! 1 warned") == 1
    assert (text.count("✓ 2"), text.count("✓ 1")) == (20, 22 + 21), "docker; drift and smoke"
    assert "22 GiB of 64.0 GiB" in text and "There is no lock beside the inventory" in text
    assert "mini-20: failed" in text and "mini-05: offline" in text
    assert not re.search(r"(src|href)=|url\(|@import", page), "it needs nothing else"


@pytest.mark.parametrize("width", [1280, 480])
def test_the_page_in_a_browser(width: int, page: str, tmp_path: Path) -> None:
    found = in_a_browser(
        page,
        """const out = {width: innerWidth, page: document.documentElement.scrollWidth, tables: []};
        out.colors = {}; out.first = [];
        for (const table of document.querySelectorAll("table")) {
          const box = table.parentElement;
          out.tables.push([box.getBoundingClientRect().width, table.rows[0].cells.length, table.rows.length]);
          box.scrollLeft = 1000;
          out.first.push(table.rows[1].cells[0].getBoundingClientRect().left >= box.getBoundingClientRect().left - 1);
        }
        for (const cell of document.querySelectorAll("td[class], .verdict"))
          out.colors[cell.textContent.slice(0, 9)] = getComputedStyle(cell).color;
        return out;""",
        width,
        tmp_path,
    )
    assert found["page"] <= found["width"], "the page scrolls sideways"
    assert [cells for _, *cells in found["tables"]] == [[6, 25], [4, 23]]
    assert all(200 < box <= found["width"] for box, *_ in found["tables"])
    assert all(found["first"]), "the host's name is seen beside what was scrolled to"
    assert len({found["colors"][word] for word in ("done", "failed", "offline")}) == 3


def test_versions_are_compared_with_the_lock(world, tmp_path):
    digest, commit = f"sha256:{'a' * 64}", "b" * 40
    fleet = inventory(tmp_path, 1, [{"profile": "gemma-4-e4b"}])
    service = parse("mini-01", {"services": [{"profile": "gemma-4-e4b"}]}).resolved[0]
    (model,) = lock_command.models_of(service)
    Path(fleet).with_suffix(".lock").write_text(
        lock_command.Lock(
            ojai="1",
            images={service.image: lock_command.Image(digest=digest, engine="0.20.1", contract="c" * 64)},
            models={model: lock_command.Model(commit=commit, files={"x": lock_command.File(size=1, hash="d" * 64)})},
            packages={
                "docker": lock_command.Packages(taken="20261101T000000Z", versions={"docker.io": "28.0", "runc": "1"})
            },
            profiles={"gemma-4-e4b": lock_command.profile_hash("gemma-4-e4b")},
        ).text()
    )
    name = ojai.rollout.record_name(*model.rsplit("@", 1))
    world.standing = {
        "digests": {"vllm-gemma4": f"vllm/vllm-openai-rocm@{digest}"},
        "models": {name: "e" * 40},
        "packages": {"docker.io": "28.0"},
    }
    page = tmp_path / "page.html"
    _, _, document = states(fleet, "--smoke", "none", "--html", str(page))
    assert document["hosts"][0]["lock"] == [
        {"what": "image of vllm-gemma4", "locked": digest, "found": digest},
        {"what": f"model {model}", "locked": commit, "found": "e" * 40},
        {"what": "package docker.io", "locked": "28.0", "found": "28.0"},
    ]
    assert "✗ 2 of 3" in page.read_text() and f"model {model}" in page.read_text()


def test_an_upgrade_is_a_lock_and_a_rollout(world, monkeypatch, tmp_path):
    fleet = inventory(tmp_path, 3)
    asked = []

    def make(inventory, what, upgrade, console):
        asked.append((inventory, tuple(what), upgrade))
        return made, False

    monkeypatch.setattr(lock_command, "make", make)
    made = True
    done = run(fleet, "--what", "rocm", "--json", command="upgrade")
    assert done.exit_code == 0 and asked == [(fleet, ("rocm",), True)]
    assert [one["state"] for one in json.loads(done.stdout)["hosts"]] == ["done"] * 3
    assert world.names("deploy") == [["mini-01"], ["mini-02"], ["mini-03"]]
    world.runs.clear()
    made = False
    done = run(fleet, command="upgrade")
    assert done.exit_code == 1 and "Nothing was rolled out" in done.output and not world.runs


def test_the_example_that_reads_a_csv_is_an_inventory():
    done = run(str(ROOT / "examples" / "csv" / "fleet.py"), "--json", command="plan")
    hosts = {one["name"]: one["groups"] for one in json.loads(done.stdout)["hosts"]}
    assert {name: sorted(groups) for name, groups in hosts.items()} == {
        "mini-01": ["berlin", "fleet"],
        "mini-02": ["berlin", "fleet"],
        "mini-03": ["fleet", "porto"],
    }
