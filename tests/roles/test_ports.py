"""Who holds a service's port: the report's script on real listeners, and what preflight makes of the answer."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from real_host import RealHost

from ojai.facts.report import HostReport, Report, parse
from ojai.facts.report.ports import PortHolder
from ojai.preflight.host import fact_arguments, failed_checks
from ojai.settings import parse as settings_of

NAME = "vllm-gemma4"
ID = "a" * 64
OTHER = "b" * 64
HEAD = ["ojai-host-report\t1"]
SETTINGS = settings_of("mini", {})


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Callable[..., RealHost]]:
    """A host whose ``docker`` and ``systemctl`` say what the test wants; its /var/lib/ojai is the test's."""

    def make(**scripts: str) -> RealHost:
        folder = tmp_path / "programs"
        folder.mkdir()
        for name, script in {"docker": "exit 1", "systemctl": "exit 1", **scripts}.items():
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)
        return RealHost({"PATH": f"{folder}:{os.environ['PATH']}"})

    return make


def asked(host: RealHost, tmp_path: Path, *ports: int) -> tuple[PortHolder, ...]:
    command = HostReport().command(service_ports=ports)
    for folder in ("/var/lib/ojai/", "/etc/systemd/system/"):
        command = command.replace(folder, f"{tmp_path}{folder}")
    done = host.sh(command.replace("cat /var/lib/ojai", f"cat {tmp_path}/var/lib/ojai"))
    assert (done.returncode, done.stderr) == (0, "")
    found = HostReport().process(done.stdout.splitlines())
    assert found is not None
    return found.ports


def read(*lines: str) -> tuple[PortHolder, ...]:
    found = parse([*HEAD, *lines])
    assert found is not None
    return found.ports


