"""Faulty inventories by the hundred: each is refused before any connection, host and key named, all faults together."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyinfra.api.exceptions import InventoryError

from ojai.schema.expected import kinds
from ojai.settings import HostSettings, ServiceSettings
from ojai.settings.fleet import FleetError, load
from ojai.settings.inventory import refuse

ROOT = Path(__file__).resolve().parents[2]

#: Every known name, so that a misspelled one is none of them.
KNOWN = {*HostSettings.model_fields, *ServiceSettings.model_fields}

#: Settings that belong together get one fault, or the one would hide the other.
TOGETHER = {"gtt_limit": "memory_regime", "removed_data": "removed"}


@dataclass
class Fault:
    """What is done to a host's data, and the place that the refusal has to name."""

    key: str
    data: dict[str, Any]
    place: str


@dataclass
class Host:
    data: dict[str, Any]
    places: list[str] = field(default_factory=list)


def wrong_types(model: type[HostSettings] | type[ServiceSettings], name: str) -> list[Any]:
    """Values of kinds that a setting does not take."""
    annotation = model.model_fields[name].annotation
    expected = kinds(annotation)
    optional = type(None) in expected
    wrong: list[Any] = [] if optional else [None]
    if bool not in expected:
        wrong.append(True)
    if not expected & {tuple, str} and "Literal" not in str(annotation):
        wrong += ["nonsense", [1]]
    if bool in expected:
        wrong += ["nonsense", 7, [True]]
    if str in expected and name != "rocm_channel":
        wrong += [5, 1.5, ["x"], {"a": 1}]
    if tuple in expected:
        wrong += ["text", 5, {"a": 1}, [{"a": 1}], [None]]
    if dict in expected:
        wrong += [5, "text", ["a"]]
    if "Literal" in str(annotation):
        wrong += ["nonsense", 3.5, ["x"]]
    return [value for value in wrong if not (name == "services" and value == [{"a": 1}])]


IMPOSSIBLE: list[tuple[str, Any]] = [
    ("kernel_reboot_timeout", 29),
    ("kernel_reboot_timeout", 10**9),
    ("docker_log_max_file", 0),
    ("docker_log_max_size", "0m"),
    ("docker_log_max_size", "50 MB"),
    ("data_mode", "888"),
    ("data_mode", "7"),
    ("data_directory", "srv/ojai"),
    ("data_directory", "/srv/o jai"),
    ("data_owner", "Root"),
    ("gpu_users", ["ada", "$(reboot)"]),
    ("kernel_package", "Linux"),
    ("kernel_flavour", "OEM"),
    ("kernel_floor", "newest"),
    ("accelerator", "gfx1100"),
    ("accelerator", "gfx115O"),
    ("rocm_channel", "8.1"),
    ("rocm_channel", 6.4),
    ("rocm_mirror", "ftp://mirror.example.net"),
    ("rocm_mirror", "https://mirror.example.net/"),
    ("rocm_packages", ["rocm; reboot"]),
    ("docker_mirror", "mirror.example.net"),
    ("docker_registry_mirrors", ["https://a.example.net", "b"]),
    ("docker_source", "snap"),
    ("image_bytes", -1),
    ("image_bytes", "12 parsecs"),
    ("sysctl", {"overcommit": 1}),
    ("sysctl", {"vm.overcommit_memory": 3}),
    ("sysctl", {"vm.swappiness": [10]}),
    ("memory_regime", "shared"),
    ("firmware_known_bad", [20251125]),
]

