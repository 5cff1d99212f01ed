"""A first deploy over a slow and lossy line, cut off three times; then the same host without any line at all."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ojai.lab import bridge, container, packages, state, upstreams
from ojai.lab.shell import as_root
from ojai.lab.state import LineRecord
from ojai.weights.upstream import SECONDS
from tests.lab.contained import KERNEL, Serving, serving
from tests.lab.cutting import Running, must, using
from tests.lab.machine import ROOT
from tests.lab.test_weights import FETCH, FILE, MODEL, SIZE, ends_well, healthy, hub, sent
from tests.operation_names import NAMES

#: Bytes a second of the line: the weight file takes five minutes. What a killed client began goes on without it, so
#: the next deploy has to be there before that ends.
RATE = SIZE // 300
LINE = LineRecord(rtt_ms=40, loss_percent=0.5, rate=RATE)

#: What one cut may cost: the piece that is lost with its connection, and what was on its way.
COST = (1 << 20) + (1 << 19)

BUFFER = 1 << 16

AUTHORITY = ROOT / "tests" / "roles" / "inventories" / "authority.pem"


class Relay:
    """Passes what comes to a port of the bridge on to the same one of loopback, with little in between."""

    def __init__(self, address: str, ports: tuple[int, ...]) -> None:
        self.listening = [self._listen(address, port) for port in ports]
        for listener in self.listening:
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    @staticmethod
    def _listen(address: str, port: int) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        listener.bind((address, port))
        listener.listen()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.socket()
            far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            try:
                far.connect(("127.0.0.1", listener.getsockname()[1]))
            except OSError:
                near.close()
                continue
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pass(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(BUFFER):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def close(self) -> None:
        for listener in self.listening:
            listener.close()


@dataclass(frozen=True)
class Far(Serving):
    """A container whose way to the hub and the registry is a slow and lossy line."""

    def join(self) -> None:
        """Give it its end of the line: it goes with the container's namespace."""
        with using(self.lab):
            record = state.read().containers["lab"]
            bridge.join(record.model_copy(update={"address": bridge.address(bridge.FIRST)}))

    def netns(self, *words: str) -> None:
        """`ip` in the container's network namespace."""
        with using(self.lab):
            subprocess.run(as_root(["ip", "-n", container._machine("lab"), *words]), check=True, capture_output=True)

    def cut_power(self) -> None:
        """Every process of it ends at once. What it has written is in this machine's memory, so that stays."""
        with using(self.lab):
            record = state.read().containers["lab"]
            os.kill(record.process.pid, signal.SIGKILL)
            subprocess.run(as_root(["kill", "-s", "KILL", *container._inside("lab")]), check=False)

    def start_again(self) -> None:
        must(self.lab.ojai("lab", "container", "lab"))
        self.guest.run("timeout 120 systemctl is-system-running --wait")
        self.guest.root(KERNEL)
        self.join()

    def boot_alone(self) -> None:
        """Halt and boot it, without any of the lab's services and without a route that leads outside."""
        with using(self.lab), state.locked():
            records = state.read()
            booted = container.start(records.containers["lab"])
            state.write(records.model_copy(update={"containers": {**records.containers, "lab": booted}}))
        self.netns("route", "del", "default")
        with using(self.lab):
            container.wait_for_ssh(booted)
        self.guest.root(KERNEL)

    def kill_hub(self) -> None:
        with using(self.lab):
            os.kill(state.read().hub.process.pid, signal.SIGKILL)

    def start_hub(self) -> None:
        with using(self.lab), state.locked():
            state.write(upstreams.start_hub(state.read()))


def bridge_of(host: Far) -> str:
    with using(host.lab):
        return bridge.address(1)


def by_the_line(host: Far, **data: object) -> Far:
    """The host with a hub and a registry that it reaches by the line."""
    with using(host.lab):
        records, near = state.read(), f"http://{bridge.address(1)}"
    mirrors = [f"{near}:{records.registry.port}"]
    return host.with_data(hf_endpoint=f"{near}:{records.hub.port}", docker_registry_mirrors=mirrors, **data)


