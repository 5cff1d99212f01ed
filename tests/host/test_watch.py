"""What watches the host: it answers on loopback alone, reads what serves, and its secrets are root's."""

import json
import time

import pytest

FOLDER = "/etc/ojai/watch"
#: Package -> port, where it is this project's.
PORTS = {"prometheus-node-exporter": 9100, "prometheus-alertmanager": 9093}


@pytest.fixture(autouse=True)
def watched(mini):
    if mini.settings.watch == "none":
        pytest.skip("watch is none")


def _ours(mini):
    """The packages that this project installed, each with its port."""
    names = mini.run("cat /var/lib/ojai/added/packages").stdout.split()
    ports = {**PORTS, "prometheus": mini.settings.watch_port}
    return {name: port for name, port in ports.items() if name in names}


def _asked(mini, path):
    return json.loads(mini.text(f"curl -q --noproxy '*' -s -m 10 http://127.0.0.1:{mini.settings.watch_port}{path}"))[
        "data"
    ]


def test_programs_run_at_boot_and_listen_on_loopback_alone(mini):
    listening = [line.split()[3] for line in mini.text("ss -ltnH").splitlines()]
    for name, port in _ours(mini).items():
        shown = mini.text(f"systemctl show {name}.service -p ActiveState,UnitFileState,NeedDaemonReload")
        values = dict(line.split("=", 1) for line in shown.splitlines())
        assert values == {"ActiveState": "active", "UnitFileState": "enabled", "NeedDaemonReload": "no"}, name
        assert [one for one in listening if one.endswith(f":{port}")] == [f"127.0.0.1:{port}"], f"{name} on {listening}"


def test_the_hosts_own_texts_are_new(mini):
    values = mini.text("systemctl show ojai-watch.timer -p ActiveState,UnitFileState --value").split()
    assert values == ["active", "enabled"], "the timer does not run"
    found = mini.text("curl -q --noproxy '*' -s -m 10 http://127.0.0.1:9100/metrics | grep '^ojai_info{\\|ojai.prom'")
    assert "ojai_info{" in found, "node exporter does not tell them"
    (written,) = [float(line.split()[-1]) for line in found.splitlines() if "mtime" in line]
    assert abs(float(mini.text("date +%s")) - written) < 300, "they are older than five minutes"


def test_prometheus_reads_every_service_and_the_host(mini, services):
    if mini.settings.watch != "box":
        pytest.skip("the host has none")
    expected = {"node", *(served.service.name for served in services)}
    end = time.monotonic() + 60  # a target is first read within half a minute
    while True:
        targets = _asked(mini, "/api/v1/targets?state=active")["activeTargets"]
        mine = [one for one in targets if one["labels"].get("job") in ("engine", "node")]
        up = {one["labels"].get("service", "node") for one in mine if one["health"] == "up"}
        if up >= expected or time.monotonic() > end:
            break
        time.sleep(5)
    assert up >= expected, [(one["labels"], one["lastError"]) for one in mine]


def test_prometheus_has_the_alert_rules(mini):
    if mini.settings.watch != "box":
        pytest.skip("the host has none")
    groups = _asked(mini, "/api/v1/rules?type=alert")["groups"]
    found = {rule["name"] for group in groups for rule in group["rules"]}
    expected = mini.text(f"sed -n 's/^ *- alert: //p' {FOLDER}/alerts.yml").split()
    assert found >= set(expected) > set(), "rules of the file that it has not read"
    bad = [rule["name"] for group in groups for rule in group["rules"] if rule["health"] == "err"]
    assert not bad, f"rules that cannot be computed: {bad}"


def test_secrets_of_alerts_are_roots_alone(mini):
    if not mini.settings.watch_secrets or "prometheus-alertmanager" not in _ours(mini):
        pytest.skip("there are none")
    shown = mini.text("stat -c '%U:%a %n' /etc/ojai/watch-secrets /etc/ojai/watch-secrets/*").splitlines()
    rights = {line.split()[0] for line in shown if line.split()[1] != "/etc/ojai/watch-secrets"}
    assert shown[0] == "root:700 /etc/ojai/watch-secrets" and rights == {"root:600"}, shown
    assert len(shown) == 1 + len(mini.settings.watch_secrets), shown
