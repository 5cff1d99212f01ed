"""The gateway on a host: from a box that is open today, by a failed upgrade, to one that is safe; and taken away again.

In a container of the lab, which has no GPU; what is asked is asked from this machine, outside of it.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator

import pytest

from ojai.gateway import FOLDER, UNIT
from ojai.lab import container, vm
from tests.gateway import figures, load
from tests.gateway.load import Client
from tests.lab import manifest
from tests.lab.contained import Serving, serving
from tests.lab.cutting import using
from tests.lab.machine import ROOT, Deploy, Guest
from tests.operation_names import NAMES

pytestmark = pytest.mark.whole

SERVICE = {"profile": "gemma-4-e4b", "start_timeout": 120}
OPEN = {"exposure": "open", "services": [SERVICE]}


@pytest.fixture(scope="module")
def host() -> Iterator[Serving]:
    """A container to which nothing was deployed."""
    found = serving(ROOT / ".lab-gateway", "overlay2")
    found.renew()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def bare(host: Serving) -> dict[str, str]:
    """What is on its disk before anything was deployed."""
    return manifest.take(host.guest)


@pytest.fixture(scope="module")
def opened(host: Serving, bare: dict[str, str]) -> Serving:
    """It serves everybody, as the guides have it."""
    ends_well(host.with_data(**OPEN).deploy())
    return host


@pytest.fixture(scope="module")
def guarded(opened: Serving) -> Serving:
    """It was open, and has a gateway now: an upgrade with the defaults."""
    done = opened.with_data(services=[SERVICE]).deploy()
    ends_well(done)
    # Said beforehand, with what clients have to change.
    assert "vllm-gemma4 answers on port 8000 of the network today" in done.output
    assert "https://HOST:8443/v1 with a key" in done.output
    return opened.with_data(services=[SERVICE])


def ends_well(done: Deploy) -> None:
    assert done.status == 0 and "Traceback" not in done.output, done.output[-6000:]


def inside(guest: Guest, *words: str) -> str:
    """The status of a request from the host itself."""
    return guest.run(f"curl -q --noproxy '*' -s -o /dev/null -m 5 -w '%{{http_code}}' {' '.join(words)}").stdout


def own(guest: Guest) -> str:
    """The guest's address on its network, which is not loopback."""
    return guest.text('ip -4 -o addr show scope global | awk \'$2 !~ /docker/ { sub("/.*", "", $4); print $4; exit }\'')


#: Asks every port, from a network of its own at the other end of a cable: as a neighbour would, and not by loopback.
SCAN = """
unshare --net sleep 900 & pid=$!
trap 'ip link del outside; kill $pid' EXIT
until [ "$(readlink /proc/$pid/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
ip link add outside type veth peer name inside netns $pid
ip link set outside up; ip route add SOURCE/32 dev outside
inside() { nsenter --target=$pid --net "$@"; }
inside ip address add SOURCE/32 dev inside; inside ip link set inside up; inside ip route add default dev inside
inside python3 - ADDRESS <<'end'
import json, socket, sys
found = []
for port in range(1, 65536):
    with socket.socket() as one:
        one.settimeout(1)
        if one.connect_ex((sys.argv[1], port)) == 0:
            found.append(port)
print(json.dumps(found))
end
"""


def scan(guest: Guest, source: str) -> list[int]:
    """The ports of the guest's address that answer somebody with this address, from outside of it."""
    program = SCAN.replace("ADDRESS", own(guest)).replace("SOURCE", source)
    found: list[int] = json.loads(guest.root("set -e\n" + program))
    return found


def reaches(host: Serving, port: int) -> bool:
    """Whether this machine gets an answer from a port of the container's, by a port of its own that leads there."""
    with using(host.lab):
        here = vm.free_port()
        container.forward("lab", here, port)
    request = f"{'https' if port == 8443 else 'http'}://127.0.0.1:{here}/health"
    done = subprocess.run(["curl", "-q", "--noproxy", "*", "-k", "-s", "-m", "5", "-w", "%{http_code}", request],
                          capture_output=True, text=True, check=False)  # fmt: skip
    return done.stdout.endswith("200")


