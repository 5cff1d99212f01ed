"""A host that is watched: alerts that arrive, a dashboard with data, what it costs, beside what the owner has, removed.

In a container of the lab. It has no GPU: files stand for the driver's, where node exporter and the collector look.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ojai import resources, watch
from ojai.lab import vm
from tests.lab import manifest
from tests.lab.conftest import KEEP
from tests.lab.contained import Serving, serving
from tests.lab.machine import ROOT, Deploy, Guest
from tests.operation_names import NAMES
from tests.unit.test_alerts import RULES, prometheus_program

pytestmark = pytest.mark.whole

SECRET = "pLaNtEd-hook"
HOOK = f"http://127.0.0.1:9999/{SECRET}"
SERVICE = {"profile": "gemma-4-e4b", "start_timeout": 120, "tunableop": "tune"}
#: By the gateway's own address too: a Prometheus elsewhere reads through it.
PLAIN = {"services": [SERVICE], "gateway_metrics_from": ["127.0.0.0/8", "10.0.2.0/24"]}
WATCHED = {**PLAIN, "watch": "box", "watch_secrets": {"webhook": {"command": ["echo", HOOK]}}}

#: What is measured for, in seconds.
REST = int(os.environ.get("OJAI_REST_SECONDS", "180"))

#: Driver's files, seen by node exporter and our collector alone; and a receiver that writes down what it gets.
PREPARE = r"""
mkdir -p /opt/lab-sys/drm/card1/device /opt/lab-sys/hwmon/hwmon3
cd /opt/lab-sys/drm/card1/device
echo DRIVER=amdgpu > uevent; echo 37 > gpu_busy_percent
for name in vram gtt vis_vram; do
  echo 34359738368 > mem_info_${name}_total; echo 1073741824 > mem_info_${name}_used
done
python3 - <<'end'
import struct
whole = bytearray(264)
struct.pack_into("<HBB", whole, 0, 264, 3, 0)
struct.pack_into("<7I", whole, 228, 0, 0, 11, 22, 0, 33, 0xFFFFFFFF)
open("gpu_metrics", "wb").write(whole)
end
echo amdgpu > /opt/lab-sys/hwmon/hwmon3/name; echo 61000 > /opt/lab-sys/hwmon/hwmon3/temp1_input
for unit in prometheus-node-exporter ojai-watch; do
  mkdir -p /etc/systemd/system/$unit.service.d
  { echo '[Service]'; echo TemporaryFileSystem=/sys/class
    for each in drm hwmon; do echo BindReadOnlyPaths=/opt/lab-sys/$each:/sys/class/$each; done
  } > /etc/systemd/system/$unit.service.d/zz-lab.conf
done
cat > /root/receiver.py <<'end'
import http.server, json, sys
class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with open("/run/received", "a") as file:
            file.write(json.dumps({"path": self.path, **body}) + "\n")
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", 9999), Receiver).serve_forever()
end
systemd-run --quiet --unit=lab-receiver python3 /root/receiver.py
"""

#: How many bytes and how much of a core a program takes: PSS has its share of what others map too.
COST = r"""
for unit in prometheus prometheus-node-exporter prometheus-alertmanager; do
  pid=$(systemctl show $unit -p MainPID --value); [ "$pid" != 0 ] || continue
  pss=$(awk '/^Pss:/ {print $2}' /proc/$pid/smaps_rollup)
  anon=$(awk '/^Pss_Anon:/ {print $2}' /proc/$pid/smaps_rollup)
  echo "$unit $pss ${anon:-0} $(awk '{print $14 + $15}' /proc/$pid/stat)"
done
"""


def ends_well(done: Deploy) -> Deploy:
    assert done.status == 0 and "Traceback" not in done.output, done.output[-6000:]
    return done


@pytest.fixture(scope="module")
def bare() -> Iterator[Serving]:
    found = serving(ROOT / ".lab-watch", "overlay2")
    if not KEEP or found.guest.run("true").returncode != 0:
        found.renew()
        found.guest.root(PREPARE)
    yield found
    if not KEEP:
        found.stop()


@pytest.fixture(scope="module")
def before(bare: Serving) -> dict[str, str]:
    return manifest.take(bare.guest)


@pytest.fixture(scope="module")
def host(bare: Serving, before: dict[str, str]) -> Serving:
    found = bare.with_data(**WATCHED)
    done = ends_well(found.deploy())
    expected = {NAMES["watch-secret"], NAMES["watch-configured"], NAMES["watch-packages"], NAMES["watch-running"]}
    assert KEEP or expected <= set(done.changed), done.changed
    assert SECRET not in done.output
    return found


def asked(guest: Guest, path: str, **words: str) -> Any:
    url = f"http://127.0.0.1:9090{path}?{urllib.parse.urlencode(words)}"
    return json.loads(guest.text(f"curl -q -s -m 20 --noproxy '*' {shlex.quote(url)}"))["data"]


def value(guest: Guest, query: str) -> list[Any]:
    found: list[Any] = asked(guest, "/api/v1/query", query=query)["result"]
    return found


def within(seconds: float, what: Any, told: str) -> Any:
    """What ``what`` gives once that is something."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {told}"
        time.sleep(5)
    return found