@pytest.fixture(scope="module")
def host() -> Iterator[Far]:
    found = serving(ROOT / ".lab-first-fetch", "overlay2")
    found = Far(replace(found.lab, env={**found.lab.env, "OJAI_LAB_HUB_SIZE": str(SIZE)}))
    with using(found.lab):
        found.renew()
        packages.ensure(packages.LINE_PROGRAMS)
        line = bridge.up(LineRecord(), LINE)
        records = state.read()
        relay = Relay(bridge.address(1), (records.hub.port, records.hub_files.port, records.registry.port))
    there = by_the_line(found)
    there.join()
    yield there
    relay.close()
    there.stop()
    with using(there.lab):
        bridge.down()
    assert line.process


def reaches(host: Far, deploy: Running, share: float) -> None:
    """Return when it fetches, and so much of the weight file was sent, by all runs together."""
    end = time.monotonic() + 1200
    while sent(host) < SIZE * share or deploy.operation != FETCH:
        assert deploy.process.poll() is None, f"the deploy ended early: {deploy.tail()}"
        assert time.monotonic() < end, f"{sent(host)} bytes were sent: {deploy.tail()}"
        time.sleep(0.2)


#: What a plan says is to be fetched, how long that takes, and at which rate.
PLANNED = (
    r": ([\d.]+) MB{of} to {verb}(?:, [\d.]+ MB are there)?; about (\d+) (min|s) "
    r"at ([\d.]+) ([kM])B/s \(measured now\)"
)


def planned(deploy: Running, of: str, verb: str) -> tuple[float, float, float]:
    """Bytes, seconds and bytes a second, as the deploy's own plan has them."""
    pattern = re.compile(PLANNED.format(of=of, verb=verb))
    said = [found.groups() for line in deploy.lines if (found := pattern.search(line))]
    assert len(said) == 1, (pattern, deploy.lines[:60])
    size, number, unit, rate, prefix = said[0]
    units = {"min": 60, "s": 1, "k": 1e3, "M": 1e6}
    return float(size) * 1e6, float(number) * units[unit], float(rate) * units[prefix]


def sent_again() -> int:
    """Packets that this machine has sent once more, because they were lost."""
    names, values = (
        line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Tcp:")
    )
    return int(values[names.index("RetransSegs")])


def cut(host: Far, share: float, how: Callable[[Running], object]) -> Running:
    """A deploy, cut off where that share was sent, to its end."""
    deploy, began, before = Running(host.lab), time.monotonic(), sent(host)
    try:
        reaches(host, deploy, share)
        now = sent(host)
        assert now < SIZE, "all was sent before the deploy could be cut off"
        print(f"cut off after {time.monotonic() - began:.0f} s: {before} bytes sent before, {now} now")
        how(deploy)
        assert deploy.wait(600) != 0
    finally:
        deploy.kill()
    return deploy


@pytest.mark.whole
def test_a_first_deploy_is_cut_off_three_times_and_fetches_no_finished_file_again(host):
    lost = -sent_again()
    first = cut(host, 0.1, lambda deploy: deploy.kill())
    for what in (("", "pull"), (f" of {MODEL}", "fetch")):
        size, seconds, rate = planned(first, *what)
        print(f"planned: {size:.0f} bytes to {what[1]} in {seconds:.0f} s at {rate:.0f} bytes a second, of {RATE}")
        assert RATE / 10 < rate < RATE * 1.5
    assert abs(size - SIZE) < 2e6
    second = cut(host, 0.45, lambda _: host.kill_hub())
    assert any("What to do: " in line for line in second.lines), second.lines[-15:]
    assert not any("Traceback" in line for line in second.lines)
    host.start_hub()
    third = cut(host, 0.75, lambda _: host.cut_power())
    left, _, _ = planned(third, f" of {MODEL}", "fetch")
    assert left < SIZE * 0.75, "what is there of it counts"
    told = re.compile(rf"fetching {MODEL}: [\d.]+ MB of [\d.]+ MB, [\d.]+ [kM]B/s, .* left")
    assert any(told.search(line) for line in third.lines), third.lines[-15:]
    host.start_again()
    done = host.deploy()
    ends_well(done)
    assert FETCH in done.changed and healthy(host)
    counted = hub(host, "/lab/counts")["bytes"]
    record = host.guest.root("cat /var/lib/ojai/weights/*@main").splitlines()
    sizes = {line.split("\t")[3]: int(line.split("\t")[1]) for line in record if line.startswith("file\t")}
    assert {name: counted[f"{MODEL} {name}"] for name in sizes if name != FILE} == {
        name: size for name, size in sizes.items() if name != FILE
    }
    print(f"\n{FILE}: {sizes[FILE]} bytes, {counted[f'{MODEL} {FILE}']} sent by the hub")
    assert sizes[FILE] <= counted[f"{MODEL} {FILE}"] <= sizes[FILE] + 3 * COST
    # Each of the four plans measured the line: by at most so many seconds of it, and what waits on it.
    samples = hub(host, "/lab/counts")["samples"]
    lost += sent_again()
    print(f"packets that were lost: {lost}")
    assert lost > SIZE / 1448 * LINE.loss_percent / 100 / 2
    print(f"read to measure the line, and thrown away: {samples}")
    assert 0 < sum(samples.values()) <= 4 * (SECONDS * RATE * 1.2 + COST)
    ends_well(host.deploy(), [])


