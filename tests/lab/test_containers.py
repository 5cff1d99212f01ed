"""Containers of the lab, booted: replaced, found again, cleared away. And verify looks at many hosts at once."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from ojai.lab.state import Process
from tests.lab.machine import ROOT, Lab

LAB = Lab(ROOT / ".lab-containers")

INVENTORY = """
from runpy import run_path

_running = run_path({molecule!r})["molecule"]
# Nobody listens on port 1.
hosts = [_running[0], ("gone", {{**_running[0][1], "ssh_port": 1, "ssh_strict_host_key_checking": "no"}}), _running[1]]
"""

#: Its host hangs up before it is asked something, while nobody reads what comes: as when the power fails between steps.
CUT = """
import subprocess
import sys

from pyinfra import host
from pyinfra.api import operation
from pyinfra.facts.server import Hostname
from pyinfra.operations import server

from ojai.connection import configure_connection

configure_connection(host)


@operation()
def asked():
    if host.state.is_executing and host.name == "one":
        hang_up = "sudo pkill -KILL -f '^sshd(-session)?: ojai'"
        subprocess.run([sys.executable, "-m", "ojai", "lab", "ssh", "one", "--", hang_up], capture_output=True)
    yield f"echo {host.get_fact(Hostname)} answers"


asked(name="Cut off")
server.shell(name="Go on", commands=["touch /run/went-on"])
"""


def ours() -> list[str]:
    """Command lines of this machine's processes that name the lab's folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(LAB.folder) in line and int(place.name) != os.getpid():
            found.append(line)
    return found


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[str, str]]:
    """Two containers that nobody has deployed to."""
    LAB.ojai("lab", "down", "--destroy")
    up = LAB.ojai("lab", "container", "one", "two")
    assert up.returncode == 0, up.stderr
    yield "one", "two"
    down = LAB.ojai("lab", "down", "--destroy")
    assert down.returncode == 0, down.stderr
    assert ours() == []


def test_both_are_whole_systems_on_their_own(pair):
    for name in pair:
        done = LAB.ojai("lab", "ssh", name, "--", "hostname; systemctl is-system-running; . /etc/os-release; echo $ID")
        assert done.stdout.split() == [name, "running", "ubuntu"], done.stderr


def test_they_see_the_stand_ins_as_the_virtual_machine_does(pair):
    port = json.loads((LAB.folder / "state.json").read_text())["rocm"]["port"]
    done = LAB.ojai("lab", "ssh", "one", "--", f"curl -sf http://10.0.2.2:{port}/rocm/rocm.gpg.key | head -n 1")
    assert done.stdout.startswith("-----BEGIN PGP PUBLIC KEY BLOCK-----"), done.stderr


def test_they_cannot_set_this_machines_kernel_parameters(pair):
    before = Path("/proc/sys/vm/overcommit_memory").read_text()
    other = "1" if before.strip() != "1" else "0"
    done = LAB.ojai("lab", "ssh", "one", "--", f"sudo sysctl -w vm.overcommit_memory={other}")
    assert done.returncode != 0
    assert Path("/proc/sys/vm/overcommit_memory").read_text() == before


def test_verify_looks_at_all_hosts_at_once_and_one_that_is_gone_hides_none(pair, tmp_path):
    inventory, junit = tmp_path / "three.py", tmp_path / "junit.xml"
    inventory.write_text(INVENTORY.format(molecule=str(ROOT / "molecule" / "default" / "inventory.py")))
    done = LAB.ojai("verify", str(inventory), "--json", "--junit", str(junit))
    assert done.returncode == 1, done.stderr
    verdicts = {host["host"]: host for host in json.loads(done.stdout)["hosts"]}
    assert list(verdicts) == ["one", "gone", "two"]
    outcomes = {name: [check["outcome"] for check in verdict["checks"]] for name, verdict in verdicts.items()}
    assert (verdicts["gone"]["ok"], verdicts["gone"]["state"], outcomes["gone"]) == (False, "unreachable", [])
    assert "Connection refused" in verdicts["gone"]["error"] and "ssh_port (1)" in verdicts["gone"]["error"]
    # Nothing was deployed to the others, so much fails there; but each was looked at, to the end, for drift too.
    for name in pair:
        assert "passed" in outcomes[name] and "failed" in outcomes[name]
        assert len(outcomes[name]) > 35
        (drift,) = [check for check in verdicts[name]["checks"] if check["area"] == "drift"]
        assert "preflight: " in drift["message"]
    suites = {suite.get("name"): suite for suite in ElementTree.parse(junit).iter("testsuite")}
    assert list(suites) == ["one", "gone", "two"]
    assert len(suites["gone"].findall("testcase")) == len(suites["gone"].findall("testcase/error")) == 1
    spans = []
    for name in pair:
        assert len(suites[name].findall("testcase")) == int(suites[name].get("tests")) == len(outcomes[name])
        began = datetime.fromisoformat(suites[name].get("timestamp"))
        spans.append((began, began + timedelta(seconds=float(suites[name].get("time")))))
    first, second = spans
    assert max(first[0], second[0]) < min(first[1], second[1]), f"one after the other: {first}, {second}"


