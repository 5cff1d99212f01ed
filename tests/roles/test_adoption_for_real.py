"""The owner's server taken over and given back by this machine's shell, cut off after each command of it.

Docker and systemd are stand-ins that keep their state in files: what matters here is in what order things are done, and
what is left on disk. tests/lab has the real ones.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_host import RealHost

import ojai.operations.adoption as adoption
import ojai.operations.ledger as ledger

PROGRAMS = Path(__file__).parent / "stand_ins"
NAME, UNIT = "vllm-gemma4", "gemma.service"
CONFIG = {"Image": "vllm:1", "Env": ["HF_TOKEN=hf_secret", 'A=ä "b" \\ $HOME `x`'], "Cmd": ["m", "--port", "8000"]}
HOST_CONFIG = {"NetworkMode": "host", "Binds": ["/home/ada/.cache/huggingface:/root/.cache/huggingface"]}


class CutHost(RealHost):
    """A host that can lose its power before the n-th command of a stand-in."""

    own_group = True  # the stand-ins kill all of it


class Machine:
    """Docker and systemd in ``folder``, and the owner's server on them."""

    def __init__(self, folder: Path, removes: bool = True, restart: str = "no", unit: bool = False) -> None:
        self.folder = folder
        for name in ("containers", "images", "units"):
            (folder / name).mkdir(parents=True)
        (folder / "images" / "vllm:1").write_text("sha256:1")
        self.host = CutHost(
            {"PATH": f"{PROGRAMS}:{os.environ['PATH']}", "FAKE": str(folder), "CUT": "0", "LC_ALL": "C.UTF-8"}
        )
        self.unit = unit
        if unit:
            (folder / "units" / UNIT).write_text("enabled active")
        self.run(removes, restart)
        self.was = self.servers()

    def run(self, removes: bool, restart: str) -> None:
        body = json.dumps({**CONFIG, "HostConfig": {**HOST_CONFIG, "AutoRemove": removes}}, ensure_ascii=False)
        (self.folder / "start").write_text(f"{NAME} {'true' if removes else 'false'} {restart}\n{body}\n")
        done = self.host.sh("docker run-as-owner")
        assert done.returncode == 0, done.stderr

    def servers(self) -> list[tuple[str, str, str, str, str]]:
        """Name, what it was made of, whether it runs, restart policy, and whether it is removed when it stops."""
        found = []
        for place in sorted((self.folder / "containers").iterdir()):
            body = json.loads((place / "body").read_text())
            body.pop("NetworkingConfig", None)
            words = [(place / name).read_text().strip() for name in ("name", "running", "restart", "removes")]
            found.append((words[0], json.dumps(body, sort_keys=True), *words[1:]))
        return found

    def runs(self) -> list[str]:
        return [name for name, _, running, *_ in self.servers() if running == "true"]

    def cut(self, command: int) -> None:
        (self.folder / "count").unlink(missing_ok=True)
        self.host.environment["CUT"] = str(command)

    def boot(self) -> None:
        """After a power cut: nothing that was started by hand runs, and Docker removes what is to go."""
        for place in (self.folder / "containers").iterdir():
            if (place / "removes").read_text().strip() == "true":
                shutil.rmtree(place)
            elif (place / "restart").read_text().strip() == "no":
                (place / "running").write_text("false\n")
        if self.unit and (self.folder / "units" / UNIT).read_text().startswith("disabled"):
            (self.folder / "units" / UNIT).write_text("disabled inactive")

    def keep(self, tuned: dict[str, str] | None = None) -> bool:
        """As the role does it: what runs is seen by preflight."""
        up = [place for place in (self.folder / "containers").iterdir() if (place / "running").read_text() == "true\n"]
        containers = [
            (NAME, place.name, UNIT if self.unit else "", f"{NAME}-before-ojai")
            for place in up
            if (place / "name").read_text().strip() == NAME
        ]
        state = (self.folder / "units" / UNIT).read_text().split() if self.unit else []
        units = [(UNIT, *state)] if state and state != ["disabled", "inactive"] else []
        return self.host.apply(adoption.kept, containers=containers, units=units, folders={}, tuned=tuned or {})

    def take_over(self, tuned: dict[str, str] | None = None) -> None:
        self.keep(tuned)
        self.host.apply(adoption.up_again)
        self.host.apply(adoption.stopped)


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    monkeypatch.setattr(adoption, "ADOPTED", str(tmp_path / "ojai" / "adopted"))
    for module in (adoption, ledger):
        monkeypatch.setattr(module, "ADDED_DIR", str(tmp_path / "ojai" / "added"))


