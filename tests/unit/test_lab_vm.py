"""The lab's virtual machine: QEMU's command line, ssh files, credentials."""

import base64
import itertools
import json
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from ojai.lab import packages, state, vm
from ojai.lab.errors import LabError


@pytest.fixture
def lab_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("OJAI_LAB_DIR", str(tmp_path / "lab"))
    monkeypatch.setattr(state, "SHORT", tmp_path)
    return tmp_path / "lab"


def record(**changes):
    values = {"name": "lab", "port": 2222, "uuid": "11111111-2222-3333-4444-555555555555", "image": Path("/base")}
    return state.HostRecord(**{**values, **changes})


def pairs(argv):
    return list(itertools.pairwise(argv))


def test_guest_boots_from_its_own_disk_and_comes_back_after_a_reboot():
    argv = vm.qemu_argv(record(), kvm=False, place=Path("/p"), sockets=Path("/s"))
    assert "-kernel" not in argv
    assert "-append" not in argv
    assert "-no-reboot" not in argv


def test_emulation_uses_what_was_seen_to_work():
    argv = pairs(vm.qemu_argv(record(), kvm=False, place=Path("/p"), sockets=Path("/s")))
    assert ("-accel", "tcg,thread=multi,tb-size=1024") in argv
    assert ("-cpu", "Nehalem") in argv
    assert ("-m", "3072") in argv


def test_kvm_takes_the_real_processor():
    argv = pairs(vm.qemu_argv(record(), kvm=True, place=Path("/p"), sockets=Path("/s")))
    assert ("-accel", "kvm") in argv
    assert ("-cpu", "host") in argv


def test_carveout_goes_to_smbios_in_bytes():
    argv = vm.qemu_argv(record(carveout_bytes=16 << 30), kvm=False, place=Path("/p"), sockets=Path("/s"))
    (smbios,) = [value for flag, value in pairs(argv) if flag == "-smbios"]
    assert "sku=carveout=17179869184," in smbios
    assert "manufacturer=MINISFORUM,product=AI X1 Pro" in smbios


def test_only_loopback_is_listened_on():
    argv = vm.qemu_argv(record(port=4444, gateway=5555), kvm=False, place=Path("/p"), sockets=Path("/s"))
    (net,) = [value for flag, value in pairs(argv) if flag == "-netdev"]
    assert net == "user,id=net0,hostfwd=tcp:127.0.0.1:4444-:22,hostfwd=tcp:127.0.0.1:5555-:8443"


def test_free_port_can_be_listened_on_and_a_taken_one_is_seen():
    port = vm.free_port()
    assert vm.port_is_free(port)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert not vm.port_is_free(port)


@pytest.fixture
def keys(lab_dir):
    vm.make_key(lab_dir / "keys" / "login", "login")
    for name in ("lab", "b"):
        vm.make_key(vm.home(name) / "ssh_host_ed25519_key", name)
    return lab_dir


def test_private_keys_are_private(keys):
    for key in (keys / "keys" / "login", vm.home("lab") / "ssh_host_ed25519_key"):
        assert key.stat().st_mode & 0o077 == 0


def test_credentials_carry_the_host_key_and_the_login_key(keys):
    lines = vm.credentials("lab").splitlines()
    (secret,) = [line.split()[-1] for line in lines if "ssh_host_ed25519_key 0600" in line]
    assert base64.b64decode(secret) == (vm.home("lab") / "ssh_host_ed25519_key").read_bytes()
    login = (keys / "keys" / "login.pub").read_text().strip()
    assert any("authorized_keys 0600 ojai ojai" in line and login in line for line in lines)


