"""One round trip for what a run reads, counted by a real sshd; and the same results as without, whatever happens."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import sshd

from ojai.connection import reads

ROOT = Path(__file__).resolve().parents[2]

pytestmark = sshd.needed

DEPLOY = """
from pyinfra import host
from pyinfra.operations import server
from ojai.connection import configure_connection
from ojai.operations import files

configure_connection(host)
place = host.data._place
who = {"user": host.data._uid, "group": host.data._uid}
for number in range(8):
    files.text_file(name=f"Write {number}", path=f"{place}/file {number}", text=f"text {number}\\n", **who)
changed = files.text_file(name="Write last", path=f"{place}/last", text="last\\n", **who)
server.shell(name="Restart", commands=[f"echo restarted >>'{place}/log'"], _if=changed.did_change)
files.folders(name="Folders", paths=[f"{place}/a b", f"{place}/a b/c"], mode="750", **who)
files.absent(name="Remove", paths=[f"{place}/old"])
"""

#: What a fact asks, and a file on this machine that what it answered is written to.
ASKING = """
import json
from pathlib import Path
from pyinfra import host
from pyinfra.facts.server import Command
from ojai.connection import configure_connection, reads

configure_connection(host)
reads.PATIENCE = 1
found = [host.get_fact(Command, command, **arguments) for command, arguments in json.loads(Path("asked").read_text())]
Path(f"{host.name}.json").write_text(json.dumps(found))
"""


class Box:
    """A host, the user's repository, and what sshd counted."""

    def __init__(self, folder: Path, **words: str) -> None:
        (folder / "sshd").mkdir()
        self.sshd = sshd.Sshd(folder / "sshd", **words)
        self.folder, self.cache = folder / "repository", folder / "cache"
        self.folder.mkdir()
        config = (ROOT / "examples/repository/config.py").read_text().replace("= True", "= False")
        (self.folder / "config.py").write_text(config)
        self.hosts: dict[str, dict[str, Any]] = {}
        self.host("mini")
        self.deploy(DEPLOY)
        self.before = 0
        self.status = 0
        self.said = ""

    def host(self, name: str, **data: Any) -> Path:
        """Another name of it, with a folder of its own."""
        place = self.folder.parent / f"place of {name}"
        place.mkdir(exist_ok=True)
        self.hosts[name] = {**self.sshd.data, "_place": str(place), "_uid": self.sshd.data["ssh_user"], **data}
        return place

    def deploy(self, text: str) -> None:
        (self.folder / "deploy.py").write_text(text)

    def ask(self, *questions: str | tuple[str, dict[str, Any]]) -> None:
        """From now on, facts of these commands and arguments are all that is asked."""
        pairs = [(one, {}) if isinstance(one, str) else one for one in questions]
        (self.folder / "asked").write_text(json.dumps(pairs))
        self.deploy(ASKING)

    def answers(self, name: str = "mini") -> list[str]:
        found: list[str] = json.loads((self.folder / f"{name}.json").read_text())
        return found

    def start(self, *words: str) -> subprocess.Popen[str]:
        (self.folder / "hosts.py").write_text(f"hosts = {list(self.hosts.items())!r}\n")
        return subprocess.Popen(
            [sys.executable, "-m", "pyinfra", *words, "hosts.py", "deploy.py"], cwd=self.folder, text=True,
            env={**os.environ, "XDG_CACHE_HOME": str(self.cache)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *words: str) -> dict[str, tuple[int, int]]:
        """Operation -> on how many hosts it changed something, and on how many there was nothing to do."""
        run = self.start("--json", "-y", *words)
        out, self.said = run.communicate(timeout=120)
        self.status = run.returncode
        assert "Traceback" not in self.said, self.said
        results = json.loads(out)["results"] or {} if out else {}
        operations = results.get("operations", ())
        return {entry["name"]: (len(entry["success"]), len(entry["no_change"])) for entry in operations}

    def changed(self) -> set[str]:
        """What a run changes on the one host."""
        found = self.run()
        assert self.status == 0, self.said
        return {name for name, (_, same) in found.items() if not same}

    def count(self) -> int:
        """Commands since it was asked last."""
        sessions = len(re.findall("Starting session: command", self.sshd.log.read_text()))
        self.before, found = sessions, sessions - self.before
        return found

    @property
    def lists(self) -> list[Path]:
        """What is kept for the next run."""
        return [path for path in self.cache.rglob("*") if path.is_file()]


@pytest.fixture
def box(tmp_path):
    found = Box(tmp_path)
    yield found
    found.sshd.stop()


OPERATIONS = {*(f"Write {number}" for number in range(8)), "Write last", "Restart", "Folders", "Remove"}


def test_a_converged_run_is_one_command_and_one_that_changes_a_few(box):
    place = box.host("mini")
    (place / "old").touch()
    assert box.changed() == OPERATIONS
    assert box.count() > 20
    assert box.changed() == set()
    box.count()
    for _ in range(2):
        assert box.changed() == set()
        assert box.count() == 1
    (place / "file 3").write_text("drift\n")
    assert box.changed() == {"Write 3"}
    assert (place / "file 3").read_text() == "text 3\n"
    assert box.count() <= 6  # what the last run read, the write, one question, and the rest at once
    assert (place / "log").read_text() == "restarted\n"
    (place / "last").chmod(0o600)
    assert box.changed() == {"Write last", "Restart"}
    assert box.changed() == set()
    assert box.count() > 0


def test_a_dry_run_reads_ahead_too_and_what_it_read_serves_the_next(box):
    box.changed()
    box.changed()
    box.count()
    run = box.start("--dry")
    assert "Traceback" not in run.communicate(timeout=60)[1] and box.count() == 1
    assert box.changed() == set() and box.count() == 1


AROUND = """
from ojai.connection import reads

mini = host.state.inventory.get_host(host.name)
file, log = (f"'{host.data._place}/{name}'" for name in ("file 3", "around"))
reads.around_changes(
    mini,
    first=lambda: mini.run_shell_command(f"echo before $(cat {file}) >>{log}"),
    last=lambda: mini.run_shell_command(f"echo after $(cat {file}) >>{log}"),
)
"""


def test_a_run_is_looked_at_before_its_first_change_and_at_its_end_and_only_if_it_changes_something(box):
    box.deploy(DEPLOY.replace("place = host", f"{AROUND}place = host", 1))
    place = box.host("mini")
    box.changed()
    for _ in range(2):
        (place / "around").unlink(missing_ok=True)
        (place / "file 3").write_text("drift\n")
        assert box.changed() == {"Write 3"}
        assert (place / "around").read_text() == "before drift\nafter text 3\n"
    (place / "around").unlink()
    box.count()
    assert box.changed() == set() and box.count() == 1 and not (place / "around").exists()
    (place / "file 3").write_text("drift\n")
    (place / "a b" / "c").rmdir()
    (place / "a b" / "c").touch()
    box.run()
    assert box.status == 1 and "is a regular" in box.said
    assert (place / "around").read_text() == "before drift\nafter text 3\n", "so too when the run fails"


AWAY = """
from pyinfra.api import FunctionCommand, operation

def away(state, host):
    host.disconnect()
    host.connect()

@operation()
def reboot():
    yield FunctionCommand(away, (), {})

reboot(name="Reboot")
"""


def test_a_reboot_is_not_the_end_of_the_run(box):
    box.deploy(DEPLOY.replace("place = host", f"{AROUND}{AWAY}place = host", 1))
    place = box.host("mini")
    box.run()
    (place / "around").unlink(missing_ok=True)
    (place / "file 3").write_text("drift\n")
    box.run()
    assert (place / "around").read_text() == "before drift\nafter text 3\n"


def test_drift_between_looking_and_changing_is_found(box):
    box.deploy("from ojai.connection import reads\nreads.STALE = 1\n" + DEPLOY)
    place = box.host("mini")
    box.changed()
    (place / "file 0").write_text("drift\n")
    run = box.start()
    seen = ""
    while "Write 0" not in seen or "Press enter" not in seen:
        part = os.read(run.stderr.fileno(), 4096).decode()
        assert part, seen
        seen += part
    time.sleep(1.5)
    (place / "file 5").write_text("drift, while somebody thinks\n")
    _, said = run.communicate("\n", timeout=60)
    assert run.returncode == 0, said
    assert (place / "file 0").read_text() == "text 0\n" and (place / "file 5").read_text() == "text 5\n"


def test_a_command_that_is_run_is_never_answered_from_memory(box):
    place = box.host("mini")
    command = f"echo x >>'{place}/count'; wc -l <'{place}/count'"
    box.deploy(f"""
from pyinfra import host
from pyinfra.facts.server import Command
from pyinfra.operations import server
from ojai.connection import configure_connection

configure_connection(host)
host.get_fact(Command, {command!r})
server.shell(name="Once", commands=[{command!r}])
server.shell(name="Twice", commands=[{command!r}])
""")
    box.run()
    assert (place / "count").read_text() == "x\n" * 3
    (place / "count").unlink()
    box.run()
    assert (place / "count").read_text() == "x\n" * 3


def test_after_a_write_the_same_fact_is_asked_again(box):
    place = box.host("mini")
    box.deploy(f"""
from pyinfra import host
from pyinfra.api import FunctionCommand, operation
from pyinfra.facts.server import Command
from pyinfra.operations import files, server
from ojai.connection import configure_connection

configure_connection(host)

@operation()
def note(number):
    found = host.get_fact(Command, "cat '{place}/value' 2>/dev/null || echo none")
    yield f"echo {{number}} $(cat '{place}/value') {{found}} >>'{place}/seen'; echo {{number}} >'{place}/value'"

for number in range(4):
    note(name=f"Note {{number}}", number=number)
""")
    for _ in range(2):
        (place / "value").write_text("start\n")
        box.run()
        assert (place / "seen").read_text() == "0 start start\n1 0 0\n2 1 1\n3 2 2\n"
        (place / "seen").unlink()


def test_a_run_that_writes_all_the_time_does_not_read_everything_each_time(box):
    place = box.host("mini")
    (box.sshd.home / "bin/seen").write_text(f"#!/bin/sh\necho $1 >>'{place}/asked'\n")
    (box.sshd.home / "bin/seen").chmod(0o755)
    box.deploy("""
from pyinfra import host
from pyinfra.api import operation
from pyinfra.facts.server import Command
from ojai.connection import configure_connection

configure_connection(host)

@operation()
def write(number):
    for part in range(3):
        host.get_fact(Command, f"seen {number}.{part}")
    yield "true"

for number in range(30):
    write(name=f"Write {number}", number=number)
""")
    for at_most in (90, 3 * 90, 3 * 90):  # what follows in a first run, nobody knows
        (place / "asked").unlink(missing_ok=True)
        box.run()
        assert box.status == 0
        assert 90 <= len((place / "asked").read_text().splitlines()) <= at_most


def random_outputs(dice: random.Random, folder: Path) -> list[str]:
    """Commands that print random bytes, lines and sizes on both streams, and end in any way."""
    found = []
    for number in range(40):
        for stream in ("out", "err"):
            kind = dice.choice(["empty", "bytes", "lines", "long", "framed"])
            data = {
                "empty": b"",
                "bytes": dice.randbytes(dice.randint(1, 3000)),
                "lines": b"\n".join(dice.randbytes(dice.randint(0, 3)).hex().encode() for _ in range(30)),
                "long": b"x" * dice.randint(1, 200_000) + dice.choice([b"", b"\n", b"\n\n"]),
                "framed": b"ojai-read 0 0 :eA==:\r\nojai-read 1 0 :!:\n",
            }[kind]
            (folder / f"{number}.{stream}").write_bytes(data)
        found.append(
            f"cat {folder}/{number}.err >&2; cat {folder}/{number}.out; exit {dice.choice([0, 0, 0, 1, 124, 7])}"
        )
    return found


def test_any_answer_is_the_one_that_pyinfra_gets(box, tmp_path):
    (tmp_path / "data").mkdir()
    asked = random_outputs(random.Random(14), tmp_path / "data")
    asked += [
        "printf 'no end'",
        "printf '\\n\\n a \\r\\n'",
        "head -c 3000000 /dev/zero | tr '\\0' y",
        "read line; echo $?",
        "echo $0 $# $LC_ALL",
        "umask; pwd; id -un",
        "exec 3>&1; echo three >&3",
        "(sleep 0.1; echo late) & echo early; wait",
    ]
    box.host("stock", connector="ssh")
    box.ask(*asked, *((each, {"_ignore_errors": True}) for each in asked))
    for data in box.hosts.values():
        data["_ignore_errors"] = True
    box.run()
    first = box.answers("stock")
    assert box.answers() == first and any(first)
    box.count()
    box.run()
    assert box.answers() == box.answers("stock") == first
    assert box.count() <= len(asked) * 2 + 1 + sum(each.endswith("124") for each in asked)


def test_one_that_hangs_or_is_slow_holds_nobody_up_and_is_asked_by_itself(box):
    box.ask("echo one", "sleep 2; echo slow", "echo two")
    box.run()
    box.count()
    started = time.monotonic()
    box.run()
    assert box.answers() == ["one", "slow", "two"]
    assert box.count() == 2 and time.monotonic() - started < 30


def test_a_connection_that_ends_in_the_middle_fails_the_host_and_loses_nothing(box):
    place = box.host("mini")
    (box.sshd.home / "bin/hangup").write_text("""#!/bin/sh
p=$$
until case $(cat /proc/$p/comm) in sshd*) true ;; *) false ;; esac; do p=$(awk '{print $4}' /proc/$p/stat); done
kill -9 "$p"
sleep 5
""")
    (box.sshd.home / "bin/hangup").chmod(0o755)
    box.ask("echo one", f"test ! -e '{place}/fatal' || hangup; echo fine", "echo two")
    box.run()
    kept = box.lists[0].read_text()
    (place / "fatal").touch()
    box.run()
    assert box.status == 1 and "Traceback" not in box.said
    (place / "fatal").unlink()
    box.count()
    box.run()
    assert (box.status, box.answers(), box.lists[0].read_text()) == (0, ["one", "fine", "two"], kept)
    assert box.count() == 1


def test_with_a_password_for_sudo(box):
    """As on Ubuntu's default account: pyinfra's own askpass gives it, and it is in no list and no command."""
    (box.sshd.home / "bin/sudo").write_text("""#!/bin/sh
[ "$("$SUDO_ASKPASS")" = "se cret" ] || { echo "sudo: no password was provided" >&2; exit 1; }
while :; do case $1 in -u) shift 2 ;; -*) shift ;; *) break ;; esac; done
echo as root >>"$HOME/sudo.log"
exec "$@"
""")
    box.hosts["mini"].update(_sudo=True, _sudo_password="se cret")
    box.changed()
    box.changed()
    box.count()
    (box.sshd.home / "sudo.log").unlink()
    assert box.changed() == set()
    assert box.count() <= 3  # the helper is uploaded and removed
    assert (box.sshd.home / "sudo.log").read_text() == "as root\n"
    assert all("cret" not in path.read_text() for path in box.lists)
    box.hosts["mini"]["_sudo_password"] = "wrong"
    box.run()
    assert box.status == 1


def test_users_and_shells_do_not_share_answers(box):
    box.ask(
        ("echo ${BASH_VERSION:+bash}", {"_shell_executable": "sh"}),
        ("echo ${BASH_VERSION:+bash}", {"_shell_executable": "bash"}),
        ("pwd", {"_chdir": "/tmp"}),
        ("pwd", {"_chdir": "/"}),
        ("echo $A", {"_env": {"A": "1"}}),
        ("echo $A", {"_env": {"A": "2"}}),
        ("cat", {"_stdin": "1"}),
        ("cat", {"_stdin": "2"}),
        ("exit 3", {"_success_exit_codes": [3]}),
    )
    for _ in range(3):
        box.run()
        assert box.answers()[1:] == ["bash", "/tmp", "/", "1", "2", "1", "2", None], box.said


@pytest.mark.parametrize(
    "bashrc",
    [
        "printf 'Gr\\374\\337 Gott\\nojai-read 0 0 :eA==:\\n'; echo no; echo x >&2\n",
        "export LC_ALL=de_DE.UTF-8; umask 077; alias cat='echo alias'\n",
        "mktemp() { echo /nowhere; }; export -f mktemp\n",
    ],
)
def test_a_login_that_prints_and_sets_things(tmp_path, bashrc):
    box = Box(tmp_path, bashrc=bashrc)
    try:
        box.changed()
        assert box.changed() == set() and box.changed() == set()
        box.count()
        assert box.changed() == set() and box.count() == 1
    finally:
        box.sshd.stop()


@pytest.mark.parametrize("missing", ["base64", "mktemp", "timeout"])
def test_a_host_without_the_tools_is_asked_one_by_one(tmp_path, missing):
    bin = tmp_path / "bin"
    bin.mkdir()
    for folder in ("/usr/bin", "/bin"):
        for tool in Path(folder).iterdir():
            if tool.name != missing and not (bin / tool.name).exists():
                (bin / tool.name).symlink_to(tool)
    box = Box(tmp_path, bashrc=f"PATH=$HOME/bin:{bin}\n")
    box.ask(*(f"echo {number}" for number in range(5)))
    try:
        for _ in range(2):
            box.run()
            assert (box.status, box.answers()) == (0, list("01234"))
        box.count()
        box.run()
        assert 5 <= box.count() <= 6
    finally:
        box.sshd.stop()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_text("{"),
        lambda path: path.write_text('{"reads": [[1, 2], ["x", ["y"]]]}'),
        lambda path: path.write_bytes(b"\xff\xfe"),
        lambda path: path.chmod(0o620),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.rename(path.with_suffix(".x")), path.symlink_to(path.with_suffix(".x"))),
    ],
)
def test_a_list_that_cannot_be_read_or_trusted_is_left(box, damage):
    box.changed()
    box.changed()
    (path,) = box.lists
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    damage(path)
    box.count()
    assert box.changed() == set() and box.count() > 10
    if path.is_dir():
        path.rmdir()