#: The first container as another account, or with a known_hosts of its own.
CHANGED = """
from runpy import run_path

_name, _data = run_path({molecule!r})["molecule"][0]
hosts = [(_name, {{**_data, **{data!r}}})]
"""


def changed(tmp_path: Path, **data: object) -> Path:
    inventory = tmp_path / "changed.py"
    molecule = str(ROOT / "molecule" / "default" / "inventory.py")
    inventory.write_text(CHANGED.format(molecule=molecule, data=data))
    return inventory


def run_facts(inventory: Path) -> subprocess.CompletedProcess[str]:
    """pyinfra's own connection to the host."""
    return LAB.run(sys.executable, "-m", "pyinfra", str(inventory), "fact", "server.Hostname")


def test_deploy_and_verify_take_a_host_of_unknown_key_and_refuse_one_whose_key_changed(pair, tmp_path):
    known = tmp_path / "known_hosts"
    known.touch()
    inventory = changed(tmp_path, ssh_known_hosts_file=str(known), ssh_strict_host_key_checking="accept-new")
    only = ["--only", "apt", "--json"]
    for connect in (lambda: LAB.ojai("verify", str(inventory), *only), lambda: run_facts(inventory)):
        known.write_text("")
        done = connect()
        assert "unreachable" not in done.stdout and "Could not" not in done.stderr, done.stdout + done.stderr
        assert known.read_text().count("ssh-") + known.read_text().count("ecdsa-") > 0, "the key was not kept"
    kind, _ = known.read_text().split()[1:3]
    key = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    host = known.read_text().split()[0]
    known.write_text(f"{host} {' '.join(key.with_suffix('.pub').read_text().split()[:2])}\n")
    done = LAB.ojai("verify", str(inventory), *only)
    (verdict,) = json.loads(done.stdout)["hosts"]
    assert (verdict["state"], verdict["checks"]) == ("unreachable", []) and "key" in verdict["error"], kind
    assert run_facts(inventory).returncode == 1