IN_A_SERVICE: list[tuple[dict[str, Any], str]] = [
    ({"port": 0}, ".port"),
    ({"port": 65536}, ".port"),
    ({"port": "http"}, ".port"),
    ({"name": "Chat"}, ".name"),
    ({"name": "../etc"}, ".name"),
    ({"host": "localhost; reboot"}, ".host"),
    ({"image": "latest"}, ".image"),
    ({"image_digest": "sha256:abc"}, ".image_digest"),
    ({"profile": "gemma-4-e4B"}, ".profile"),
    ({"profile": "llama"}, ".profile"),
    ({"gpu_memory_utilization": 1.01}, ".gpu_memory_utilization"),
    ({"gpu_memory_utilization": 0}, ".gpu_memory_utilization"),
    ({"max_model_len": 0}, ".max_model_len"),
    ({"vision_tokens": 300}, ".vision_tokens"),
    ({"environment": {"1A": "x"}}, ".environment.1A"),
    ({"environment": {"A": "x\ny"}}, ".environment.A"),
    ({"environment": {"A": True}}, ".environment.A"),
    ({"engine_args": ["--x", ""]}, ".engine_args[1]"),
    ({"engine_args": "--x"}, ".engine_args"),
    ({"speculative": {"model": "m", "tokens": 99}}, ".speculative.tokens"),
    ({"speculative": {"model": "m", "tokens": 2, "draft": 1}}, ".speculative.draft"),
    ({"speculative": {"tokens": 2}}, ".speculative.model"),
    ({"allow": ["everything"]}, ".allow"),
    ({"text_only": True, "images": 1}, ".text_only"),
    ({"text_only": True, "vision_tokens": 70}, ".text_only"),
    ({"thinking": True, "reasoning": False}, ".thinking"),
    ({"max_num_batched_tokens": 2, "max_num_seqs": 3}, ".max_num_batched_tokens"),
    ({"max_model_len": 10**6}, ""),
    ({"kv_cache_dtype": "fp8"}, ""),
    ({"profile": "diffusiongemma-26b-a4b", "max_num_seqs": 5}, ""),
    ({"engine_args": ["--disable-log-requests"]}, ""),
    ({"environment": {"VLLM_ROCM_USE_AITER": "1"}}, ""),
    ({"environment": {"HF_TOKEN": "secret"}}, ""),
]


@st.composite
def misspelled(draw: st.DrawFn, names: list[str]) -> str:
    """A known name with a letter lost, doubled, changed or swapped."""
    name = draw(st.sampled_from(sorted(name for name in names if len(name) > 3)))
    at = draw(st.integers(0, len(name) - 2))
    wrong = draw(
        st.sampled_from(
            [
                name[:at] + name[at + 1 :],
                name[:at] + name[at] * 2 + name[at + 1 :],
                name[:at] + "q" + name[at + 1 :],
                name[:at] + name[at + 1] + name[at] + name[at + 2 :],
                name.replace("_", "-"),
                name.upper(),
            ]
        )
    )
    return wrong if wrong not in KNOWN and not wrong.startswith("_") else f"{name}z"


@st.composite
def host_faults(draw: st.DrawFn) -> Fault:
    kind = draw(st.sampled_from(["name", "type", "value", "fingerprint", "together"]))
    if kind == "name":
        key = draw(misspelled([name for name in HostSettings.model_fields if name != "services"]))
        return Fault(key, {key: draw(st.sampled_from([1, "x", None, [], True]))}, key)
    if kind == "type":
        key = draw(st.sampled_from(sorted(set(HostSettings.model_fields) - {"services"})))
        return Fault(key, {key: draw(st.sampled_from(wrong_types(HostSettings, key)))}, key)
    if kind == "fingerprint":
        key = draw(st.sampled_from(["rocm_key_fingerprint", "docker_key_fingerprint"]))
        digits = draw(st.text("0123456789ABCDEF", min_size=1, max_size=64).filter(lambda text: len(text) != 40))
        return Fault(key, {key: digits}, key)
    if kind == "together":
        data, place = draw(
            st.sampled_from(
                [
                    ({"memory_regime": "gtt"}, "gtt_limit"),
                    ({"gtt_limit": "8GiB"}, "gtt_limit"),
                    ({"memory_regime": "gtt", "gtt_limit": "0GiB"}, "gtt_limit"),
                    ({"removed_data": True}, "removed_data"),
                ]
            )
        )
        return Fault(place, data, place)
    key, value = draw(st.sampled_from(IMPOSSIBLE))
    return Fault(key, {key: value}, key)


@st.composite
def service_faults(draw: st.DrawFn) -> tuple[dict[str, Any], str]:
    kind = draw(st.sampled_from(["name", "type", "listed"]))
    if kind == "name":
        key = draw(misspelled(list(ServiceSettings.model_fields)))
        return {key: draw(st.sampled_from([1, "x", None, []]))}, f".{key}"
    if kind == "type":
        key = draw(st.sampled_from(sorted(ServiceSettings.model_fields)))
        return {key: draw(st.sampled_from(wrong_types(ServiceSettings, key)))}, f".{key}"
    return draw(st.sampled_from(IN_A_SERVICE))