def test_a_list_that_others_can_write_runs_nothing(box, tmp_path):
    box.changed()
    (path,) = box.lists
    reads = json.loads(path.read_text())["reads"]
    path.write_text(json.dumps({"reads": [*reads, [f"touch '{tmp_path}/attacked'", reads[0][1]]]}))
    path.chmod(0o666)
    box.changed()
    assert not (tmp_path / "attacked").exists()


def test_a_changed_deploy_has_a_stale_list(box):
    box.changed()
    box.changed()
    box.deploy(DEPLOY.replace("text {number}", "other {number}").replace("range(8)", "range(4, 12)"))
    assert box.changed() == {f"Write {number}" for number in range(4, 12)}
    assert box.changed() == set()
    box.count()
    assert box.changed() == set() and box.count() == 1
    (path,) = box.lists
    assert "file 0" not in path.read_text()


def test_two_runs_at_once(box):
    box.changed()
    box.changed()
    both = [box.start("-y") for _ in range(2)]
    assert [run.communicate(timeout=60) and run.returncode for run in both] == [0, 0]
    box.count()
    assert box.changed() == set() and box.count() == 1
    assert len(box.lists) == 1


def test_a_secret_is_in_no_list(box):
    box.deploy("""
from pyinfra import host
from pyinfra.api import HiddenValue, StringCommand, FactBase
from ojai.connection import configure_connection

class Hidden(FactBase):
    def command(self):
        return StringCommand("echo", HiddenValue("se-cret"))

configure_connection(host)
assert host.get_fact(Hidden) == "se-cret"
""")
    for _ in range(2):
        box.run()
        assert box.status == 0
    assert all("cret" not in path.read_text() for path in box.lists)