def received(guest: Guest, alert: str, status: str) -> list[Any]:
    """The messages about an alert, as the receiver got them."""
    lines = guest.root("cat /run/received 2>/dev/null || true").splitlines()
    return [
        (message["path"], one)
        for message in map(json.loads, lines)
        for one in message["alerts"]
        if (one["labels"]["alertname"], one["status"]) == (alert, status)
    ]


def ask_the_model(guest: Guest, times: int) -> None:
    body = {"model": "google/gemma-4-E4B-it", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 24}
    words = f"-H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}"
    request = f"curl -q -s -m 60 --noproxy '*' -o /dev/null -f {words} http://127.0.0.1:8000/v1/chat/completions"
    guest.text(f"for i in $(seq {times}); do {request} || exit 1; done")


def test_a_second_run_changes_nothing_and_verify_is_green(host: Serving) -> None:
    again = host.deploy()
    assert (again.status, again.changed) == (0, []), again.output[-3000:]
    found = host.verify()
    assert found.ok, found.failed


def test_all_of_it_listens_on_loopback_alone(host: Serving) -> None:
    lines = host.guest.text("ss -ltnH").splitlines()
    listening = {
        words[3] for words in map(str.split, lines) if words[3].rpartition(":")[2] in ("9090", "9093", "9094", "9100")
    }
    assert listening == {f"127.0.0.1:{port}" for port in (9090, 9093, 9100)}


def test_the_secret_is_roots_alone_and_shown_nowhere(host: Serving) -> None:
    guest = host.guest
    words = f'-e {SECRET[:4]}""{SECRET[4:]}'
    files = guest.root(f"grep -rlF {words} /etc /var/lib /var/log /run/systemd 2>/dev/null || true").split()
    assert files == ["/etc/ojai/watch-secrets/webhook"]
    assert guest.root("stat -c %U:%a /etc/ojai/watch-secrets /etc/ojai/watch-secrets/webhook").split() == [
        "root:700",
        "root:600",
    ]
    for place in ("ps axww -o args", "systemctl cat 'prometheus*'", "journalctl --no-pager -o cat"):
        output = "/dev/shm/output"
        assert guest.root(f"{place} >{output} 2>&1; grep -cF {words} {output}; rm {output}") == "0", place


def test_verify_tells_its_verdict_and_drift(host: Serving) -> None:
    """The checks of a kernel fail in a container: what is told is what was found."""
    done = host.lab.ojai("verify", host.lab.inventory, "--deploy", host.lab.deploy_file, "--json")
    (said,) = json.loads(done.stdout)["hosts"]
    assert "were not told" not in done.stderr, done.stderr
    failed = sum(one["outcome"] == "failed" for one in said["checks"])
    counted = 'ojai_verify_checks{outcome="failed"}'
    found = within(180, lambda: value(host.guest, counted), "the verdict")
    assert float(found[0]["value"][1]) == failed
    drifted = [one["outcome"] == "failed" for one in said["checks"] if one["area"] == "drift"]
    assert [float(one["value"][1]) for one in value(host.guest, "ojai_drift")] == [float(drifted[0])]


def test_every_query_of_the_dashboard_has_data(host: Serving) -> None:
    guest = host.guest
    within(240, lambda: ask_the_model(guest, 12) or time.sleep(20) or value(
        guest, "rate(vllm:prefix_cache_hits_total[5m]) and on (host) rate(ojai_gpu_throttle_residency_total[5m])"
    ), "two readings")  # fmt: skip
    board = json.loads((resources.FILES / "dashboards/ojai.json").read_text())
    empty, drawn = [], []
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"].replace("$__rate_interval", "5m")
            query = query.replace("$host", ".*").replace("$service", ".*")
            found = value(guest, query)
            real = [one for one in found if one["value"][1] != "NaN"]
            if not real:
                empty.append(f"{panel['title']}: {query}")
            now = time.time()
            series = asked(guest, "/api/v1/query_range", query=query, start=str(now - 600), end=str(now), step="15")
            drawn.append({"panel": panel["id"], "legend": target.get("legendFormat", ""), "result": series["result"]})
    if place := os.environ.get("OJAI_DRAWN"):
        Path(place).write_text(json.dumps(drawn))
    assert not empty, "\n".join(empty)
    assert len(drawn) > 25