@st.composite
def faulty_hosts(draw: st.DrawFn) -> Host:
    host = Host({})
    for fault in draw(st.lists(host_faults(), max_size=3, unique_by=lambda one: TOGETHER.get(one.key, one.key))):
        if fault.key == "accelerator":  # what the services are for is then not known
            host.data["services"] = []
        host.data |= fault.data
        host.places.append(fault.place)
    if "services" in host.data:
        return host
    services: list[dict[str, Any]] = []
    for index, (choices, place) in enumerate(draw(st.lists(service_faults(), max_size=2))):
        sound = {"name": f"s{index}", "port": 9000 + index, "gpu_memory_utilization": 0.1}
        services.append(sound | choices)
        host.places.append(f"services[{index}]{place}")
    if draw(st.booleans()) or not host.places:
        last = len(services)
        twin = {"name": "twin", "port": 9500, "gpu_memory_utilization": 0.1}
        what = draw(st.sampled_from(["name", "port", "shares"]))
        if what == "shares":
            greedy = {"gpu_memory_utilization": 0.8}
            services += [twin | greedy, twin | greedy | {"name": "other", "port": 9501}]
            host.places.append("services")
        else:
            services += [twin, twin | ({"port": 9501} if what == "name" else {"name": "other"})]
            host.places.append(f"services[{last + 1}].{what}")
    if services:
        host.data["services"] = services
    return host


@st.composite
def inventories(draw: st.DrawFn) -> dict[str, Host]:
    faulty = draw(st.lists(faulty_hosts(), min_size=1, max_size=4))
    sound = draw(st.lists(st.sampled_from([{}, {"removed": True}, {"gpu_users": ["ada"]}]), max_size=2))
    hosts = [*faulty, *(Host(dict(data)) for data in sound)]
    return {f"mini-{number:02d}": host for number, host in enumerate(draw(st.permutations(hosts)))}


def names_place(line: str, place: str) -> bool:
    """Whether a line is about a place: the path, perhaps the service's name in brackets, then a colon."""
    return re.match(re.escape(place) + r"[^:]*: ", line) is not None


