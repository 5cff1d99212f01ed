"""Several containers on the lab's bridge: addresses of their own, one image, a line that can be long."""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ojai.lab import bridge
from tests.lab.cutting import using
from tests.lab.machine import ROOT, Lab

LAB = Lab(ROOT / ".lab-bridge")


def up(*words: str) -> None:
    done = LAB.ojai("lab", "container", "edge", "--hosts", "3", *words)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def fleet() -> Iterator[dict[str, str]]:
    """Three of them: name -> address."""
    LAB.ojai("lab", "down", "--destroy")
    up()
    records = json.loads((LAB.folder / "state.json").read_text())["containers"]
    yield {name: record["address"] for name, record in records.items()}
    down = LAB.ojai("lab", "down", "--destroy")
    assert down.returncode == 0, down.stderr
    with using(LAB):
        assert not Path("/sys/class/net", bridge.near()).exists()
    assert str(LAB.folder) not in Path("/proc/mounts").read_text()
    assert [path.name for path in LAB.folder.iterdir()] == ["lock"]


def connect_ms(address: str) -> float:
    """The median of five connects, which are a round trip each."""
    took = []
    for _ in range(5):
        began = time.monotonic()
        with socket.create_connection((address, 22), timeout=30):
            took.append((time.monotonic() - began) * 1000)
    return statistics.median(took)


def test_each_is_a_whole_system_with_an_address_of_its_own(fleet):
    assert len(set(fleet.values())) == 3
    for name, address in fleet.items():
        done = LAB.ojai("lab", "ssh", name, "--", "hostname; systemctl is-system-running; ip -4 -br address show lan0")
        assert done.stdout.split()[:2] == [name, "running"] and f"{address}/24" in done.stdout, done.stderr


def test_what_one_changes_the_others_do_not_see(fleet):
    assert LAB.ojai("lab", "ssh", "edge-1", "--", "sudo touch /etc/mine && sudo rm /etc/debian_version").returncode == 0
    for name, there in (("edge-1", "mine"), ("edge-2", "debian_version"), ("edge-3", "debian_version")):
        done = LAB.ojai("lab", "ssh", name, "--", "cd /etc; ls -d mine debian_version 2>/dev/null")
        assert done.stdout.split() == [there]


def test_they_reach_each_other_and_the_stand_ins(fleet):
    port = json.loads((LAB.folder / "state.json").read_text())["rocm"]["port"]
    banner = f"exec 3<>/dev/tcp/{fleet['edge-2']}/22 && head -c 4 <&3"
    done = LAB.ojai(
        "lab", "ssh", "edge-1", "--", f"curl -sfo /dev/null http://10.0.2.2:{port}/rocm/rocm.gpg.key && {banner}"
    )
    assert done.stdout == "SSH-", done.stderr


def test_the_line_gets_longer_and_shorter_while_they_run(fleet):
    boots = [LAB.ojai("lab", "ssh", name, "--", "systemctl show -p UserspaceTimestamp").stdout for name in fleet]
    short = connect_ms(fleet["edge-1"])
    up("--rtt", "80ms")
    assert "bridge: 80 ms added" in LAB.ojai("lab", "status").stdout
    assert 80 <= connect_ms(fleet["edge-1"]) < 80 + short + 60
    up()
    assert connect_ms(fleet["edge-1"]) < 40
    assert boots == [
        LAB.ojai("lab", "ssh", name, "--", "systemctl show -p UserspaceTimestamp").stdout for name in fleet
    ]


def test_a_line_whose_program_was_killed_is_made_anew(fleet):
    up("--rtt", "30ms")
    pid = json.loads((LAB.folder / "state.json").read_text())["line"]["process"]["pid"]
    subprocess.run(["kill", "-KILL", str(pid)], check=True)
    up("--rtt", "30ms")
    assert 30 <= connect_ms(fleet["edge-3"]) < 90


def test_what_a_host_has_changed_is_there_after_it_was_down(fleet):
    assert LAB.ojai("lab", "ssh", "edge-2", "--", "sudo touch /etc/kept; sync").returncode == 0
    assert LAB.ojai("lab", "down", "edge-2").returncode == 0
    up()
    assert LAB.ojai("lab", "ssh", "edge-2", "--", "test -e /etc/kept").returncode == 0