def test_a_fleets_prometheus_reads_it_through_the_gateway(host: Serving, tmp_path: Path) -> None:
    """One on this machine, from what `ojai open --prometheus` writes, with TLS and a key."""
    folder = tmp_path / "fleet"
    done = host.lab.ojai("open", host.lab.inventory, "--prometheus", str(folder), "--json", "--show-key")
    assert done.returncode == 0, done.stderr
    (opened,) = json.loads(done.stdout)["hosts"]
    (folder / "key").write_text(opened["keys"]["default"])
    port = vm.free_port()
    argv = [prometheus_program(), f"--config.file={folder}/prometheus.yml", f"--web.listen-address=127.0.0.1:{port}"]
    running = subprocess.Popen([*argv, f"--storage.tsdb.path={tmp_path}/data"], stderr=(tmp_path / "log").open("w"))
    try:
        url = f"http://127.0.0.1:{port}/api/v1/query?query=up"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

        def up() -> dict[str, str]:
            try:
                result = json.loads(opener.open(url, timeout=5).read())["data"]["result"]
            except OSError:
                return {}
            return {one["metric"]["job"]: one["value"][1] for one in result}

        found = within(90, lambda: up() if up().keys() == {"engine", "node"} else None, "both targets")
        assert found == {"engine": "1", "node": "1"}, (tmp_path / "log").read_text()[-2000:]
    finally:
        running.terminate()
        running.wait(30)


def test_a_killed_engine_is_told_and_so_is_its_recovery(host: Serving) -> None:
    guest = host.guest
    guest.root("rm -f /run/received")
    folder = "/run/systemd/system/vllm-gemma4.service.d"
    guest.root(
        f"mkdir -p {folder}; printf '[Service]\\nExecStartPre=/bin/false\\n' > {folder}/x.conf; systemctl daemon-reload"
    )
    guest.root("docker kill vllm-gemma4")
    killed = time.monotonic()
    (path, alert), *_ = within(420, lambda: received(guest, "EngineDown", "firing"), "the message")
    told = time.monotonic() - killed
    assert path == f"/{SECRET}"
    assert alert["labels"]["service"] == "vllm-gemma4" and alert["labels"]["host"] == "lab"
    assert alert["annotations"]["doctor"] == RULES["EngineDown"]["annotations"]["doctor"]
    assert "vllm-gemma4 on lab does not answer" in alert["annotations"]["summary"]
    guest.root(
        f"rm -r {folder}; systemctl daemon-reload; systemctl reset-failed vllm-gemma4; systemctl start vllm-gemma4"
    )
    started = time.monotonic()
    within(420, lambda: received(guest, "EngineDown", "resolved"), "the message of recovery")
    print(f"killed, told after {told:.0f} s; started, recovery told after {time.monotonic() - started:.0f} s")


def test_watching_costs_little(host: Serving) -> None:
    """At rest: nothing but what is read and computed all the time."""
    guest = host.guest
    within(120, lambda: guest.run("curl -sf -m 5 http://127.0.0.1:8000/health").returncode == 0, "the engine")

    def taken() -> dict[str, tuple[int, int, int]]:
        lines = map(str.split, guest.root(COST).splitlines())
        return {name: (int(pss), int(anon), int(ticks)) for name, pss, anon, ticks in lines}

    first, start = taken(), time.monotonic()
    time.sleep(REST)
    last, seconds = taken(), time.monotonic() - start
    guest.root("systemctl start ojai-watch.service")
    own = int(guest.root("systemctl show ojai-watch.service -p CPUUsageNSec --value")) / 1e9 / 60
    core = {name: (last[name][2] - first[name][2]) / 100 / seconds for name in last} | {
        "ojai-watch, once a minute": own
    }
    memory = {name: pss / 1024 for name, (pss, _, _) in last.items()}
    for name in core:
        anon = last[name][1] / 1024 if name in last else 0
        print(f"{name}: {memory.get(name, 0):.1f} MiB PSS ({anon:.1f} anonymous), {100 * core[name]:.2f} % of a core")
    print(f"together: {sum(memory.values()):.1f} MiB, {100 * sum(core.values()):.2f} % of a core, over {seconds:.0f} s")
    assert sum(memory.values()) <= 150
    assert sum(core.values()) <= 0.01


