import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyinfra.api.exceptions import InventoryError, PyinfraError

from ojai.settings import parse
from ojai.settings.fleet import Fleet, FleetError, load

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def _write(text: str | bytes) -> Path:
        path = tmp_path / "fleet.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return _write


@pytest.fixture
def told(write: Any) -> Any:
    """The faults of a file, each as "LINE: rest"."""

    def _told(text: str | bytes) -> list[str]:
        path = write(text)
        with pytest.raises(FleetError) as caught:
            load(path)
        for fault in caught.value.errors:
            assert fault.startswith(f"{path}:") and fault in str(caught.value)
        return [fault.removeprefix(f"{path}:") for fault in caught.value.errors]

    return _told


def test_a_host_is_over_its_groups_of_which_the_last_wins_over_the_defaults(write: Any) -> None:
    found = load(
        write(
            """
defaults: {kernel_reboot: never, docker_log_max_size: 1m, data_mode: "700", ssh_user: ojai}
groups:
  a: {docker_log_max_size: 2m, data_mode: "750"}
  b: {docker_log_max_size: 3m}
hosts:
  one: {groups: [a, b]}
  two: {groups: [b, a], data_mode: "755"}
  three:
"""
        )
    )
    data = dict(found.hosts)
    assert data["one"] == {
        "kernel_reboot": "never",
        "docker_log_max_size": "3m",
        "data_mode": "750",
        "ssh_user": "ojai",
    }
    assert (data["two"]["docker_log_max_size"], data["two"]["data_mode"]) == ("2m", "755")
    assert data["three"]["docker_log_max_size"] == "1m"
    assert found.groups == {"a": ["one", "two"], "b": ["one", "two"]}
    assert [name for name, _ in found.hosts] == ["one", "two", "three"]


def test_a_value_is_replaced_as_a_whole(write: Any) -> None:
    found = load(
        write(
            "defaults: {sysctl: {vm.swappiness: 10, vm.overcommit_memory: 1}}\nhosts: {a: {sysctl: {vm.swappiness: 5}}}"
        )
    )
    assert dict(found.hosts)["a"]["sysctl"] == {"vm.swappiness": 5}


def test_anchors_and_merge_keys_are_yaml_s_own(write: Any) -> None:
    found = load(write("hosts:\n  a: &a {kernel_reboot: never}\n  b: {<<: *a, data_mode: '700'}\n"))
    assert dict(found.hosts)["b"] == {"kernel_reboot": "never", "data_mode": "700"}


def test_the_error_is_pyinfra_s_own() -> None:
    assert issubclass(FleetError, InventoryError) and issubclass(FleetError, PyinfraError)


BAD = """\
defalts: {}
defaults:
  kernel_flor: "6.17"
groups:
  all: {}
  edge: {data_mode: 755, groups: [x]}
  idle: {gpu_user: [x]}
  b d: 5
  mini-01: {}
hosts:
  mini-01:
    groups: [edg, edge, edge]
    ssh_usr: x
    services:
      - name: a
        por: 5
      - {name: c, text_only: true, images: 3}
  10: {}
  mini-03: {groups: edge}
  mini-04: [1]
  "a b": {memory_regime: gtt}
"""