def check_words(text: str) -> None:
    for word in ("Traceback", "pydantic", "Input should", "validation error", "Value error", "object at 0x"):
        assert word not in text


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(inventories())
def test_a_faulty_inventory_is_refused_with_every_fault_of_every_host(inventory: dict[str, Host]) -> None:
    with pytest.raises(InventoryError) as caught:
        refuse((name, host.data) for name, host in inventory.items())
    text = str(caught.value)
    check_words(text)
    lines = text.splitlines()
    assert lines[0] == "the inventory has errors; no host was connected to."
    for name, host in inventory.items():
        mine = [line.removeprefix(f"{name}: ") for line in lines[1:-1] if line.startswith(f"{name}: ")]
        for place in host.places:
            assert any(names_place(line, place) for line in mine), f"{name}: {place} is not in\n{text}"
        assert bool(mine) is bool(host.places), text
        assert len(mine) == len(set(mine)), text
    assert all(re.match(r"mini-\d\d: ", line) for line in lines[1:-1]), text


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(inventories())
def test_a_faulty_fleet_file_is_refused_with_the_line_of_every_fault(inventory: dict[str, Host]) -> None:
    # By way of JSON, so that no two hosts share a value and YAML writes no aliases.
    hosts = json.loads(json.dumps({name: host.data for name, host in inventory.items()}))
    text = yaml.safe_dump({"hosts": hosts}, sort_keys=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fleet.yaml"
        path.write_text(text)
        with pytest.raises(FleetError) as caught:
            load(path)
    check_words(str(caught.value))
    told = [re.fullmatch(r".*fleet\.yaml:(\d+): host (mini-\d\d): (.*)", fault) for fault in caught.value.errors]
    assert all(told), caught.value.errors
    lines = text.splitlines()
    for name, host in inventory.items():
        mine = [(int(found[1]), found[3]) for found in told if found and found[2] == name]
        start = lines.index(next(line for line in lines if line.startswith(f"  {name}:"))) + 1
        for place in host.places:
            assert any(names_place(rest, place) for _, rest in mine), f"{name}: {place} is not in\n{caught.value}"
        for line, rest in mine:
            check_line(rest, lines[line - 1])
            assert start < line <= start + len(yaml.safe_dump(hosts[name]).splitlines())


def check_line(fault: str, line: str) -> None:
    """The line that a fault is said to be on has the key that it names."""
    place = re.sub(r" \([^)]*\)$", "", fault.partition(": ")[0])
    key = line.strip().removeprefix("- ").partition(":")[0].strip("'\"")
    if place.endswith("]"):
        assert line.strip().startswith("- "), (fault, line)
    elif ": is missing" in fault:
        assert key == place.split(".")[-2], (fault, line)
    elif fault.startswith("gtt_limit: memory_regime is gtt"):
        assert key == "memory_regime", (fault, line)
    else:
        assert key and place.endswith(key), (fault, line)


@pytest.mark.parametrize("field_name", sorted(KNOWN))
def test_no_setting_takes_a_value_of_the_wrong_kind(field_name: str) -> None:
    model: Any = HostSettings if field_name in HostSettings.model_fields else ServiceSettings
    wrong = wrong_types(model, field_name)
    assert wrong
    for value in wrong:
        data = {field_name: value} if model is HostSettings else {"services": [{field_name: value}]}
        with pytest.raises(InventoryError, match=re.escape(field_name)):
            refuse([("mini", data)])


@contextmanager
def listener() -> Iterator[tuple[int, list[Any]]]:
    """A port of the loopback that closes on whoever comes, and who came."""
    came: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, address = server.accept()
                except OSError:
                    return
                came.append(address)
                client.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], came
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def pyinfra(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pyinfra", "--dry", *argv, "deploy.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


def write_inventory(folder: Path, port: int, hosts: dict[str, dict[str, Any]]) -> str:
    reach = {"ssh_hostname": "127.0.0.1", "ssh_port": port, "ssh_user": "nobody"}
    path = folder / "closed.py"
    told = json.dumps([(name, reach | data) for name, data in hosts.items()])
    path.write_text(f"import json\nclosed = [tuple(host) for host in json.loads({told!r})]\n")
    return str(path)


def test_a_sound_inventory_does_connect(tmp_path: Path) -> None:
    """Else the next tests would prove nothing."""
    with listener() as (port, came):
        done = pyinfra(write_inventory(tmp_path, port, {"mini": {}}))
    assert came and done.returncode == 1


@pytest.mark.parametrize(
    ("hosts", "words", "lines"),
    [
        ({"a": {"kernel_flor": "x"}, "b": {}}, [], ["a: kernel_flor: no such setting; the nearest is kernel_floor"]),
        (
            {"a": {"services": [{"prt": 1}]}, "b": {"removed": "maybe"}},
            [],
            ["a: services[0].prt: no such setting; the nearest is port", "b: removed: found 'maybe'"],
        ),
        ({"a": {"ssh_usr": "x"}}, [], ["a: ssh_usr: pyinfra has no such data; the nearest is ssh_user"]),
        (
            {"a": {}, "b": {}},
            ["--data", "kernel_reboot=later"],
            ["a: kernel_reboot: found 'later'", "b: kernel_reboot"],
        ),
        ({"a": {"memory_regime": "gtt"}, "b": {}}, ["--limit", "b"], ["a: gtt_limit: memory_regime is gtt"]),
    ],
)
def test_pyinfra_connects_to_no_host_of_a_faulty_inventory(
    tmp_path: Path, hosts: dict[str, dict[str, Any]], words: list[str], lines: list[str]
) -> None:
    with listener() as (port, came):
        done = pyinfra(write_inventory(tmp_path, port, hosts), *words)
    assert not came
    assert done.returncode == 1
    assert done.stderr.count("pyinfra error") == 1 and "no host was connected to" in done.stderr
    assert "Traceback" not in done.stderr and "Connecting" not in done.stderr
    for line in lines:
        assert line in done.stderr


def test_pyinfra_connects_to_no_host_of_a_faulty_fleet(tmp_path: Path) -> None:
    (tmp_path / "fleet.py").write_text((ROOT / "inventory" / "fleet.py").read_text())
    with listener() as (port, came):
        reach = {"ssh_hostname": "127.0.0.1", "ssh_port": port}
        hosts = {"a": reach, "b": {"services": [{"port": 0}]}, "c": {"gpu_user": []}}
        (tmp_path / "fleet.yaml").write_text(yaml.safe_dump({"hosts": hosts}))
        done = pyinfra(str(tmp_path / "fleet.py"))
    assert not came and done.returncode == 1 and "Traceback" not in done.stderr
    assert "host b: services[0].port: found 0" in done.stderr
    assert "host c: gpu_user: no such setting; the nearest is gpu_users" in done.stderr