def test_known_hosts_and_config_are_what_ssh_understands(keys):
    records = state.Records(hosts={"lab": record(port=2001), "b": record(name="b", port=2002)})
    vm.write_ssh_files(records)
    for name, port in (("lab", "2001"), ("b", "2002")):
        public = (vm.home(name) / "ssh_host_ed25519_key.pub").read_text().split()[1]
        found = subprocess.run(
            ["ssh-keygen", "-F", f"[127.0.0.1]:{port}", "-f", keys / "known_hosts"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert public in found.stdout
        config = subprocess.run(
            ["ssh", "-G", "-F", keys / "ssh_config", name], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        assert f"port {port}" in config
        assert "user ojai" in config
        assert "stricthostkeychecking true" in config
        assert "passwordauthentication no" in config
        (control,) = [line.split(" ", 1)[1] for line in config if line.startswith("controlpath ")]
        # ssh adds 17 characters while it makes the socket; a socket's path has at most 107.
        assert len(control) + 17 <= 107 or "/pytest-" in control


def test_start_without_the_base_image_says_what_to_do(keys):
    with pytest.raises(LabError, match="ojai lab down lab --destroy"):
        vm.start(record(image=keys / "gone"))


def test_qemu_that_has_ended_is_told_with_the_console(keys):
    (vm.home("lab") / "qemu.log").write_text("qemu: no such thing\n")
    (vm.home("lab") / "console.log").write_text("Kernel panic - not syncing\n")
    with pytest.raises(LabError) as caught:
        vm.wait_for_ssh(record(process=state.Process(pid=2**22 + 1, started=1)))
    assert "no such thing" in caught.value.message
    assert "Kernel panic" in caught.value.message


TARGETS = """\
http://mirror.example/debian/|bookworm|main
http://mirror.example/debian/|bookworm-updates|main
http://mirror.example/debian-security/|bookworm-security|main
"""


def test_backports_come_from_the_machines_own_mirror():
    text = packages.backports_source(TARGETS, "bookworm", Path("/usr/share/keyrings/k.gpg"))
    assert text == (
        "Types: deb\nURIs: http://mirror.example/debian/\nSuites: bookworm-backports\nComponents: main\n"
        "Signed-By: /usr/share/keyrings/k.gpg\n"
    )


def test_no_source_for_backports_is_an_error_with_a_way_out():
    with pytest.raises(LabError, match="by hand"):
        packages.backports_source("http://mirror.example/ubuntu/|noble|main\n", "bookworm", None)


@pytest.mark.parametrize(
    ("text", "major"),
    [
        ("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)", 10),
        ("QEMU emulator version 7.2.17 (Debian)", 7),
        ("", 0),
    ],
)
def test_qemu_version(text, major):
    assert packages.qemu_major(text) == major


@pytest.fixture
def monitor(lab_dir):
    """A QEMU monitor that takes one command and answers with what the test says; and the commands it got."""
    got: list[dict[str, object]] = []
    answers: list[list[dict[str, object]]] = []
    path = state.runtime_folder() / "lab.qmp"

    def serve(server):
        while True:
            try:
                line, _ = server.accept()
            except OSError:
                return
            with line, line.makefile("rw") as stream:
                stream.write('{"QMP": {}}\n')
                for reply in ([{"return": {}}], answers.pop(0)):
                    stream.flush()
                    got.append(json.loads(stream.readline()))
                    stream.writelines(json.dumps(part) + "\n" for part in reply)

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        yield got, answers
        server.shutdown(socket.SHUT_RDWR)


def test_the_monitor_is_given_a_command_with_its_arguments(monitor):
    got, answers = monitor
    answers.append([{"event": "NIC_RX_FILTER_CHANGED"}, {"return": {}}])
    assert vm.qmp("lab", "set_link", name="net0", up=False) == ""
    assert got[-1] == {"execute": "set_link", "arguments": {"name": "net0", "up": False}}


def test_what_the_monitor_refuses_is_an_error(monitor):
    _, answers = monitor
    answers += [[{"error": {"desc": "Device 'net0' not found"}}], [{"return": "Error: no such snapshot\r\n"}]]
    with pytest.raises(LabError, match="set_link: Device 'net0' not found"):
        vm.qmp("lab", "set_link", name="net0", up=False)
    with pytest.raises(LabError, match="`loadvm x`: Error: no such snapshot"):
        vm.monitor("lab", "loadvm x")


def test_a_machine_that_is_gone_has_no_network(lab_dir):
    (state.runtime_folder() / "lab.qmp").unlink(missing_ok=True)
    with pytest.raises(LabError, match="cannot be reached"):
        vm.set_network("lab", up=True)


def test_a_snapshot_of_the_disk_alone_is_told_from_one_with_memory(lab_dir):
    disk = vm.home("lab") / "disk.qcow2"
    disk.parent.mkdir(parents=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1M"], check=True)
    assert vm.snapshots("lab") == {}
    vm.snapshot("lab", "stock")
    assert vm.snapshots("lab") == {"stock": False}
