"""Containers of the lab: command lines, names, what is found of a killed run. Booting one is in tests/lab."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from ojai.lab import container, packages, state, suites, vm
from ojai.lab.cli import command
from ojai.lab.errors import LabError
from ojai.lab.state import ContainerRecord, Process, Records
from ojai.lab.suites import SUITES


@pytest.fixture
def lab_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("OJAI_LAB_DIR", str(tmp_path / "lab"))
    return tmp_path / "lab"


def test_a_container_has_the_packages_of_the_machine_but_for_its_kernel_and_boot_loader():
    for suite in SUITES.values():
        include, preseed = container.contained(suite)
        assert set(include) < set(suite.packages) and set(preseed) < set(suite.preseed)
        assert not [name for name in (*include, *preseed) if name.startswith("linux-") or "grub" in name]
        assert "docker.io" in preseed


def test_it_needs_no_qemu(monkeypatch):
    monkeypatch.setattr(packages, "find", lambda program: None)
    monkeypatch.setattr(packages, "qemu_version", lambda: 0)
    expected = packages.missing(packages.CONTAINER_PROGRAMS)
    assert {"systemd-container", "slirp4netns", "mmdebstrap"} <= set(expected)
    assert not [name for name in expected if "qemu" in name]
    assert "qemu-system-x86" in packages.missing()


def test_two_labs_give_their_containers_different_names(lab_dir, tmp_path, monkeypatch):
    one = container._machine("molecule")
    monkeypatch.setenv("OJAI_LAB_DIR", str(tmp_path / "other"))
    assert container._machine("molecule") != one
    assert len(container._machine("x" * 31)) <= 63  # a host name's limit


def test_the_outer_machines_kernel_parameters_are_closed_to_it(lab_dir):
    argv = container.nspawn_argv("molecule")
    assert "SYSTEMD_NSPAWN_API_VFS_WRITABLE=network" in argv
    assert f"--directory={lab_dir / 'hosts' / 'molecule' / 'root'}" in argv


@pytest.mark.parametrize("systemd", [True, False])
def test_each_container_has_a_cgroup_of_its_own(lab_dir, monkeypatch, systemd):
    monkeypatch.setattr(container, "_systemd_runs", lambda: systemd)
    argv = container.nspawn_argv("molecule")
    assert ("--keep-unit" in argv) != systemd
    assert (argv[:3] == ["sh", "-c", container.OWN_CGROUP]) != systemd


def test_the_cgroup_program_moves_itself_there_and_then_runs_the_rest(tmp_path, monkeypatch):
    (tmp_path / "cgroup.procs").touch()
    program = container.OWN_CGROUP.replace(" ".join(container.CGROUP_TOPS), str(tmp_path))
    done = subprocess.run(["sh", "-c", program, "mine", "echo", "a b", "c"], capture_output=True, text=True, check=True)
    assert done.stdout == "a b c\n"
    assert int((tmp_path / "mine" / "cgroup.procs").read_text()) > 1


@pytest.fixture
def stray():
    """A process called slirp4netns with a word of ours among its arguments."""
    argv = ["/usr/bin/slirp4netns", "-c", "import time; time.sleep(60)", "--api-socket=/nowhere/a.slirp"]
    child = subprocess.Popen(argv, executable=sys.executable)
    container._wait(Path("/proc", str(child.pid), "cmdline").read_bytes, 10)  # the kernel fills it after the exec
    yield child
    child.kill()
    child.wait()


def test_what_a_killed_run_left_is_found_by_program_and_folder(stray):
    assert [one.pid for one in container._found("slirp4netns", "--api-socket=/nowhere/a.slirp")] == [stray.pid]
    assert container._found("slirp4netns", "--api-socket=/nowhere/a") == []
    assert container._found("systemd-nspawn", "--api-socket=/nowhere/a.slirp") == []


def test_what_is_found_is_ended_and_nothing_else(stray):
    other = subprocess.Popen(["sleep", "60"])
    try:
        (found,) = container._found("slirp4netns", "--api-socket=/nowhere/a.slirp")
        container._stop(found, 10)
        assert not found.alive
        assert Process.of(other.pid).alive
    finally:
        other.kill()
        other.wait()


def slirp(path: Path, answer: bytes, heard: list[bytes]) -> threading.Thread:
    """A socket that answers one request as slirp4netns does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def serve():
        line, _ = server.accept()
        heard.append(line.makefile("rb").read())
        line.sendall(answer)
        line.close()
        server.close()

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_a_port_is_forwarded_from_loopback_only(lab_dir):
    heard = []
    thread = slirp(container._socket("molecule"), b'{"return":{"id":1}}', heard)
    container.forward("molecule", 2222, 22)
    thread.join()
    assert json.loads(heard[0])["arguments"] == {
        "proto": "tcp",
        "host_addr": "127.0.0.1",
        "host_port": 2222,
        "guest_port": 22,
    }


