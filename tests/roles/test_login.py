"""No greeting, locale, umask or shell of a login changes an answer, and one host's trouble is that host's."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import sshd
from pyinfra.api import StringCommand

from ojai.connection.answers import MARK, marked, prelude

ROOT = Path(__file__).resolve().parents[2]

#: Everything that a startup file may print, in an old encoding, on both streams, without an end of line.
GREETING = "printf 'Gr\\374\\337 Gott, 0 updates\\n\\nWelcome to mini: '; echo 'have fun' >&2; printf x >&2\n"

DEPLOY = """
from pathlib import Path
from pyinfra import host, logger
from pyinfra.operations import server
from ojai.connection import configure_connection
from ojai.facts.groups import Groups
from ojai.operations import files

configure_connection(host)
assert host.get_fact(Groups, names=("root",))["root"].gid == 0
files.text_file(name="Write", path=host.data._place, text="written\\n", user=host.data._uid, group=host.data._gid)
server.shell(name="Say", commands=[f"echo $LC_ALL $(umask) >>{host.data._place}; touch {host.data._place}.touched"])
"""


def pyinfra(cwd, *words, **env):
    """pyinfra without a terminal: exit status, standard output, standard error, the recap by host."""
    done = subprocess.run(
        [sys.executable, "-m", "pyinfra", *map(str, words)],
        cwd=cwd, env={**os.environ, **env}, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        start_new_session=True, timeout=120,
    )  # fmt: skip
    assert "Traceback" not in done.stderr and "internal exception" not in done.stderr, done.stderr
    _, _, recap = done.stderr.partition("--> Recap:\n")
    lines = [re.split(r"\s\s+", line.strip(), maxsplit=2) for line in recap.splitlines()]
    return done.returncode, done.stdout, done.stderr, {line[0]: tuple(line[1:]) for line in lines}


@pytest.fixture
def start(tmp_path):
    """``start(name, bashrc=…)``: an sshd of its own."""
    running = []

    def one(name, **words):
        (tmp_path / name).mkdir()
        running.append(sshd.Sshd(tmp_path / name, **words))
        return running[-1]

    yield one
    for daemon in running:
        daemon.stop()


@pytest.fixture
def repository(tmp_path):
    """A user's own: ``repository(hosts, deploy)`` writes an inventory of them; config.py is that of `ojai init`."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "config.py").write_text((ROOT / "examples/repository/config.py").read_text().replace("= True", "= False"))

    def write(hosts, deploy):
        (folder / "fleet.py").write_text(f"from ojai.fake import fake_host\nhosts = [{', '.join(hosts)}]\n")
        (folder / "deploy.py").write_text(deploy)
        return folder

    return write


def of(daemon, name, place):
    stat = place.parent.stat()
    more = {"_place": str(place), "_uid": str(stat.st_uid), "_gid": str(stat.st_gid)}
    return repr((name, {**daemon.data, **more}))


def test_what_comes_before_the_mark_is_dropped():
    assert list(marked(["Welcome\n", "\n", f"{MARK}\n", "a\n", f"{MARK}\r\n", "b\n"])) == ["a\n", "b\n"]
    assert list(marked([f"{MARK}\n", "a\n", f"{MARK}\n"])) == ["a\n", f"{MARK}\n"]
    assert list(marked(["sudo: a password is required\n"])) == ["sudo: a password is required\n"]


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("command", ["echo a", "\n# a comment\necho a", "! false; echo a", "{ echo a; }", ": & echo a"])
def test_a_command_behind_the_prelude_is_the_same_command(shell, command):
    before = {**os.environ, "DOCKER_HOST": "x", "LC_ALL": "de_DE.UTF-8"}
    line = StringCommand(prelude(["LANGUAGE"]), f"{command}; echo $LC_ALL $DOCKER_HOST $LANGUAGE $(umask)")
    done = subprocess.run(
        [shell, "-c", line.get_raw_value()],
        env={**before, "LANGUAGE": "de"},
        umask=0o77,
        text=True,
        capture_output=True,
    )  # fmt: skip
    assert list(marked(done.stdout.splitlines())) == ["a", "C.UTF-8 de 0022"]
    assert list(marked(done.stderr.splitlines())) == []