def opened_by(host: Serving) -> Client:
    """By the command's data, with the key."""
    done = host.lab.ojai("open", host.lab.inventory, "--json", "--show-key")
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = json.loads(done.stdout)["hosts"]
    (service,) = found["services"]
    return Client(service["base_url"], found["authority"], service["model"], found["keys"]["default"])


def test_open_is_the_guides_exact_bind(opened: Serving) -> None:
    unit = opened.guest.root("cat /etc/systemd/system/vllm-gemma4.service")
    assert "--host 0.0.0.0 \\\n    --port 8000" in unit
    assert "VLLM_HOST_IP" not in unit and "--allowed-media-domains" not in unit
    assert opened.guest.run(f"test -e /etc/systemd/system/{UNIT}").returncode != 0
    assert reaches(opened, 8000)
    found = opened.with_data(**OPEN).verify()
    assert found.ok, found.failed
    again = opened.with_data(**OPEN).deploy()
    assert (again.status, again.changed) == (0, []), again.output[-3000:]
    assert "exposure is open: whoever reaches 0.0.0.0:8000" in again.output


def test_a_certificate_that_is_none_is_refused_before_anything_is_changed(opened: Serving) -> None:
    opened.guest.root("echo none > /root/own.crt; echo none > /root/own.key")
    bad = {"gateway_certificate": "/root/own.crt", "gateway_certificate_key": "/root/own.key"}
    done = opened.with_data(services=[SERVICE], **bad).deploy()
    assert (done.status, done.changed) == (1, []) and "Traceback" not in done.output
    assert "certificate: found no certificate in /root/own.crt" in done.output, done.output[-3000:]
    opened.guest.root("rm /root/own.crt /root/own.key")


def test_a_gateway_that_cannot_start_leaves_everything_as_it_was(opened: Serving) -> None:
    """A drop-in keeps it down. What serves was not touched."""
    folder = f"/etc/systemd/system/{UNIT}.d"
    opened.guest.root(f"mkdir {folder}; printf '[Service]\\nExecStartPre=/bin/false\\n' > {folder}/x.conf")
    before = opened.guest.root("docker container inspect --format '{{.Id}}' vllm-gemma4")
    done = opened.with_data(services=[SERVICE]).deploy()
    assert done.status != 0 and "Traceback" not in done.output
    assert "still serves: nothing of it was touched" in done.output, done.output[-3000:]
    assert opened.guest.root("docker container inspect --format '{{.Id}}' vllm-gemma4") == before
    assert reaches(opened, 8000) and not reaches(opened, 8443)
    assert opened.guest.run(f"systemctl is-enabled {UNIT}").stdout.strip() == "disabled"
    opened.guest.root(f"rm -r {folder}; systemctl daemon-reload")


def test_an_upgrade_that_fails_is_taken_back(opened: Serving) -> None:
    """The engine does not come up behind the gateway: it is open again, and the gateway is gone."""
    late = {**SERVICE, "environment": {"OJAI_LAB_CRASH_AT": "start"}}
    done = opened.with_data(services=[late]).deploy()
    assert done.status != 0 and "Traceback" not in done.output
    assert "serves again, as before" in done.output, done.output[-3000:]
    assert reaches(opened, 8000) and not reaches(opened, 8443)
    assert opened.guest.run(f"systemctl is-enabled {UNIT}").stdout.strip() == "disabled"


def test_after_the_upgrade_all_is_verified_and_nothing_is_left_to_do(guarded: Serving) -> None:
    found = guarded.verify()
    assert found.ok, found.failed
    again = guarded.deploy()
    assert (again.status, again.changed) == (0, []), again.output[-3000:]


