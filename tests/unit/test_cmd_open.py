"""``ojai open``: what it prints for each exposure, and that a key is printed only if that is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ojai.cli import main
from ojai.cmdline import open as command
from ojai.facts.gateway import Access

KEY = "ojai-" + "k" * 43
INVENTORY = """
hosts = [
    ("mini", {"ssh_hostname": "192.0.2.11", "ssh_user": "ada", "ssh_port": 2222}),
    ("closed", {"ssh_hostname": "192.0.2.12", "ssh_user": "ada", "exposure": "loopback"}),
    ("wide", {"ssh_hostname": "2001:db8::7", "exposure": "open", "firewall_networks": ["192.0.2.0/24"]}),
    ("gone", {"removed": True}),
]
"""


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Access]:
    """What hosts answer; nothing is connected to."""
    found = {"mini": Access("-----CERTIFICATE-----\n", {"default": KEY, "ci": None})}

    def collect(inventory: str, names: list[str], limit: tuple[str, ...], show: bool) -> tuple[Any, dict[str, str]]:
        asked = {name: found[name] for name in names if name in found}
        if not show:
            asked = {name: Access(one.authority, dict.fromkeys(one.keys)) for name, one in asked.items()}
        return asked, {name: "Could not connect" for name in names if name not in found}

    monkeypatch.setattr(command, "collect_access", collect)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (tmp_path / "hosts.py").write_text(INVENTORY)
    monkeypatch.chdir(tmp_path)
    return found


def run(*words: str) -> Result:
    done = CliRunner().invoke(main, ["open", "hosts.py", *words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    return done


def test_a_gateway_with_all_that_a_client_needs(answers, tmp_path):
    done = run("--limit", "mini")
    assert done.exit_code == 0
    authority = tmp_path / "data/ojai/mini.crt"
    assert authority.read_text() == "-----CERTIFICATE-----\n"
    for text in (
        "vllm-gemma4: https://192.0.2.11:8443/v1",
        "model google/gemma-4-E4B-it",
        f"Trust this authority: {authority}",
        "key default: on the host, in /etc/ojai/gateway/keys/default.key; --show-key prints it",
        f"curl --cacert {authority} https://192.0.2.11:8443/v1/chat/completions",
        "client = openai.OpenAI(base_url='https://192.0.2.11:8443/v1', http_client=",
    ):
        assert text in done.output
    assert KEY not in done.output


def test_the_key_is_shown_only_if_asked_for(answers):
    done = run("--limit", "mini", "--show-key")
    assert f"key default: {KEY}" in done.output
    assert "key ci: on the host, in /etc/ojai/gateway/keys/ci.key, unless that was deleted" in done.output
    assert done.output.count(KEY) == 1, "not in the request too"


def test_its_python_is_python(answers):
    lines = run("--limit", "mini").output.splitlines()
    start = lines.index("  import ssl")
    compile("\n".join(line.strip() if "role" not in line else line[2:] for line in lines[start:]), "shown", "exec")


def test_loopback_is_a_tunnel_and_open_is_said(answers):
    done = run("--limit", "closed", "--limit", "wide")
    assert done.exit_code == 0
    assert "ssh -N -L 8000:127.0.0.1:8000 ada@192.0.2.12" in done.output
    assert "http://127.0.0.1:8000/v1" in done.output
    assert "http://[2001:db8::7]:8000/v1" in done.output
    assert "No key, no TLS: whoever reaches the port can use it." in done.output
    assert done.output.count("From these networks only: 192.0.2.0/24") == 1
    assert "gone" not in done.output


def test_the_same_as_data(answers):
    done = run("--json")
    assert done.exit_code == 0
    hosts = {one["name"]: one for one in json.loads(done.output)["hosts"]}
    assert list(hosts) == ["mini", "closed", "wide"]
    assert hosts["mini"]["services"] == [
        {"name": "vllm-gemma4", "model": "google/gemma-4-E4B-it", "base_url": "https://192.0.2.11:8443/v1"}
    ]
    assert hosts["mini"]["keys"] == {"default": None, "ci": None}
    assert hosts["closed"]["tunnel"].startswith("ssh ") and hosts["wide"]["keys"] == {}
    assert (hosts["wide"]["networks"], hosts["mini"]["networks"]) == (["192.0.2.0/24"], [])
    assert json.loads(run("--json", "--show-key").output)["hosts"][0]["keys"]["default"] == KEY


def test_a_host_that_gives_no_answer_or_has_none_yet_hides_no_other(answers):
    answers.clear()
    done = run()
    assert done.exit_code == 1
    assert "Could not connect" in done.output and "ada@192.0.2.12" in done.output
    answers["mini"] = Access()
    done = run("--limit", "mini")
    assert (done.exit_code, "found no gateway; expected that of a deploy" in done.output) == (1, True)


def test_another_address_and_a_certificate_of_one_s_own(answers, tmp_path):
    own = (
        '"gateway_url": "https://ai.example.net", "gateway_certificate": "/a.pem", "gateway_certificate_key": "/b.pem"'
    )
    (tmp_path / "hosts.py").write_text(f'hosts = [("mini", {{{own}}})]')
    done = run()
    assert "https://ai.example.net/v1" in done.output
    assert "--cacert" not in done.output and "import ssl" not in done.output


FLEET = """
data = {"watch": "fleet", "gateway_metrics_from": ["192.0.2.20"]}
two = [{"gpu_memory_utilization": 0.4}, {"name": "second", "port": 8001, "gpu_memory_utilization": 0.4}]
hosts = [
    ("mini", {"ssh_hostname": "192.0.2.11", **data, "services": two}),
    ("far", {"gateway_url": "https://ai.example.net", **data}),
    ("closed", {"exposure": "loopback"}),
]
"""


def test_what_a_prometheus_of_a_fleet_reads(answers, tmp_path):
    (tmp_path / "hosts.py").write_text(FLEET)
    answers["far"] = Access("-----ANOTHER-----\n", {"default": None})
    done = run("--prometheus", "metrics")
    assert done.exit_code == 0 and "metrics/key" in done.output
    targets = json.loads((tmp_path / "metrics/targets.json").read_text())
    assert [(one["targets"], one["labels"]["host"], one["labels"]["__metrics_path__"]) for one in targets] == [
        (["192.0.2.11:8443"], "mini", "/metrics"),
        (["192.0.2.11:8443"], "mini", "/second/metrics"),
        (["192.0.2.11:8443"], "mini", "/host/metrics"),
        (["ai.example.net:443"], "far", "/metrics"),
        (["ai.example.net:443"], "far", "/host/metrics"),
    ]
    assert {one["labels"]["__scheme__"] for one in targets} == {"https"}
    assert (tmp_path / "metrics/ca.crt").read_text() == "-----CERTIFICATE-----\n-----ANOTHER-----\n"
    text = (tmp_path / "metrics/prometheus.yml").read_text()
    assert "credentials_file: key" in text and "ca_file: ca.crt" in text and KEY not in text


def test_without_anybody_who_may_read_metrics_there_is_nothing_to_write(answers, tmp_path):
    done = CliRunner().invoke(main, ["open", "hosts.py", "--limit", "mini", "--prometheus", "metrics"])
    assert done.exit_code == 1 and "gateway_metrics_from" in done.output and not (tmp_path / "metrics").exists()