@sshd.needed
@pytest.mark.parametrize("greets", [GREETING, f"{GREETING}umask 077; export LC_ALL=nowhere LANGUAGE=de CDPATH=/\n"])
def test_in_a_fleet_of_two_a_greeting_changes_nothing_for_either(start, repository, tmp_path, greets):
    """Facts, a file that is uploaded (a greeting breaks SFTP), and a command; then a run that finds nothing to do."""
    places = {name: tmp_path / name / "file" for name in ("greets", "plain")}
    daemons = {"greets": start("greets", bashrc=greets), "plain": start("plain")}
    folder = repository([of(daemons[name], name, place) for name, place in places.items()], DEPLOY)
    status, _, said, recap = pyinfra(folder, "-y", "fleet.py", "deploy.py")
    assert status == 0, said
    assert set(recap) == {"greets", "plain"} and {words[0] for words in recap.values()} == {"ok"}
    for place in places.values():
        assert place.read_text() == "written\nC.UTF-8 0022\n"
        assert (place.parent / "file.touched").stat().st_mode & 0o777 == 0o644
    assert "Welcome" not in said


@sshd.needed
def test_the_deploys_own_preflight_reads_through_a_greeting(start, repository):
    """The report of this machine, which is no box of the guides, by sudo; the other host is served."""
    daemon = start("greets", bashrc=GREETING)
    folder = repository([repr(("greets", daemon.data)), "fake_host('good', {})"], (ROOT / "deploy.py").read_text())
    status, _, said, recap = pyinfra(folder, "--dry", "fleet.py", "deploy.py")
    assert status == 1 and recap["@fake/good"][0] == "ok", said
    assert recap["greets"][0] == "REFUSED" and "GPU: found" in recap["greets"][1]
    assert "login" not in recap["greets"][1] and "Welcome" not in said


@sshd.needed
@pytest.mark.parametrize("removed", [False, True])
def test_a_login_that_runs_no_command_is_refused_alone(start, repository, removed):
    daemon = start("silent", bashrc="exit 0\n")
    hosts = [repr(("silent", {**daemon.data, "removed": removed})), "fake_host('good', {})"]
    status, _, said, recap = pyinfra(
        repository(hosts, (ROOT / "deploy.py").read_text()), "--dry", "fleet.py", "deploy.py"
    )
    assert status == 1 and recap["@fake/good"][0] == "ok", said
    assert recap["silent"] == ("REFUSED", "login: found no answer; expected the host's report.")
    assert "~/.bashrc" in said


@sshd.needed
def test_a_new_home_gets_its_folder_for_host_keys(start, repository, tmp_path):
    daemon = start("plain")
    del daemon.data["ssh_known_hosts_file"]
    home = tmp_path / "new"
    home.mkdir()
    folder = repository([of(daemon, "plain", tmp_path / "file")], DEPLOY)
    for _ in range(2):
        status, _, said, recap = pyinfra(folder, "-y", "fleet.py", "deploy.py", HOME=str(home))
        assert (status, recap["plain"][0]) == (0, "ok"), said
        assert "No such file" not in said
    assert (home / ".ssh").stat().st_mode & 0o777 == 0o700
    assert (home / ".ssh" / "known_hosts").read_text().count("ssh-ed25519") == 1


@sshd.needed
def test_a_host_key_that_cannot_be_noted_is_one_hosts_failure(start, repository, tmp_path):
    daemon = start("plain")
    (tmp_path / "file").write_text("")
    daemon.data["ssh_known_hosts_file"] = str(tmp_path / "file" / "known_hosts")
    hosts = [repr(("plain", daemon.data)), "fake_host('good', {})"]
    folder = repository(hosts, (ROOT / "deploy.py").read_text())
    status, _, _, recap = pyinfra(folder, "--dry", "fleet.py", "deploy.py")
    assert status == 1 and recap["@fake/good"][0] == "ok"
    assert recap["plain"][0] == "UNREACHABLE" and "ssh_known_hosts_file" in recap["plain"][1]