def test_from_outside_there_is_ssh_and_the_gateway(guarded: Serving) -> None:
    """Every port of the container's address; for who is in no named network, SSH alone. And so it is from here."""
    # The inventory names 10.0.2.0/24.
    named, others = scan(guarded.guest, "10.0.2.77"), scan(guarded.guest, "198.51.100.7")
    assert (named, others) == ([22, 8443], [22])
    figures.record("scan", named=named, others=others)
    assert reaches(guarded, 8443) and not reaches(guarded, 8000)


def test_a_client_with_what_ojai_open_prints_is_served(guarded: Serving) -> None:
    """By OpenAI's own package: a chat, a stream, a picture, tools; and a wrong key is refused."""
    client = opened_by(guarded)
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/gateway/openai_client.py")],
        env={**os.environ, "OPENAI_BASE_URL": client.url, "OPENAI_API_KEY": client.key,
             "SSL_CERT_FILE": client.authority},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split(" ")[0] for line in done.stdout.splitlines()] == [
        "chat",
        "stream",
        "picture",
        "tools",
        "refused",
    ]
    told = guarded.lab.ojai("open", guarded.lab.inventory)
    assert client.key not in told.stdout + told.stderr and "--show-key prints it" in told.stdout


def test_commands_that_ask_the_service_reach_it(guarded: Serving) -> None:
    """On the host's loopback through SSH, and as any client through the gateway."""
    client = opened_by(guarded)
    for words, env in (
        ((guarded.lab.inventory,), {}),
        (("--url", client.url, "--model", client.model, "--key-env", "CLIENT_KEY"),
         {"CLIENT_KEY": client.key, "SSL_CERT_FILE": client.authority}),
    ):  # fmt: skip
        done = guarded.lab.ojai("smoke", *words, "--form-only", "--json", env=env)
        assert done.returncode == 0 and client.key not in done.stdout + done.stderr, done.stdout + done.stderr
    done = guarded.lab.ojai("status", guarded.lab.inventory, "--json")
    (found,) = json.loads(done.stdout)["services"]
    assert (found["health"], found["model"]) == (200, client.model), done.stdout


def test_without_a_valid_key_the_engine_is_at_rest(guarded: Serving) -> None:
    """By its own counters: none of them moves."""
    client = opened_by(guarded)
    counters = "curl -q -s --noproxy '*' -m 5 http://127.0.0.1:8000/metrics | grep -v '^#' | grep -v ' 0$' | sort"
    before = guarded.guest.text(counters)
    assert "vllm:request_success_total" in before, before
    wrong = (
        "",
        f"Authorization: Bearer {client.key[:-1]}",
        f"Authorization: Basic {client.key}",
        f"X-Api-Key: {client.key}",
        f"Cookie: Authorization=Bearer {client.key}",
    )
    for header in wrong * 8:
        answer = client.asks({**client.hello, "stream": True}, header)
        assert answer.startswith(b"HTTP/1.1 401 "), answer
    assert guarded.guest.text(counters) == before
    assert client.asks(client.hello).startswith(b"HTTP/1.1 200 ")
    assert guarded.guest.text(counters) != before


def test_64_streams_while_the_engine_is_killed_and_comes_back(guarded: Serving) -> None:
    """From outside of the guest. `make gateway` has it last for two minutes; OJAI_LOAD_SECONDS says how long."""
    guest, seconds = guarded.guest, float(os.environ.get("OJAI_LOAD_SECONDS", "30"))
    slow = guarded.with_data(services=[{**SERVICE, "environment": {"OJAI_LAB_TOKEN_SECONDS": "0.2"}}])
    ends_well(slow.deploy())
    client = opened_by(slow)
    shown = f"systemctl show {UNIT} -p MainPID,NRestarts,ActiveEnterTimestamp"
    gateway = guest.text(shown)
    found = load.streams(client, seconds, lambda: guest.root("docker kill vllm-gemma4") and None)
    assert guest.text(shown) == gateway, "the gateway was restarted"
    figures.record("load", **found)
    ends_well(guarded.deploy())