CHECKS = """
import pytest

@pytest.mark.parametrize("number", range(9))
def test_a_number(mini, number):
    done = mini.run(f"echo {number}; echo b >&2; exit {number}")
    assert (done.rc, done.stdout, done.stderr) == (number, f"{number}\\n", "b\\n")

def test_waiting(mini):
    path = mini.entry.data["_place"] + "/log"
    found = [mini.text(f"echo x >>'{path}'; wc -l <'{path}'") for _ in range(3)]
    assert found == ["1", "2", "3"]
"""


def test_the_checks_ask_ahead_too_and_who_waits_asks_again(box):
    checks = box.folder / "checks"
    checks.mkdir()
    (checks / "test_host.py").write_text(CHECKS)
    place = box.host("mini") / "log"

    def check(*words: str) -> int:
        place.unlink(missing_ok=True)
        box.count()
        (box.folder / "hosts.py").write_text(f"hosts = {list(box.hosts.items())!r}\n")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "ojai.checks", "-q", checks, "--inventory=hosts.py", *words],
            cwd=box.folder, env={**os.environ, "XDG_CACHE_HOME": str(box.cache)}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return box.count()

    assert check() == 13  # the first asks whether it is root
    assert [check(), check()] == [4, 4]  # and twice the log is looked at again
    assert check("--disruptive") == 13
    (path,) = box.lists
    path.chmod(0o644)
    assert check() == 13
    place.unlink()
    box.host("mini", connector="ssh")
    assert check() == 13


