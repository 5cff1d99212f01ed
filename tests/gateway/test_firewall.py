"""The rules of `firewall_networks` in a kernel: who gets through, what of others' stays, and that they come as one.

A host and a client are two network namespaces with a cable between them. Nothing of this machine's network is touched.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from ojai import firewall
from ojai.facts.firewall import RulesLoaded, RulesThere
from ojai.lab.shell import as_root
from ojai.settings import parse

#: Addresses of the client: in a named network, in none; and the same of version 6.
INSIDE, OUTSIDE, INSIDE6, OUTSIDE6 = "192.0.2.9", "198.51.100.9", "2001:db8:1::9", "2001:db8:2::9"
HOST, HOST6 = "203.0.113.1", "2001:db8:3::1"
NETWORKS = ["192.0.2.0/24", "192.0.2.0/25", "2001:db8:1::/64"]

#: What an owner has already: ufw's and Docker's way, with a policy of its own.
OWNERS = """
table ip filter {
    chain INPUT {
        type filter hook input priority filter; policy accept;
        tcp dport 9001 drop
    }
    chain DOCKER {
    }
}
table inet fw4 {
    set known {
        type ipv4_addr
        elements = { 10.0.0.1 }
    }
}
"""

LISTENER = """
import socket, sys, threading
def serve(family, kind, port):
    one = socket.socket(family, kind)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6: one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    one.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))
    if kind == socket.SOCK_DGRAM:
        while True: one.sendto(b"up", one.recvfrom(9)[1])
    one.listen(); held = []
    while True: held.append(one.accept()[0]); held[-1].sendall(b"up")
for port in map(int, sys.argv[1:]):
    for family in (socket.AF_INET, socket.AF_INET6):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            threading.Thread(target=serve, args=(family, kind, port)).start()