def test_no_key_is_in_a_log_a_unit_or_a_command_line(guarded: Serving) -> None:
    guest = guarded.guest
    key = guest.root(f"cat {FOLDER}/keys/default.key")
    quoted = '-- "$(cat /etc/ojai/gateway/keys/default.key)"'
    assert key.startswith("ojai-") and len(key) > 40
    assert guest.root(f"journalctl --no-pager -o cat | grep -cF {quoted} || true") == "0"
    assert guest.root(f"grep -rlF {quoted} /etc /var/lib/ojai /var/log /run/systemd 2>/dev/null || true").split() == [
        f"{FOLDER}/keys/default.key"
    ]
    assert key not in guarded.deploy("--diff").output


def test_nginx_s_own_lines_are_in_the_journal_by_our_name(guarded: Serving) -> None:
    """One of a worker that was killed; and those of requests have a name of their own."""
    guest = guarded.guest
    guest.root(f"kill -9 $(pgrep -P $(systemctl show {UNIT} -p MainPID --value) | head -1)")
    lines = "sleep 1; journalctl --sync; journalctl --no-pager -o cat -u ojai-gateway -t"
    said, requests = (guest.root(f"{lines} {name}") for name in ("ojai-gateway", "ojai_gateway"))
    assert "exited on signal 9" in said and "request:" not in said, said[-2000:]
    assert all(json.loads(line)["id"] for line in requests.splitlines()) and requests
    assert reaches(guarded, 8443)


def test_a_revoked_key_is_valid_no_more_and_a_new_one_is(guarded: Serving) -> None:
    guest = guarded.guest
    old = guest.root(f"cat {FOLDER}/keys/default.key")
    done = guarded.with_data(services=[SERVICE], gateway_keys=["laptop"]).deploy()
    ends_well(done)
    assert done.changed == [NAMES["gateway-keys"], NAMES["gateway-running"]]
    new = guest.root(f"cat {FOLDER}/keys/laptop.key")
    models = "-k https://127.0.0.1:8443/v1/models"
    assert inside(guest, "-H", f"'Authorization: Bearer {old}'", models) == "401"
    assert inside(guest, "-H", f"'Authorization: Bearer {new}'", models) == "200"
    ends_well(guarded.deploy())


def test_the_timer_s_service_renews_the_certificate(guarded: Serving) -> None:
    """One that ends in a month. The authority stays, and nginx reads the new one without a restart."""
    guest = guarded.guest
    due = f"""
    cd {FOLDER}; work=$(mktemp -d); openssl req -new -key server.key -subj /CN=due -out $work/csr
    openssl x509 -req -days 30 -set_serial 7 -in $work/csr -CA ca.crt -CAkey ca.key -out $work/crt 2>/dev/null
    cat $work/crt > server.crt; rm -r $work; systemctl reload ojai-gateway
    """
    guest.root(due)
    serial = "openssl s_client -connect 127.0.0.1:8443 </dev/null 2>/dev/null | openssl x509 -noout -serial"
    pid, authority = (f"systemctl show {UNIT} -p MainPID", f"sha256sum {FOLDER}/ca.crt")
    before = [guest.root(command) for command in (pid, authority)]
    assert guest.text(serial) == "serial=07"
    assert guest.text("systemctl show ojai-gateway-renew.timer -p NextElapseUSecRealtime --value")
    guest.root("systemctl start ojai-gateway-renew.service")
    assert guest.text(serial) != "serial=07"
    trusted = f"curl -q --noproxy '*' -s -o /dev/null -m 5 --cacert {FOLDER}/ca.crt https://localhost:8443/health"
    assert guest.root(f"{trusted} && echo yes") == "yes"
    assert [guest.root(command) for command in (pid, authority)] == before
    again = guarded.deploy()
    assert (again.status, again.changed) == (0, []), again.output[-3000:]