def drift(dice: random.Random, places: list[Path]) -> None:
    """The same damage to each."""
    what = dice.choice(["text", "gone", "mode", "folder", "link", "old", "all", "mode of a folder", "none", "more"])
    number = dice.randrange(8)
    for place in places:
        path = place / f"file {number}"
        match what:
            case "text":
                path.write_text(f"{number}\n")
            case "gone":
                path.unlink(missing_ok=True)
            case "mode" if path.exists():
                path.chmod(0o600)
            case "folder":
                shutil.rmtree(place / "a b", ignore_errors=True)
            case "link":
                path.unlink(missing_ok=True)
                path.symlink_to("file 0" if number else "file 1")
            case "old":
                (place / "old").write_text("x")
            case "all":
                for each in place.iterdir():
                    shutil.rmtree(each) if each.is_dir() else each.unlink()
            case "mode of a folder" if (place / "a b").is_dir():
                (place / "a b").chmod(0o700)
            case "more" if (place / "a b").is_dir():
                (place / "a b" / "more").touch()


def tree(place: Path) -> dict[str, tuple[int, str]]:
    """Path -> mode and content."""
    return {
        str(path.relative_to(place)): (path.lstat().st_mode, path.read_text() if path.is_file() else "")
        for path in sorted(place.rglob("*"))
    }