def test_an_edit_by_hand_is_found_and_undone(host: Serving) -> None:
    guest = host.guest
    place = watch.DROP_INS["prometheus"]
    guest.root(
        f"sed -i 's/127.0.0.1:9090/0.0.0.0:9090/' {place}; systemctl daemon-reload; systemctl restart prometheus"
    )
    found = host.verify()
    assert any("programs run at boot and listen on loopback alone" in one for one in found.failed), found.failed
    done = ends_well(host.deploy())
    assert done.changed == [NAMES["watch-configured"], NAMES["watch-running"]]
    guest.root("systemctl disable --now ojai-watch.timer")
    assert any("texts are new" in one for one in host.verify().failed)
    assert ends_well(host.deploy()).changed == [NAMES["watch-running"]]


def test_without_a_receiver_there_is_no_alertmanager(host: Serving) -> None:
    done = ends_well(host.with_data(**PLAIN, watch="box").deploy())
    assert {NAMES["watch-configured"], NAMES["watch-unneeded"], NAMES["watch-running"]} <= set(done.changed)
    assert host.guest.run("dpkg -s prometheus-alertmanager").returncode != 0
    assert host.guest.run("sudo ls /etc/ojai/watch-secrets").returncode != 0
    again = host.with_data(**PLAIN, watch="box").deploy()
    assert (again.status, again.changed) == (0, []), again.output[-3000:]


def test_what_is_no_longer_watched_is_gone(host: Serving) -> None:
    done = ends_well(host.with_data(**PLAIN).deploy())
    assert NAMES["watch-unlisted"] in done.changed
    assert host.guest.run("dpkg -s prometheus").returncode != 0
    again = host.with_data(**PLAIN).deploy()
    assert (again.status, again.changed) == (0, []), again.output[-3000:]


def test_a_prometheus_of_the_owners_is_joined_and_not_touched(host: Serving) -> None:
    guest = host.guest
    install = "DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install"
    guest.root(f"{install} prometheus prometheus-node-exporter >/dev/null 2>&1")
    box = host.with_data(**PLAIN, watch="box")
    refused = box.deploy()
    assert (refused.status, refused.changed) == (1, []), refused.output[-3000:]
    assert f"add to its configuration rule_files: [{watch.ALERTS}]" in refused.output
    added = (
        f"\nscrape_configs:\n  - job_name: ojai\n    file_sd_configs: [{{files: [{watch.TARGETS}]}}]\n"
        f"rule_files: [{watch.ALERTS}]\n"
    )
    guest.root(f"printf 'global: {{scrape_interval: 15s}}%s' {shlex.quote(added)} > /etc/prometheus/prometheus.yml")
    guest.root("systemctl restart prometheus")
    files = "sha256sum /etc/prometheus/*.yml /etc/default/prometheus*; dpkg -l 'prometheus*' | sha256sum"
    theirs, pid = guest.root(files), guest.text("systemctl show prometheus -p MainPID")
    ends_well(box.deploy())
    again = box.deploy()
    assert (again.status, again.changed) == (0, []), again.output[-3000:]
    assert (guest.root(files), guest.text("systemctl show prometheus -p MainPID")) == (theirs, pid)
    guest.root("systemctl reload prometheus")  # or it looks for a file that was not there within five minutes
    found = within(90, lambda: value(guest, 'up{job="engine"} == 1 and on (host) ojai_info'), "theirs reads ours")
    assert found[0]["metric"]["service"] == "vllm-gemma4"
    ends_well(host.with_data(**PLAIN).deploy())
    assert (guest.root(files), guest.text("systemctl show prometheus -p MainPID")) == (theirs, pid)
    assert guest.run("test -e /var/lib/prometheus/node-exporter/ojai.prom").returncode != 0
    guest.root("DEBIAN_FRONTEND=noninteractive apt-get -qq -y --auto-remove purge prometheus prometheus-node-exporter")
    guest.root("userdel prometheus; rmdir /var/lib/prometheus 2>/dev/null || true")


def test_removal_leaves_nothing(host: Serving, before: dict[str, str]) -> None:
    ends_well(host.deploy())
    ends_well(host.with_data(**WATCHED, removed=True, removed_data=True).deploy())
    assert manifest.unexplained(manifest.differences(before, manifest.take(host.guest))) == []