print("ready", flush=True)
"""

ASK = """
import json, socket, sys
source, target, kind = sys.argv[1:4]
found = []
for port in map(int, sys.argv[4:]):
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with socket.socket(family, getattr(socket, kind)) as one:
        one.settimeout(1)
        one.bind((source, 0))
        try:
            one.connect((target, port))
            if kind == "SOCK_DGRAM": one.send(b"?")
            if one.recv(9) == b"up": found.append(port)
        except OSError: pass
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Namespace:
    """A network of its own, for as long as its process lives."""

    process: subprocess.Popen[bytes]

    def argv(self, *argv: str) -> list[str]:
        return as_root(["nsenter", f"--target={self.process.pid}", "--net", *argv])

    def run(self, *argv: str, given: str | None = None) -> str:
        done = subprocess.run(self.argv(*argv), input=given, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def shell(self, command: str, given: str | None = None) -> str:
        return self.run("sh", "-c", command, given=given)

    def load(self, rules: str) -> None:
        """As the unit does."""
        self.run("nft", "-f", "-", given=rules)


def new_namespace() -> Namespace:
    process = subprocess.Popen(as_root(["unshare", "--net", "sleep", "900"]))
    own = subprocess.run(["readlink", "/proc/self/ns/net"], capture_output=True, check=True).stdout
    end = time.monotonic() + 30
    while True:
        done = subprocess.run(as_root(["readlink", f"/proc/{process.pid}/ns/net"]), capture_output=True, check=False)
        if done.returncode == 0 and done.stdout not in (own, b""):
            return Namespace(process)
        assert time.monotonic() < end and process.poll() is None, done.stderr
        time.sleep(0.05)


@dataclass(frozen=True)
class Cable:
    """The two ends."""

    host: Namespace
    client: Namespace

    def reached(self, source: str, ports: Sequence[int], kind: str = "SOCK_STREAM") -> list[int]:
        """Those of the ports that answer the client, which comes from this address."""
        target = HOST6 if ":" in source else HOST
        said = self.client.run(sys.executable, "-c", ASK, source, target, kind, *map(str, ports))
        found: list[int] = json.loads(said)
        return found


@pytest.fixture(scope="module")
def cable() -> Iterator[Cable]:
    """Where services, a gateway, SSH and others listen; the owner has rules already."""
    host, client = new_namespace(), new_namespace()
    host.run("ip", "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", str(client.process.pid))
    for end, addresses in (
        (host, [f"{HOST}/32", f"{HOST6}/128"]),
        (client, [INSIDE, OUTSIDE, f"{INSIDE6}/128", f"{OUTSIDE6}/128"]),
    ):
        for one in addresses:
            end.run("ip", "address", "add", one, "dev", "wire", *(["nodad"] if ":" in one else []))
        for link in ("lo", "wire"):
            end.run("ip", "link", "set", link, "up")
        for family in ("-4", "-6"):
            end.run("ip", family, "route", "add", "default", "dev", "wire")
    host.load(OWNERS)
    ports = [str(port) for port in (22, 8000, 8443, 9001, 9002)]
    server = subprocess.Popen(host.argv(sys.executable, "-c", LISTENER, *ports), stdout=subprocess.PIPE)
    assert server.stdout and server.stdout.readline() == b"ready\n"
    yield Cable(host, client)
    for process in (server, host.process, client.process):
        process.kill()
        process.wait()


def rules(**data: object) -> str:
    return firewall.rules(parse("mini", {"firewall_networks": NETWORKS, **data}))


def rest(host: Namespace) -> str:
    """All rules but ours."""
    host.shell("! nft list table inet ojai >/dev/null 2>&1 || nft delete table inet ojai")
    return host.run("nft", "list", "ruleset")


def test_only_the_named_networks_get_through(cable):
    every = [22, 8000, 8443, 9001, 9002]
    before = cable.host.run("nft", "list", "ruleset")
    for source in (INSIDE, OUTSIDE):
        assert cable.reached(source, every) == [22, 8000, 8443, 9002], "without our rules, but with the owner's"
    cable.host.load(rules())
    for source in (INSIDE, INSIDE6):
        assert cable.reached(source, [22, 8000, 8443, 9002]) == [22, 8000, 8443, 9002]
    for source in (OUTSIDE, OUTSIDE6):
        assert cable.reached(source, [22, 8000, 8443, 9002]) == [22, 9002]
    assert cable.reached(INSIDE, [9001]) == [], "what the owner drops stays dropped"
    for source in (INSIDE, OUTSIDE):  # TCP is all that is looked at
        assert cable.reached(source, [8000, 8443], "SOCK_DGRAM") == [8000, 8443]
    # The host itself reaches all of it, by whichever of its addresses.
    for target in ("127.0.0.1", HOST):
        said = cable.host.run(sys.executable, "-c", ASK, target, target, "SOCK_STREAM", "8000", "8443")
        assert json.loads(said) == [8000, 8443]
    assert rest(cable.host) == before, "nothing of the owner's is changed, and ours is gone whole"


def test_without_a_gateway_its_port_is_nobodys_business(cable):
    cable.host.load(rules(exposure="open"))
    assert cable.reached(OUTSIDE, [8000, 8443]) == [8443]
    assert cable.reached(INSIDE, [8000, 8443]) == [8000, 8443]
    cable.host.load(firewall.rules(parse("mini", {"firewall_networks": NETWORKS, "exposure": "open"}), True))
    assert cable.reached(OUTSIDE, [8000, 8443]) == [], "a gateway that a rollback would bring back"


def test_networks_of_one_family_close_the_other(cable):
    cable.host.load(rules(firewall_networks=["2001:db8:1::/64"]))
    assert cable.reached(INSIDE, [22, 8443]) == [22] and cable.reached(INSIDE6, [8443]) == [8443]
    cable.host.load(rules(firewall_networks=["192.0.2.9"]))
    assert cable.reached(INSIDE, [8443]) == [8443] and cable.reached(INSIDE6, [22, 8443]) == [22]


def test_what_is_loaded_is_compared_as_the_kernel_has_it(cable):
    host = cable.host

    def same(text: str) -> bool:
        return host.shell(RulesLoaded().command(rules=text)) == "yes\n"

    rest(host)
    assert not same(rules()) and host.shell(RulesThere().command()) == ""
    host.load(rules())
    assert same(rules()) and host.shell(RulesThere().command()) == "inet ojai\n"
    cable.reached(OUTSIDE, [8443])
    assert same(rules()), "a packet that was counted is no change"
    host.load(rules())
    assert same(rules()) and host.run("nft", "list", "ruleset").count("table inet ojai") == 1
    assert not same(rules(gateway_port=9443)) and not same(rules(firewall_networks=["192.0.2.0/24"]))
    for edit in (
        "insert rule inet ojai guarded accept",
        "add rule inet ojai input tcp dport 22 drop",
        "flush chain inet ojai input",
        "add chain inet ojai other",
    ):
        host.run("nft", *edit.split())
        assert not same(rules()), edit
        host.load(rules())
        assert same(rules()), edit


def test_a_file_that_is_damaged_leaves_the_rules_that_are_loaded(cable):
    """nft takes the whole of it or nothing."""
    cable.host.load(rules())
    for damaged in (rules()[:-40], rules().replace("drop", "dorp"), rules().replace("192.0.2.0/24", "192.0.2.0/240")):
        done = subprocess.run(
            cable.host.argv("nft", "-f", "-"), input=damaged.encode(), capture_output=True, check=False
        )
        assert done.returncode != 0, damaged
        assert cable.host.shell(RulesLoaded().command(rules=rules())) == "yes\n"
    assert cable.reached(OUTSIDE, [22, 8443]) == [22]


def test_a_stream_of_someone_who_is_let_in_no_more_is_cut(cable):
    """And one of someone who stays goes on over the change."""
    talk = """
import socket, sys, time
one = socket.create_connection((sys.argv[2], 8443), 2, (sys.argv[1], 0))
one.recv(9); print("open", flush=True); sys.stdin.readline()
one.sendall(b"x" * 9); time.sleep(1)
# What nobody acknowledges is sent again.
print(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[2], flush=True)
"""
    cable.host.load(rules(firewall_networks=["192.0.2.0/24", "198.51.100.0/24"]))
    streams = [
        subprocess.Popen(cable.client.argv(sys.executable, "-c", talk, source, HOST),
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for source in (INSIDE, OUTSIDE)
    ]  # fmt: skip
    assert all(one.stdout and one.stdout.readline() == b"open\n" for one in streams)
    cable.host.load(rules(firewall_networks=["192.0.2.0/24"]))
    tried = [int(one.communicate(b"go\n", timeout=60)[0]) for one in streams]
    assert tried[0] == 0 and tried[1] > 0, tried


def test_systemd_takes_the_units(tmp_path):
    units = [tmp_path / name for name in firewall.UNIT_FILES]
    for unit in units:
        unit.write_text(firewall.unit(unit.name))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