def same_as_without(box: Box, runs: int) -> None:
    dice = random.Random(runs)
    places = [box.host("mini"), box.host("stock", connector="ssh")]
    box.run()
    for _ in range(runs):
        for _ in range(dice.randint(1, 3)):
            drift(dice, places)
        found = box.run()
        assert box.status in (0, 1)
        assert {name: counts for name, counts in found.items() if not set(counts) <= {0, 2}} == {}, box.said
        assert tree(places[0]) == tree(places[1])


def test_the_same_operations_change_as_without_it(box):
    same_as_without(box, 6)


@pytest.mark.whole
def test_the_same_operations_change_as_without_it_in_200_drifts(box):
    same_as_without(box, 200)


def test_what_may_write_is_run_in_order_and_facts_several_at_a_time(tmp_path):
    """A check of `ojai verify` touches a file by one command, and looks for it by the next."""

    def statuses(*commands: str, **words: int) -> dict[int, int]:
        done = subprocess.run(["sh"], input=reads.script(commands, "sh", **words), stdout=subprocess.PIPE, text=True)
        return {number: status for number, status, _, _ in reads.framed(done.stdout.splitlines())}

    file = shlex.quote(str(tmp_path / "there"))
    assert statuses(f"sleep 0.3; touch {file}", f"rm {file}") == {0: 0, 1: 0}
    if (os.cpu_count() or 1) > 1:
        waits = f"i=0; while [ ! -e {file} ]; do i=$((i + 1)); [ $i -lt 300 ] || exit 1; sleep 0.1; done"
        assert statuses(waits, f"touch {file}", abreast=reads.ABREAST) == {0: 0, 1: 0}
