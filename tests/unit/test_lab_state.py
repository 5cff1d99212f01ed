"""The lab's state on disk: sizes, round trip, and what others see of it."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ojai.lab import state
from ojai.lab.errors import LabDownError, LabError


@pytest.fixture
def lab_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("OJAI_LAB_DIR", str(tmp_path / "lab"))
    return tmp_path / "lab"


def record(name="lab", **changes):
    values = {"name": name, "port": 2222, "uuid": "u", "image": Path("/nowhere/base")}
    return state.HostRecord(**{**values, **changes})


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64GiB", 64 << 30),
        ("64 GiB", 64 << 30),
        ("16G", 16 << 30),
        ("16gb", 16 << 30),
        ("512MiB", 512 << 20),
        ("0.5GiB", 512 << 20),
        ("1T", 1 << 40),
        ("68719476736", 68719476736),
        ("4096B", 4096),
    ],
)
def test_size_is_read(text, size):
    assert state.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "lots", "-1G", "16 Gibi", "1.5", "0.3K", "G", "16GiBB"])
def test_bad_size_is_refused_and_quoted(text):
    with pytest.raises(LabError, match="size"):
        state.parse_size(text)


@given(st.integers(min_value=0, max_value=1 << 50))
def test_shown_size_is_read_back(size):
    assert state.parse_size(state.show_size(size)) == size


def test_nothing_on_disk_is_empty_records_and_a_lab_that_is_down(lab_dir):
    assert state.read() == state.Records()
    with pytest.raises(LabDownError, match="ojai lab up"):
        state.load()


def test_records_survive_the_disk(lab_dir):
    records = state.Records(
        hosts={"lab": record(process=state.Process(pid=1, started=2)), "b": record("b", carveout_bytes=16 << 30)},
        rocm=state.ServiceRecord(port=81),
        registry=state.ServiceRecord(port=82),
        rocm_fingerprint="A" * 40,
        images={"v0.20.1": "sha256:00"},
    )
    state.write(records)
    assert state.read() == records


def test_unreadable_state_says_what_to_do(lab_dir):
    lab_dir.mkdir()
    (lab_dir / "state.json").write_text('{"hosts": {"lab": {"name": "lab"}}}')
    with pytest.raises(LabError, match="ojai lab up"):
        state.read()


def test_running_lab_is_seen_with_addresses_of_both_sides(lab_dir):
    me = state.Process.of(os.getpid())
    state.write(
        state.Records(
            hosts={"lab": record(process=me), "off": record("off", port=3333)},
            rocm=state.ServiceRecord(port=81, process=me),
            registry=state.ServiceRecord(port=82, process=me),
            hub=state.ServiceRecord(port=83, process=me),
            rocm_fingerprint="A" * 40,
        )
    )
    lab = state.load()
    assert [(host.name, host.running) for host in lab.hosts] == [("lab", True), ("off", False)]
    assert lab.host("lab").user == "ojai"
    assert lab.upstreams.rocm_url == "http://10.0.2.2:81"
    assert lab.upstreams.registry_mirror == "http://10.0.2.2:82"
    assert lab.upstreams.registry_local == "127.0.0.1:82"
    assert (lab.upstreams.hub_url, lab.upstreams.hub_local) == ("http://10.0.2.2:83", "http://127.0.0.1:83")
    with pytest.raises(LabError, match="lab, off"):
        lab.host("other")


def test_a_pid_used_again_is_not_the_lab_process(lab_dir):
    me = state.Process.of(os.getpid())
    assert me.alive
    assert not me.model_copy(update={"started": me.started - 1}).alive


def test_stop_ends_a_process_that_ignores_the_polite_signal():
    program = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        process = state.Process.of(child.pid)
        process.stop(timeout_seconds=0.3)
        assert not process.alive
        assert child.wait() == -signal.SIGKILL


def test_stop_leaves_a_later_process_with_the_same_pid_alone():
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as child:
        process = state.Process.of(child.pid)
        process.model_copy(update={"started": process.started + 1}).stop()
        assert child.poll() is None
        child.kill()


def test_sockets_go_where_their_paths_are_short_enough(monkeypatch, tmp_path):
    monkeypatch.setattr(state, "SHORT", tmp_path)
    monkeypatch.setenv("OJAI_LAB_DIR", str(tmp_path / ("deep" * 20)))
    assert state.runtime_folder().parent == tmp_path
    assert state.runtime_folder().stat().st_mode & 0o077 == 0
    with tempfile.TemporaryDirectory(prefix="o", dir="/tmp") as short:
        monkeypatch.setenv("OJAI_LAB_DIR", short)
        assert state.runtime_folder() == Path(short).resolve() / "run"