def test_every_fault_has_its_line_and_all_are_told_together(told: Any) -> None:
    found = told(BAD)
    hosts = "(hosts mini-01, 10, mini-03, mini-04, a b)"
    expected = [
        "1: defalts: no such section; the nearest is defaults",
        f"3: defaults: kernel_flor: no such setting; the nearest is kernel_floor {hosts}",
        "5: group all: pyinfra has a group of that name with every host in it; expected another name",
        "6: group edge: data_mode: found 755; expected three or four octal digits; put it in quotes (host mini-01)",
        "6: group edge: groups[0]: there is no group 'x'; known: all, edge, idle, b d, mini-01",
        "7: group idle: gpu_user: no such setting; the nearest is gpu_users",
        "8: group b d: found 5; expected a mapping of settings",
        "8: group b d: found the name 'b d'; expected letters, digits, - and _, a letter first",
        "9: group mini-01: a host has that name too; expected another, since --limit takes either",
        "12: host mini-01: groups[0]: there is no group 'edg'; the nearest is edge",
        "12: host mini-01: groups[2]: found edge twice; expected it once",
        "13: host mini-01: ssh_usr: pyinfra has no such data; the nearest is ssh_user",
        "16: host mini-01: services[0].por: no such setting; the nearest is port",
        "17: host mini-01: services[1].text_only: true contradicts images: 3; keep one of them",
        "18: host 10: found 10 as a name; expected text: put it in quotes",
        "19: host mini-03: groups: found 'edge'; expected a list of group names; write [edge]",
        "20: host mini-04: found [1]; expected a mapping of settings",
        "21: host a b: found the name 'a b'; expected one without spaces and commas",
        "21: host a b: gtt_limit: memory_regime is gtt, so set how much memory the GPU may take, such as 100GiB",
    ]
    assert found == expected


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "1: hosts: found none; expected one at least"),
        ("hosts: {}", "1: hosts: found none"),
        ("hosts: 5", "1: hosts: found 5; expected a mapping"),
        ("- a", "1: found ['a']; expected a mapping with defaults, groups, hosts"),
        ("hosts:\n  a: [", "2: not YAML: "),
        ("hosts:\n\ta: 1", "2: not YAML: "),
        ("hosts: {a: *b}", "1: not YAML: found undefined alias"),
        ("hosts:\n  a:\n    removed: !x 1", "3: not YAML: could not determine a constructor for the tag"),
        ("hosts:\n  ? [a]\n  : 1", "2: not YAML: "),
        ("hosts: {a: {}}\n---\nhosts: {}", "2: not YAML: expected a single document"),
        ("hosts:\n  a: {removed: 2026-13-45}", "2: not YAML: found a value that cannot be read (month must be in"),
        ("hosts:\n  a: {image_bytes: " + "9" * 5000 + "}", "2: not YAML: found a value that cannot be read"),
        ("hosts:\n  a: \x00", "2: not YAML: found a character"),
        (b"hosts:\n  a: \xff", "2: found a byte that is not UTF-8"),
        ("hosts:\n  a: {services: &s [*s]}", "2: host a: services[0]: found"),
        ("hosts: {a: {removed: 2026-10-05}}", "1: host a: removed: found 2026-10-05; expected true or false"),
        ("hosts: {a: {groups: [x]}}", "1: host a: groups[0]: there is no group 'x'; known: none is declared"),
        ("defaults: {gtt_limit: 5GiB}\nhosts: {a: , b: {memory_regime: gtt}}", "1: defaults: gtt_limit: has no use"),
    ],
)
def test_what_is_no_fleet_is_told_with_its_line(told: Any, text: str | bytes, line: str) -> None:
    found = told(text)
    assert found[0].startswith(line), found


def test_a_key_that_stands_twice_is_told_beside_other_faults(told: Any) -> None:
    found = told("hosts:\n  a: {removed: maybe}\n  b:\n    data_mode: '700'\n    data_mode: '755'\n  b: {}\n")
    assert found == [
        "2: host a: removed: found 'maybe'; expected true or false",
        "5: data_mode: found here and on line 4; expected it once",
        "6: b: found here and on line 3; expected it once",
    ]


def test_what_no_sane_file_has_is_no_traceback(write: Any, tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="nested too deeply"):
        load(write("[" * 20000))
    with pytest.raises(FleetError, match=r"nothere\.yaml: cannot be read: No such file"):
        load(tmp_path / "nothere.yaml")


def test_a_fault_of_many_hosts_is_told_once(told: Any) -> None:
    hosts = "\n".join(f"  h{n}: {{}}" for n in range(20))
    (only,) = told(f"defaults: {{kernel_reboot: sometimes}}\nhosts:\n{hosts}\n")
    assert only.endswith("(hosts h0, h1, h2, h3, h4, h5, h6, h7 and 12 more)")


def test_the_example_is_sound_and_for_documentation_only() -> None:
    path = ROOT / "inventory" / "fleet.yaml"
    text = path.read_text()
    assert text.startswith("# yaml-language-server: $schema=../docs/reference/fleet.schema.json\n")
    found = load(path)
    assert len(found.hosts) >= 4 and found.groups
    for name, data in found.hosts:
        parse(name, data)
        # RFC 5737: TEST-NET-1, 2 and 3
        assert re.match(r"192\.0\.2\.|198\.51\.100\.|203\.0\.113\.", data["ssh_hostname"]), name
    assert len({data["ssh_hostname"] for _, data in found.hosts}) == len(found.hosts)


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pyinfra", *argv], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_pyinfra_sees_the_file_s_groups_and_data() -> None:
    done = run("inventory/fleet.py", "debug-inventory", "--json")
    assert done.returncode == 0, done.stderr
    listing = {host["name"]: host for host in json.loads(done.stdout)}
    said: Fleet = load(ROOT / "inventory" / "fleet.yaml")
    assert list(listing) == [name for name, _ in said.hosts]
    for name, data in said.hosts:
        # group_data/all.py adds how hosts are reached; nothing of it is a setting
        assert {key: value for key, value in listing[name]["data"].items() if key in data} == data
        assert all(key.startswith("ssh_") for key in set(listing[name]["data"]) - set(data))
        assert set(listing[name]["groups"]) == {
            "fleet",
            *(group for group in said.groups if name in said.groups[group]),
        }