@pytest.mark.whole
def test_the_plan_says_what_the_line_gave(host):
    rate = int(host.guest.root("cat /var/lib/ojai/weights/line").split()[0])
    print(f"\nthe line: {rate} bytes a second, of {RATE}")
    assert RATE / 10 < rate < RATE * 1.2


@pytest.mark.whole
def test_a_first_deploy_on_a_host_that_has_it_all_fetches_not_a_byte(host):
    """Its cache is the work of the hub's own client, as far as anybody can see; nothing of ojai's is there of it."""
    before = hub(host, "/lab/counts")
    host.guest.root("rm -r /var/lib/ojai/weights")
    done = host.deploy()
    ends_well(done, [FETCH])
    assert hub(host, "/lab/counts") == before
    ends_well(host.deploy(), [])


@pytest.mark.whole
def test_proxies_and_authorities_are_where_they_are_used(host, tmp_path):
    """apt, the daemon and the container have them; the daemon is not restarted under a container that runs."""
    proxy = "http://127.0.0.1:9"
    data = {"http_proxy": proxy, "no_proxy": ["10.0.2.2", bridge_of(host)], "ca_certificates": [str(AUTHORITY)]}
    behind = by_the_line(host, **data)
    done = behind.deploy()
    assert done.status == 1 and "sudo systemctl restart docker.service" in done.output, done.output[-3000:]
    assert "Running: vllm-gemma4" in done.output and healthy(host)
    assert {NAMES["network-proxies"], NAMES["network-trust"]} <= set(done.changed)
    host.guest.root("systemctl restart docker.service")
    ends_well(behind.deploy())
    assert f"http_proxy={proxy}" in host.guest.root(
        "docker container inspect --format '{{json .Config.Env}}' vllm-gemma4"
    )
    assert proxy in host.guest.root("apt-config dump Acquire::http::Proxy")
    ends_well(behind.deploy(), [])
    found = behind.verify()
    assert found.ok, (found.error, found.failed)
    host.guest.root("docker ps -q | xargs docker rm -f; systemctl stop vllm-gemma4")
    done = host.deploy()
    ends_well(done)
    assert NAMES["network-no-proxies"] in done.changed


@pytest.mark.whole
def test_a_local_only_host_is_deployed_and_restarted_with_every_outside_address_blocked(host):
    """No route leads outside, and the lab's archive, registry and hub are stopped: who asks one fails."""
    alone = by_the_line(host, local_only=True)
    host.netns("route", "del", "default")
    host.netns("link", "del", bridge.INSIDE)
    with using(host.lab), state.locked():
        state.write(upstreams.stop(state.read()))
    try:
        assert host.guest.run("ip route get 192.0.2.1").returncode != 0
        ends_well(alone.deploy(), [])
        host.guest.root("systemctl restart vllm-gemma4")
        assert healthy(host)
        host.boot_alone()
        assert host.guest.run("ip route get 192.0.2.1").returncode != 0
        assert healthy(host)
        ends_well(alone.deploy(), [])
        host.guest.root("systemctl stop vllm-gemma4; rm /etc/systemd/system/vllm-gemma4.service")
        done = alone.deploy()
        ends_well(done)
        assert healthy(host)
        host.guest.root("rm /srv/ojai/huggingface/hub/models--*/snapshots/*/tokenizer.json")
        done = alone.deploy()
        assert done.status == 1 and "local_only set, so that no hub is asked" in done.output, done.output[-3000:]
    finally:
        with using(host.lab), state.locked():
            state.write(upstreams.start(state.read()))