def test_verify_becomes_root_with_a_password_that_nobody_else_sees(pair, tmp_path):
    """On the host: sudo's own rules for the account. Here and there, all command lines are read meanwhile."""
    password = "S3cret-of-the-tests"
    script = (
        "useradd -m -s /bin/bash asked && install -d -o asked -m 700 ~asked/.ssh && "
        "install -o asked -m 600 ~ojai/.ssh/authorized_keys ~asked/.ssh/ && "
        f"echo asked:{password} | chpasswd && echo 'asked ALL=(ALL) ALL' > /etc/sudoers.d/asked"
    )
    made = LAB.ojai("lab", "ssh", "one", "--", f"sudo sh -c {shlex.quote(script)}")
    assert made.returncode == 0, made.stderr
    inventory = changed(tmp_path, ssh_user="asked")
    argv = [sys.executable, "-m", "ojai", "verify", str(inventory), "--only", "apt", "--only", "docker"]
    without = LAB.run(*argv)
    assert without.returncode == 1 and len(without.stdout.splitlines()) == 1
    assert "cannot be read as root: sudo: a password is required" in without.stdout
    assert "--use-sudo-password" in without.stdout
    seen: list[str] = []
    with subprocess.Popen(
        [*argv, "--use-sudo-password", "--json"],
        cwd=ROOT, env=LAB.environment(), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as verify:  # fmt: skip
        verify.stdin.write(f"{password}\n")
        verify.stdin.close()
        while verify.poll() is None:
            for place in Path("/proc").glob("[0-9]*/cmdline"):  # the container's processes are among this machine's
                with suppress(OSError):
                    seen.append(place.read_text(errors="replace"))
        output = verify.stdout.read() + verify.stderr.read()
    (verdict,) = json.loads(output)["hosts"]
    assert sum(check["outcome"] == "passed" for check in verdict["checks"]) >= 2, output
    assert any("sudo\0-k\0-S" in line for line in seen), "nothing was seen of sudo itself"
    assert not any(password in line for line in seen) and password not in output
    wrong = subprocess.run(
        [*argv, "--use-sudo-password"],
        cwd=ROOT, env=LAB.environment(), input="wrong\n", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert wrong.returncode == 1 and len(wrong.stdout.splitlines()) == 1 and "cannot be read as root" in wrong.stdout


@pytest.mark.parametrize("others", [True, False])
def test_a_connection_closed_between_two_questions_fails_its_host_alone(pair, tmp_path, others):
    inventory, deploy = tmp_path / "pair.py", tmp_path / "cut.py"
    molecule = str(ROOT / "molecule" / "default" / "inventory.py")
    inventory.write_text(f"from runpy import run_path\n\nhosts = run_path({molecule!r})['molecule']\n")
    deploy.write_text(CUT)
    limit = [] if others else ["--limit", "one"]
    done = LAB.run(sys.executable, "-m", "pyinfra", "-y", *limit, str(inventory), str(deploy))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for words in ("closed from the other side", "expected: the host to answer", "then run the deploy again"):
        assert words in done.stderr
    went_on = [name for name in pair if LAB.ojai("lab", "ssh", name, "--", "sudo rm /run/went-on").returncode == 0]
    assert went_on == (["two"] if others else [])


def test_monitoring_reads_one_line_that_names_the_host(pair, tmp_path):
    inventory = tmp_path / "three.py"
    inventory.write_text(INVENTORY.format(molecule=str(ROOT / "molecule" / "default" / "inventory.py")))
    done = LAB.ojai("verify", str(inventory), "--nagios", "--limit", "gone")
    assert done.returncode == 2
    assert len(done.stdout.splitlines()) == 1
    assert done.stdout.startswith("OJAI CRITICAL - 1 hosts") and done.stdout.rstrip().endswith("unreachable: gone")


def test_a_container_whose_supervisor_was_killed_is_replaced(pair):
    record = json.loads((LAB.folder / "state.json").read_text())["containers"]["one"]
    before = LAB.ojai("lab", "ssh", "one", "--", "systemctl show -p UserspaceTimestamp").stdout
    os.kill(record["process"]["pid"], signal.SIGKILL)
    up = LAB.ojai("lab", "container", "one")
    assert up.returncode == 0, up.stderr
    assert LAB.ojai("lab", "ssh", "one", "--", "systemctl show -p UserspaceTimestamp").stdout not in ("", before)


def test_one_that_no_record_knows_is_found_by_its_folder(pair):
    """What is left when `ojai lab container` itself is killed before it could write down what it had started."""
    file = LAB.folder / "state.json"
    records = json.loads(file.read_text())
    old = Process(**records["containers"]["two"]["process"])
    records["containers"]["two"] |= {"process": None, "network": None}
    file.write_text(json.dumps(records))
    up = LAB.ojai("lab", "container", "two")
    assert up.returncode == 0, up.stderr
    assert not old.alive
    # One nspawn and one slirp4netns for each of the two.
    assert len([line for line in ours() if "systemd-nspawn" in line.split()[0]]) == 2
    assert len([line for line in ours() if "slirp4netns" in line.split()[0]]) == 2


def test_one_can_be_taken_away_and_the_other_runs_on(pair):
    assert LAB.ojai("lab", "down", "two", "--destroy").returncode == 0
    assert not (LAB.folder / "hosts" / "two").exists()
    assert LAB.ojai("lab", "ssh", "one", "--", "systemctl is-system-running").stdout == "running\n"
    assert LAB.ojai("lab", "container", "two").returncode == 0