def test_pyinfra_prints_one_clean_error(tmp_path: Path) -> None:
    (tmp_path / "fleet.py").write_text((ROOT / "inventory" / "fleet.py").read_text())
    (tmp_path / "fleet.yaml").write_text(yaml.safe_dump({"hosts": {"a": {"removd": True}, "b": {"data_mode": 7}}}))
    done = run(str(tmp_path / "fleet.py"), "debug-inventory")
    assert done.returncode == 1
    assert done.stderr.count("pyinfra error") == 1 and "Traceback" not in done.stderr
    assert f"{tmp_path}/fleet.yaml:3: host a: removd: no such setting; the nearest is removed" in done.stderr
    assert f"{tmp_path}/fleet.yaml:5: host b: data_mode: found 7" in done.stderr
    assert "Connecting" not in done.stderr


def test_a_range_is_many_hosts_and_a_host_s_own_entry_is_over_it(write: Any) -> None:
    found = load(
        write(
            """
groups: {a: {}, b: {}}
hosts:
  mini-02: {data_mode: "700"}
  mini-[01:12]: {groups: [a], data_mode: "750", ssh_user: x}
  mini-03: {groups: [b]}
  rack[8:10]-gpu.example.net:
"""
        )
    )
    data = dict(found.hosts)
    assert sorted(data) == [
        *(f"mini-{n:02d}" for n in range(1, 13)),
        *(f"rack{n}-gpu.example.net" for n in (10, 8, 9)),
    ]
    assert data["mini-01"] == {"data_mode": "750", "ssh_user": "x"}
    assert data["mini-02"] == {"data_mode": "700", "ssh_user": "x"}
    assert len(found.groups["a"]) == 11 and found.groups["b"] == ["mini-03"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("hosts: {'mini-[5:1]': }", "1: host mini-[5:1]: found the range 5:1; expected it to rise"),
        ("hosts: {'mini-[1:99999999999]': }", "1: host mini-[1:99999999999]: found the range"),
        (
            "hosts: {'mini-[a:b]': }",
            "1: host mini-[a:b]: found the name 'mini-[a:b]'; expected a range such as mini-[01:50]",
        ),
        ("hosts:\n  m[1:3]:\n  m[3:4]:\n", "3: host m[3:4]: m3 is in m[1:3] too; expected each host in one range"),
        ("groups: {m2: }\nhosts: {'m[1:3]': }", "1: group m2: a host has that name too"),
        ("defaults: {groups: [a]}\nhosts: {a: }", "1: defaults: groups: found here; expected in an entry of"),
        ("hosts:\n  m[1:2]: {data_mode: 7}", "2: host m[1:2]: data_mode: found 7; expected three or four octal digits"),
        (
            "groups:\n  a: {groups: [b]}\n  b: {groups: [a]}\nhosts: {m: {groups: [a]}}",
            "2: group a: groups[0]: found b",
        ),
        ("groups: {a: {groups: [a]}}\nhosts: {m: }", "1: group a: groups[0]: found a, which is a or in it"),
        ("groups: {a: {groups: [c]}, b: }\nhosts: {m: }", "1: group a: groups[0]: there is no group 'c'"),
    ],
)
def test_what_is_wrong_with_ranges_and_nested_groups(told: Any, text: str, line: str) -> None:
    assert any(found.startswith(line) for found in told(text)), told(text)


def test_a_group_in_a_group_is_over_it_and_its_hosts_are_in_both(write: Any) -> None:
    found = load(
        write(
            """
groups:
  berlin: {groups: [europe], data_mode: "750"}
  europe: {data_mode: "700", docker_log_max_size: 1m}
hosts:
  m: {groups: [berlin]}
  n: {groups: [europe]}
"""
        )
    )
    assert dict(found.hosts)["m"] == {"data_mode": "750", "docker_log_max_size": "1m"}
    assert found.groups == {"berlin": ["m"], "europe": ["m", "n"]}


def test_top_level_keys_that_begin_with_x_are_a_place_for_anchors(write: Any) -> None:
    text = "x-small: &small {docker_log_max_size: 1m}\nx-anything: [1]\nhosts: {m: {<<: *small}}\n"
    assert dict(load(write(text)).hosts)["m"] == {"docker_log_max_size": "1m"}