def test_a_refused_forward_is_an_error_with_the_answer(lab_dir):
    thread = slirp(container._socket("molecule"), b'{"error":{"desc":"bad request: add_hostfwd: slirp"}}', [])
    with pytest.raises(LabError, match=r"port 2222 .*add_hostfwd"):
        container.forward("molecule", 2222, 22)
    thread.join()


def test_stopping_what_is_not_there_does_nothing(lab_dir):
    gone = container.stop(ContainerRecord(name="molecule", port=2222))
    assert (gone.process, gone.network) == (None, None)


def test_a_wait_ends_when_it_is_over_and_at_its_bound():
    assert container._wait(lambda: True, 0)
    began = time.monotonic()
    assert not container._wait(lambda: False, 0.2)
    assert 0.2 <= time.monotonic() - began < 5


def test_guests_are_machines_and_containers_and_a_lab_is_idle_when_none_runs(lab_dir):
    down = ContainerRecord(name="one", port=2222)
    assert Records(containers={"one": down}).idle
    up = down.model_copy(update={"process": Process.of(os.getpid())})
    records = Records(containers={"one": up})
    assert not records.idle and set(records.guests) == {"one"}
    state.write(records)
    assert state.read() == records


def test_a_container_and_a_machine_cannot_share_a_name(lab_dir, monkeypatch):
    monkeypatch.setattr(packages, "ensure", lambda *_, **__: None)
    monkeypatch.setattr(suites, "reachable", lambda: False)
    monkeypatch.setattr(vm, "make_key", lambda *_: None)
    monkeypatch.setattr("ojai.lab.upstreams.start", lambda records: records)
    host = state.HostRecord(name="lab", port=1, uuid="u", image=Path("/nowhere"))
    state.write(Records(hosts={"lab": host}, containers={"box": ContainerRecord(name="box", port=2)}))
    for words, what in ((["container", "lab"], "virtual machine"), (["up", "box"], "container")):
        done = CliRunner().invoke(command, words)
        assert done.exit_code == 1 and what in done.output


def test_the_ssh_configuration_leaves_out_a_container_that_was_never_finished(lab_dir):
    lab_dir.mkdir()
    vm.write_ssh_files(Records(containers={"half": ContainerRecord(name="half", port=2)}))
    assert "half" not in (lab_dir / "ssh_config").read_text()


@pytest.mark.parametrize(("had", "left"), [(128, 350), (8192, 8192)])
def test_the_limit_of_inotify_instances_is_raised_for_a_fleet_and_never_lowered(tmp_path, monkeypatch, had, left):
    limit = tmp_path / "max_user_instances"
    limit.write_text(f"{had}\n")
    monkeypatch.setattr(container, "INOTIFY_LIMIT", limit)
    monkeypatch.setattr(container, "as_root", lambda argv: argv)
    container._allow_inotify(25)
    assert int(limit.read_text()) == left
