"""Containers on the lab's bridge: addresses, the line's program, what the command refuses. Real ones: tests/lab."""

import ipaddress

import pytest
from click.testing import CliRunner

from ojai.lab import bridge, packages, state, vm
from ojai.lab.cli import command
from ojai.lab.errors import LabError
from ojai.lab.state import ContainerRecord, LineRecord, Records


@pytest.fixture(autouse=True)
def lab_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("OJAI_LAB_DIR", str(tmp_path / "lab"))
    return tmp_path / "lab"


def test_addresses_are_of_the_network_that_is_kept_for_measuring(tmp_path, monkeypatch):
    mine = bridge.free_address(())
    assert ipaddress.ip_address(mine) in ipaddress.ip_network("198.18.0.0/15")
    assert bridge.free_address({mine}) == mine[: -len("11")] + "12"
    every = {bridge.address(number) for number in range(bridge.FIRST, bridge.LAST + 1)}
    with pytest.raises(LabError, match="all are taken"):
        bridge.free_address(every)
    ends = bridge.near(), bridge._far(), bridge._namespace()
    monkeypatch.setenv("OJAI_LAB_DIR", str(tmp_path / "other"))
    assert not {bridge.near(), bridge._far(), bridge._namespace()} & set(ends)


def test_interfaces_have_names_that_the_kernel_takes():
    assert all(len(name) <= 15 for name in (bridge.near(), bridge._far(), bridge.INSIDE, "p250"))


def test_half_of_the_delay_is_added_each_way(monkeypatch):
    monkeypatch.setattr(packages, "find", lambda program: f"/bin/{program}")
    argv = bridge.line_argv(LineRecord(rtt_ms=25, loss_percent=0.5))
    assert " /bin/wirefilter -d 12.5 -l 0.5 = " in " ".join(argv)
    assert not {"-l", "-b"} & set(bridge.line_argv(LineRecord(rtt_ms=20)))
    slow = bridge.line_argv(LineRecord(rate=1_000_000))
    assert slow[slow.index("-b") + 1] == "1000000"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rtt", "20ms"], "belong to --hosts"),
        (["--loss", "1"], "belong to --hosts"),
        (["--hosts", "2", "a", "b"], "one NAME"),
        (["--hosts", "0"], "0 is not in the range"),
        (["--hosts", "2", "--rtt", "20"], "no time such as 20ms"),
        (["--hosts", "2", "a" * 30], "cannot be a lab host's name"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_starts(words, said):
    done = CliRunner().invoke(command, ["container", *words])
    assert done.exit_code == 2 and said in done.output


def test_one_of_the_bridge_is_reached_by_its_own_address(lab_dir):
    guest = ContainerRecord(name="fleet-1", address=bridge.address(11), port=bridge.PORT)
    plain = ContainerRecord(name="box", port=2222)
    assert guest.on_bridge and not plain.on_bridge
    for name in ("fleet-1", "box"):
        (lab_dir / "hosts" / name).mkdir(parents=True)
        (lab_dir / "hosts" / name / "ssh_host_ed25519_key.pub").write_text(f"ssh-ed25519 KEY-{name}\n")
    records = Records(containers={"fleet-1": guest, "box": plain})
    vm.write_ssh_files(records)
    assert f"HostName {bridge.address(11)}\n  Port 22\n" in (lab_dir / "ssh_config").read_text()
    assert (lab_dir / "known_hosts").read_text() == (
        f"{bridge.address(11)} ssh-ed25519 KEY-fleet-1\n[127.0.0.1]:2222 ssh-ed25519 KEY-box\n"
    )
    state.write(records)
    assert state.read() == records


def test_a_lab_of_an_earlier_version_is_read():
    old = '{"containers": {"box": {"name": "box", "port": 2222}}, "hosts": {}}'
    records = Records.model_validate_json(old)
    assert records.line is None and records.containers["box"].address == "127.0.0.1"