@pytest.fixture
def listener() -> Iterator[tuple[int, int]]:
    """A program that listens: its port and its process number."""
    script = (
        "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); "
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        yield int((program.stdout or sys.stdin).readline()), program.pid
        program.communicate("")


def test_a_program_that_listens_is_named(host, tmp_path, listener):
    port, pid = listener
    (found,) = asked(host(), tmp_path, port, 1)
    assert (found.port, found.pid, found.program, found.now, found.ours) == (
        port,
        pid,
        Path(f"/proc/{pid}/comm").read_text().strip(),
        True,
        False,
    )


def test_a_listener_on_ipv6_alone_is_found(host, tmp_path):
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        (found,) = asked(host(), tmp_path, server.getsockname()[1])
        assert found.pid == os.getpid()


def test_a_port_that_is_only_connected_to_is_free(host, tmp_path, listener):
    port, _ = listener
    with socket.create_connection(("127.0.0.1", port)) as client:
        assert asked(host(), tmp_path, client.getsockname()[1]) == ()


def test_nothing_is_asked_for_a_host_without_services(host, tmp_path):
    assert asked(host(docker="echo asked >&2", systemctl="echo asked >&2"), tmp_path) == ()


UNITS = r"""
case "$1" in
  list-unit-files) printf '%s\n' 'other.service enabled enabled' 'client.service enabled enabled' \
    'web.socket enabled enabled' 'tpl@.service enabled enabled';;
  show) case "$*" in *@.*) exit 1;; *--property=ExecStart*);; *) exit;; esac; printf '%s\n' \
    'ExecStart={ path=/usr/bin/vllm ; argv[]=/usr/bin/vllm serve --api-key sk-1 --port 8000 ; ignore_errors=no ; x }' \
    Id=other.service '' \
    'ExecStart={ path=/ui ; argv[]=/ui --to http://127.0.0.1:8000 --max 8000 ; ignore_errors=no ; pid=8000 }' \
    Id=client.service '' 'Listen=[::]:8001 (Stream)' Id=web.socket;;
esac
"""


def test_enabled_units_that_name_the_port_are_found_and_their_keys_stay_on_the_host(host, tmp_path):
    machine = host(systemctl=UNITS)
    command = HostReport().command(service_ports=(8000, 8001))
    assert "sk-1" not in machine.sh(command).stdout
    found = [one for one in asked(machine, tmp_path, 8000, 8001) if not one.now]
    assert found == [
        PortHolder(8000, "unit", "other.service", at_boot=True),
        PortHolder(8001, "unit", "web.socket", at_boot=True),
    ]


def docker(*containers: dict[str, Any]) -> str:
    """A Docker with these containers; the answer is what its ``inspect`` gives for the format of the script."""
    lines = [
        f"{one['id']} /{one['name']} {one.get('status', 'running')} {one.get('restart', 'no')} "
        f"{one.get('network', 'bridge')} {one.get('published', '')}- "
        + json.dumps(one.get("args", []), separators=(",", ":"))
        for one in containers
    ]
    ids = " ".join(one["id"] for one in containers)
    asked = f"case $* in *{{{{.Image}}}}*) ;; ps*) printf '%s\\n' {ids};; container*) cat <<'END'\n"
    return asked + "\n".join(lines) + "\nEND\n;; esac"


def test_containers_that_publish_the_port_or_are_told_to_listen_on_it(host, tmp_path):
    serving = ["vllm", "serve", "--api-key", "sk-1", "--port", "8000"]
    machine = host(
        docker=docker(
            {"id": "1" * 64, "name": "published", "published": "8000,8443,"},
            {"id": "2" * 64, "name": "later", "status": "exited", "restart": "always", "published": "8000,"},
            {"id": "3" * 64, "name": "stopped", "status": "exited", "restart": "unless-stopped", "published": "8000,"},
            {"id": "4" * 64, "name": "own-network", "restart": "always", "args": serving},
            {"id": "5" * 64, "name": "on-host", "restart": "always", "network": "host", "args": serving},
            {
                "id": "6" * 64,
                "name": "client",
                "restart": "always",
                "network": "host",
                "args": ["--url", "http://a:8000"],
            },
        )
    )
    assert "sk-1" not in machine.sh(HostReport().command(service_ports=(8000,))).stdout
    assert asked(machine, tmp_path, 8000) == (
        PortHolder(8000, "container", "published", now=True),
        PortHolder(8000, "container", "later", at_boot=True),
        PortHolder(8000, "container", "on-host", at_boot=True),
    )


OURS = (f"own_unit\t{NAME}.service", f"port_unit\t8000 {NAME}.service --port 8000")
IN_CONTAINER = f"port_listener\t8000 00000000 812 /system.slice/docker-{ID}.scope VLLM::EngineCor"


HOLDERS = {
    "a process in a terminal": (
        [
            "port_listener\t8000 00000000 7 "
            "/user.slice/user-1000.slice/user@1000.service/app.slice/vte-spawn-1.scope my app"
        ],
        PortHolder(8000, "process", "my app", 7, "my app", now=True),
    ),
    "a unit": (
        ["port_listener\t8000 00000000 7 /system.slice/nginx.service nginx"],
        PortHolder(8000, "unit", "nginx.service", 7, "nginx", now=True),
    ),
    "an enabled unit with several processes": (
        [
            "port_listener\t8000 00000000 7 /system.slice/a.service gunicorn",
            "port_listener\t8000 00000000 9 /system.slice/a.service gunicorn",
            "port_unit\t8000 a.service --bind 0.0.0.0:8000",
        ],
        PortHolder(8000, "unit", "a.service", 7, "gunicorn", now=True, at_boot=True),
    ),
    "a socket unit": (
        ["port_listener\t8000 00000000 1 /init.scope systemd", "port_unit\t8000 a.socket  Listen=0.0.0.0:8000"],
        PortHolder(8000, "unit", "a.socket", 1, "systemd", now=True, at_boot=True),
    ),
    "a container of the guides, of our name, before any service of ours": (
        [IN_CONTAINER, f"container\t{ID} {NAME} running no", "docker_answers\tyes"],
        PortHolder(8000, "container", NAME, 812, "VLLM::EngineCor", now=True),
    ),
    "the same, which Docker starts again": (
        [IN_CONTAINER, f"container\t{ID} {NAME} running unless-stopped", "docker_answers\tyes"],
        PortHolder(8000, "container", NAME, 812, "VLLM::EngineCor", now=True, at_boot=True),
    ),
    "a container of another driver of control groups": (
        [
            f"port_listener\t8000 00000000 812 /docker/{ID} python3",
            f"container\t{ID} mine running no",
            "docker_answers\tyes",
        ],
        PortHolder(8000, "container", "mine", 812, "python3", now=True),
    ),
    "a published port": (
        [
            "port_listener\t8000 00000000 31 /system.slice/docker.service docker-proxy",
            f"container\t{ID} web running always",
            f"container\t{OTHER} down exited always",
            f"port_container\t8000 {OTHER} 80 8000",
            f"port_container\t8000 {ID} published",
            "docker_answers\tyes",
        ],
        PortHolder(8000, "container", "web", 31, "docker-proxy", now=True, at_boot=True),
    ),
    "a container, while Docker does not answer and nothing is ours": (
        [IN_CONTAINER],
        PortHolder(8000, "container", "", 812, "VLLM::EngineCor", now=True),
    ),
    "nobody that the host can see": (["port_listener\t8000 00000000 0 / "], PortHolder(8000, "process", "", now=True)),
}


@pytest.mark.parametrize(("lines", "named"), HOLDERS.values(), ids=HOLDERS.keys())
def test_the_holder_is_named_and_refused(lines, named):
    report = parse([*HEAD, *lines])
    assert report.ports[0] == named
    (failed,) = (failed for failed in failed_checks(SETTINGS, report) if failed.check == "port")
    assert failed.expected == f"it free for {NAME}"
    for told in (named.name, str(named.pid or ""), named.program):
        assert told in failed.found
    assert ("held" in failed.found) is named.now
    assert "next boot" in failed.found or "every boot" in failed.found or not named.at_boot


@pytest.mark.parametrize(
    "lines",
    [
        [*OURS, IN_CONTAINER, f"container\t{ID} {NAME} running no", "docker_answers\tyes"],
        # Docker was killed; the containers run on.
        [*OURS, IN_CONTAINER],
        # A service that was renamed, or gives its port to another one of ours.
        ["own_unit\tearlier.service", IN_CONTAINER, f"container\t{ID} earlier running no", "docker_answers\tyes"],
        ["own_unit\tearlier.service", "port_unit\t8000 earlier.service --port 8000"],
        ["own_unit\tnative.service", "port_listener\t8000 00000000 7 /system.slice/native.service server"],
        [],
    ],
    ids=["a second run", "Docker is down", "a rename", "an old unit", "an engine without Docker", "a bare host"],
)
def test_what_is_ours_is_not_refused(lines):
    report = parse([*HEAD, *lines])
    assert all(holder.ours for holder in report.ports)
    assert "port" not in [failed.check for failed in failed_checks(SETTINGS, report)]


@pytest.mark.parametrize(
    ("text", "listens"),
    [
        ("--port 8000", True),
        ("x --port=8000", True),
        ("--host --port=8000", True),
        ("-p 8000:80", True),
        ("-p 127.0.0.1:8000:80", True),
        ("-p 80:8000", False),
        ("--publish [::1]:8000:8000/tcp", True),
        ("--bind 0.0.0.0:8000", True),
        ("-b :8000", True),
        ("--listen tcp://0.0.0.0:8000", True),
        ("--web.listen-address=:8000", True),
        ("--http-port 8000", True),
        ("http.server 8000", True),
        ("--db-port 8000", False),
        ("--target-port 8000", False),
        ("--max-model-len 8000", False),
        ("--url http://localhost:8000", False),
        ("--address http://localhost:8000", False),
        ("--port 18000", False),
        ("--port 80001", False),
        ("serve 8000", False),
    ],
)
def test_a_word_that_means_listen_here(text, listens):
    found = read(f"port_unit\t8000 other.service {text}")
    assert bool(found) is listens


def test_the_ports_of_all_services_are_asked_about():
    two = settings_of(
        "mini",
        {
            "services": [
                {"name": "a", "gpu_memory_utilization": 0.4},
                {"name": "b", "port": 9, "gpu_memory_utilization": 0.4},
            ]
        },
    )
    assert fact_arguments(two)["service_ports"] == (8000, 9, 8443)


def test_a_host_that_answers_nothing_has_no_holders():
    assert Report().ports == () == read()


@pytest.mark.skipif(not shutil.which("docker"), reason="asks the real client")
def test_the_format_is_one_that_docker_reads(tmp_path):
    """Docker refuses a faulty template before it looks for the container."""
    command = HostReport().command(service_ports=(8000,))
    form = (
        command.partition("container inspect --format '")[2]
        .partition("' $containers")[0]
        .replace("''", "")
        .replace("'\\\n'", "")
    )
    done = subprocess.run(
        ["docker", "container", "inspect", "--format", form, "none"], capture_output=True, text=True, check=False
    )
    assert "template" not in done.stderr