LOOKING = """
from pyinfra import host
from ojai.operations import files
from ojai.facts.groups import Groups

files.absent(name="Before", paths=["/nowhere"])
if host.name == "@fake/odd":
    {fault}
files.absent(name="After", paths=["/nowhere"])
"""


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("host.get_fact(Groups, names=('a',))", "found ValueError: not enough values to unpack"),
        ("{}['x']", "found KeyError: 'x'"),
        ("from pyinfra.api.exceptions import OperationError; raise OperationError('no such thing')", "no such thing"),
        ("import nowhere_at_all", "found ModuleNotFoundError: No module named 'nowhere_at_all'"),
    ],
)
@pytest.mark.parametrize("option", ["--dry", "-y"])
def test_what_is_raised_while_one_host_is_looked_at_is_that_hosts(repository, fault, told, option):
    odd = "(lambda h: (h[0], {**h[1], 'fake_responses': {'getent group': ['Welcome to mini']}}))(fake_host('odd', {}))"
    folder = repository([odd, "fake_host('good', {})"], LOOKING.format(fault=fault))
    status, _, said, recap = pyinfra(folder, option, "fleet.py", "deploy.py")
    assert status == 1
    assert recap["@fake/odd"][0] == "REFUSED" and told in recap["@fake/odd"][1]
    assert recap["@fake/good"][0] == "ok", said
    alone = pyinfra(folder, option, "fleet.py", "deploy.py", "--limit", "@fake/odd")
    assert alone[0] == 1 and told in alone[2]
    if "found" in told:
        assert "What to do" in alone[2] and re.search(r"\.py:\d+\)", alone[2])


CHANGING = """
from pyinfra import host
from pyinfra.api import operation
from ojai.operations import files

@operation()
def odd():
    yield "true"
    if host.name == "@fake/odd" and host.state.is_executing:
        {fault}

odd(name="Change")
files.absent(name="After", paths=["/nowhere"])
"""


@pytest.mark.parametrize("fault", ["int('-')", "raise __import__('pyinfra').api.exceptions.PyinfraError(\"int('-')\")"])
def test_what_is_raised_while_one_host_is_changed_is_that_hosts(repository, fault):
    folder = repository(["fake_host('odd', {})", "fake_host('good', {})"], CHANGING.format(fault=fault))
    status, _, said, recap = pyinfra(folder, "-y", "fleet.py", "deploy.py")
    assert status == 1
    assert recap["@fake/odd"][0] == "FAILED" and "Change: " in recap["@fake/odd"][1] and "'-'" in recap["@fake/odd"][1]
    assert recap["@fake/good"] == ("ok", "1 of 2 operations changed something"), said


def test_a_fact_of_ours_is_printed_as_json(repository):
    folder = repository([], "")
    found = pyinfra(folder, "--json", "@local", "fact", "ojai.facts.groups.Groups", 'names=["root"]')
    assert found[0] == 0, found[2]
    (answers,) = json.loads(found[1]).values()
    assert answers == {"@local": {"root": {"gid": 0, "members": []}}}
    report = pyinfra(folder, "@local", "fact", "ojai.facts.report.HostReport")
    assert report[0] == 0 and "Cannot serialize" not in report[2] and '"os_id":' in report[1] + report[2]


@sshd.needed
def test_the_checks_read_through_a_greeting(start, tmp_path, monkeypatch):
    """`ojai verify` reaches a host by ssh, not by pyinfra; it asks by sudo, which here asks for nothing."""
    monkeypatch.setenv("HOME", str(tmp_path))
    own = tmp_path / "checks"
    own.mkdir()
    (own / "test_mine.py").write_text(
        "def test_x(mini):\n    assert mini.text('echo $LC_ALL; umask') == 'C.UTF-8\\n0022'\n"
        "    assert mini.run('echo no >&2').stderr == 'no\\n'\n"
    )
    daemon = start("greets", bashrc=f"{GREETING}umask 077\n")
    inventory = tmp_path / "one.py"
    inventory.write_text(f"one = [{('greets', daemon.data)!r}]\n")
    done = subprocess.run(
        [sys.executable, "-m", "ojai", "verify", str(inventory), "--only", "mine", "--checks", str(own)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "greets: ok 1 passed" in done.stdout, done.stdout + done.stderr