def test_only_the_named_networks_reach_it(guarded: Serving) -> None:
    """Beside rules of the owner's, which stay as they are; and theirs, which flush every table, bring ours back."""
    guest = guarded.guest
    guest.root("cp -p /etc/nftables.conf /root/")
    guest.root("printf 'flush ruleset\ntable inet owner { set known { type ipv4_addr; }; }\n' > /etc/nftables.conf")
    guest.root("systemctl start nftables.service")
    others = "nft list ruleset | awk '/^table/ { ours = /inet ojai/ } !ours'"
    before = guest.root(others)
    assert "table inet owner" in before
    elsewhere = guarded.with_data(services=[SERVICE], firewall_networks=["198.51.100.0/24"])
    done = elsewhere.deploy()
    ends_well(done)
    assert done.changed == [NAMES["firewall-rules"], NAMES["firewall-loaded"]]
    assert "is not in firewall_networks: SSH works as before" in done.output
    again = elsewhere.deploy()  # by SSH, from an address that is in none
    assert (again.status, again.changed) == (0, []), again.output[-3000:]
    found = elsewhere.verify()
    assert found.ok, found.failed
    ours = "nft list table inet ojai >/dev/null 2>&1"
    first = "stop nftables.service; systemctl start ojai-firewall.service; systemctl start"
    for way in ("restart", "reload", "stop nftables.service; systemctl start", first):
        # systemctl waits for the owner's unit alone; ours comes after it.
        guest.root(f"systemctl {way} nftables.service; for i in $(seq 60); do {ours} && exit; sleep 0.5; done; exit 1")
        assert guest.run("systemctl is-active ojai-firewall.service").returncode == 0, way
        assert not reaches(guarded, 8443) and inside(guest, "-k https://127.0.0.1:8443/health") == "200", way
    assert guest.root(others) == before
    broken = "echo broken >> /etc/ojai/firewall.nft; systemctl stop ojai-firewall; systemctl restart ojai-gateway"
    assert guest.run(f"sudo sh -c {shlex.quote(broken)}").returncode != 0, "the gateway starts without its rules"
    here = guarded.with_data(services=[SERVICE], firewall_networks=["10.0.2.0/24"])
    done = here.deploy()
    ends_well(done)
    assert reaches(guarded, 8443) and "not in firewall_networks" not in done.output
    ends_well(done := guarded.with_data(services=[SERVICE], firewall_networks=[]).deploy())
    assert done.changed == [NAMES["firewall-unlisted"]]
    assert guest.root(others) == before == guest.root("nft list ruleset")
    guest.root("systemctl stop nftables.service; mv /root/nftables.conf /etc/")
    ends_well(guarded.deploy())


def test_back_to_open_the_gateway_is_stopped(guarded: Serving) -> None:
    done = guarded.with_data(**OPEN).deploy()
    ends_well(done)
    assert NAMES["gateway-stop-unlisted"] in done.changed
    assert reaches(guarded, 8000) and not reaches(guarded, 8443)
    back = guarded.lab.ojai("rollback", guarded.lab.inventory, "--yes")
    assert back.returncode == 0, back.stdout + back.stderr
    assert not reaches(guarded, 8000) and reaches(guarded, 8443), "the gateway came back with its release"
    ends_well(guarded.deploy())


def test_removal_leaves_nothing(guarded: Serving, bare: dict[str, str]) -> None:
    ends_well(guarded.with_data(removed=True, removed_data=True).deploy())
    left = guarded.guest.root(
        "ls -d /etc/ojai /etc/nginx /var/cache/ojai-gateway /etc/systemd/system/*nginx* 2>/dev/null || true"
    )
    assert left == ""
    assert manifest.unexplained(manifest.differences(bare, manifest.take(guarded.guest))) == []