@pytest.fixture
def record(tmp_path) -> Path:
    return tmp_path / "ojai" / "adopted"


KINDS = {
    "in a terminal": {},
    "compose": {"removes": False, "restart": "unless-stopped"},
    "by hand, kept": {"removes": False, "restart": "on-failure:3"},
    "a unit": {"unit": True},
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_taken_over_twice_and_given_back(tmp_path, record, kind):
    machine = Machine(tmp_path / "fake", **kind)
    machine.take_over()
    assert machine.runs() == []
    assert NAME not in [name for name, *_ in machine.servers()], "its name is free for ours"
    machine.keep()
    assert machine.host.steps == 0
    assert not machine.host.apply(adoption.up_again)
    assert not machine.host.apply(adoption.stopped)
    assert machine.host.apply(adoption.returned)
    assert machine.servers() == machine.was
    assert not record.exists()
    assert not machine.host.apply(adoption.returned)
    if machine.unit:
        assert (machine.folder / "units" / UNIT).read_text().split() == ["enabled", "active"]


def test_only_root_reads_what_is_kept_and_no_secret_is_an_argument(tmp_path, record):
    machine = Machine(tmp_path / "fake")
    machine.take_over()
    files = [path for path in record.rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o077 for path in (*files, *record.rglob("*"), record)} == {0}
    assert any("hf_secret" in path.read_text() for path in files)
    machine.host.apply(adoption.returned)
    assert "hf_secret" not in (machine.folder / "arguments").read_text()


def _cuts(machine: Machine, command: int) -> bool:
    """Whether the power was cut before that command of the take-over."""
    machine.cut(command)
    try:
        machine.take_over()
    except AssertionError:
        machine.cut(0)
        return True
    machine.cut(0)
    return False


def _every_cut(tmp_path: Path, kind: dict[str, object]) -> Iterator[Machine]:
    """The machine after a cut before each command of the take-over in turn."""
    for command in range(1, 200):
        folder = tmp_path / str(command)
        machine = Machine(folder / "fake", **kind)  # type: ignore[arg-type]
        adoption.ADOPTED = str(folder / "adopted")
        if not _cuts(machine, command):
            assert command > 15, "nothing was cut"
            return
        yield machine
    raise AssertionError("it never ends")


@pytest.mark.parametrize(
    ("kind", "reboots"),
    [("in a terminal", True), ("in a terminal", False), ("compose", False), ("a unit", True)],
    ids=["terminal, power cut", "terminal, killed", "compose, killed", "unit, power cut"],
)
def test_cut_off_anywhere_the_next_run_ends_it_or_gives_it_back(tmp_path, caplog, kind, reboots):
    caplog.set_level(logging.CRITICAL)
    for turn, machine in enumerate(_every_cut(tmp_path, KINDS[kind])):
        if reboots:
            machine.boot()
        recorded = any(Path(adoption.ADOPTED).rglob("about"))
        if not recorded and not machine.runs() and not machine.unit:
            # Nothing had been done to it: it is as any reboot leaves it.
            assert reboots
            continue
        if turn % 2:
            machine.take_over()
            assert machine.runs() == [], turn
        if machine.unit and turn % 2 == 0 and not any(Path(adoption.ADOPTED).rglob("units/*/about")):
            continue
        machine.host.apply(adoption.returned)
        assert machine.runs() == [NAME], turn
        assert [server[:2] for server in machine.servers()] == [server[:2] for server in machine.was], turn
        assert machine.servers() == machine.was, turn


def test_a_reboot_before_its_time_is_mended(tmp_path):
    machine = Machine(tmp_path / "fake")
    machine.keep()
    machine.boot()
    assert machine.runs() == []
    assert machine.host.apply(adoption.up_again)
    assert machine.servers() == machine.was
    machine.take_over()
    assert machine.runs() == []


def test_the_owner_starts_another_in_the_middle(tmp_path):
    machine = Machine(tmp_path / "fake")
    machine.keep()
    machine.host.sh(f"docker stop -t 1 {NAME}")
    machine.run(True, "no")
    machine.host.apply(adoption.stopped)
    assert machine.servers() == []
    machine.host.apply(adoption.returned)
    assert machine.servers() == machine.was
    # Again, after ours is down.
    machine.take_over()
    machine.run(True, "no")
    machine.take_over()
    assert machine.servers() == []


def test_its_image_is_gone_or_has_moved(tmp_path, record):
    machine = Machine(tmp_path / "fake")
    machine.take_over()
    images = machine.folder / "images"
    assert (images / f"ojai-adopted:{NAME}").read_text() == "sha256:1", "nothing prunes it meanwhile"
    (images / "vllm:1").write_text("sha256:2")
    machine.host.apply(adoption.returned)
    ((_, body, *_),) = machine.servers()
    assert json.loads(body)["Image"] == "sha256:1"

    machine.host.sh(f"docker stop -t 1 {NAME}")
    machine.run(True, "no")
    (images / "vllm:1").write_text("sha256:1")
    machine.take_over()
    for image in images.iterdir():
        image.unlink()
    with pytest.raises(AssertionError):
        machine.host.apply(adoption.returned)
    assert any("its image is gone" in line for line in machine.host.errors)
    assert (record / "containers" / NAME / "body.json").exists(), "the record stays"
    (images / "vllm:1").write_text("sha256:1")
    machine.host.apply(adoption.returned)
    assert machine.runs() == [NAME]


def test_a_full_disk_keeps_the_server(tmp_path, record):
    machine = Machine(tmp_path / "fake")
    record.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", record], check=False).returncode:
        pytest.skip("only root can make a small file system")
    try:
        (record / "filler").write_bytes(b"x" * 8192)
        with pytest.raises(AssertionError):
            machine.keep()
        assert machine.servers() == machine.was
        assert machine.runs() == [NAME]
        assert not any(record.rglob("about"))
        (record / "filler").unlink()
    finally:
        subprocess.run(["umount", record], check=True)
    machine.take_over()
    assert machine.runs() == []


def test_tuning_results_are_copied_when_it_has_stopped_and_ours_are_not_replaced(tmp_path):
    machine = Machine(tmp_path / "fake")
    source, place = tmp_path / "tuned.csv", tmp_path / "ojai" / "tunableop" / "abab" / "tuned.csv"
    source.write_text("old\n")
    machine.keep({str(source): str(place)})
    assert not place.exists()
    source.write_text("written at its end\n")
    machine.host.apply(adoption.stopped)
    assert place.read_text() == "written at its end\n" == source.read_text()
    place.write_text("ours\n")
    machine.host.apply(adoption.returned)
    machine.take_over()
    assert place.read_text() == "ours\n"


def test_the_successor_never_becomes_healthy(tmp_path, monkeypatch):
    machine = Machine(tmp_path / "fake")
    said: list[str] = []
    monkeypatch.setattr(adoption, "complain", lambda host, text: said.append(text))
    (tmp_path / "ojai" / "added").mkdir(parents=True)
    (tmp_path / "ojai" / "added" / "units").write_text("vllm-gemma4.service\n")
    assert not adoption.give_back(machine.host.state, machine.host)
    machine.keep()
    assert adoption.give_back(machine.host.state, machine.host)
    assert machine.servers() == machine.was and "Nothing was done" in said[-1]
    machine.take_over()
    (machine.folder / "units" / "vllm-gemma4.service").write_text("enabled active")
    assert adoption.give_back(machine.host.state, machine.host)
    assert machine.servers() == machine.was and "started again, as it was" in said[-1]
    assert (machine.folder / "units" / "vllm-gemma4.service").read_text().split() == ["disabled", "inactive"]
    # The next try, and this one succeeds.
    machine.take_over()
    assert machine.runs() == []
    machine.host.apply(adoption.returned)
    assert machine.servers() == machine.was


def test_a_removal_that_was_interrupted_is_ended(tmp_path):
    for command in range(1, 60):
        folder = tmp_path / str(command)
        machine = Machine(folder / "fake")
        adoption.ADOPTED = str(folder / "adopted")
        machine.take_over()
        machine.cut(command)
        try:
            machine.host.apply(adoption.returned)
            ended = True
        except AssertionError:
            ended = False
        machine.cut(0)
        if command % 2:
            machine.boot()
        machine.host.apply(adoption.returned)
        if not ended or not command % 2:
            assert machine.servers() == machine.was, command
        if ended:
            assert command > 5
            return
    raise AssertionError("it never ends")
