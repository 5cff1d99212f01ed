"""Cases of a reader who had the issue and the documentation alone: what an inventory may say, and what `open` prints.

Each was written down before the code was read; the number is the one in that list.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ojai.cli import main
from ojai.cmdline import open as open_command
from ojai.facts.gateway import Access
from ojai.facts.report import Report
from ojai.facts.report.firewall import CameBy
from ojai.preflight import firewall
from ojai.settings import SettingsError, parse

SECRET = "hf_SEKRETsekretSEKRET"
SOURCE = {"env": "ANY"}


def refused(**data: Any) -> str:
    with pytest.raises(SettingsError) as found:
        parse("mini", data)
    return str(found.value)


def command(**data: Any) -> list[str]:
    return list(parse("mini", data).resolved[0].command.docker_argv)


def after(words: list[str], flag: str) -> str:
    return words[words.index(flag) + 1]


def test_01_nobody_reaches_the_engine_by_default() -> None:
    words = command()
    assert after(words, "--host") == "127.0.0.1"
    assert {"VLLM_HOST_IP=127.0.0.1", "VLLM_NO_USAGE_STATS=1", "VLLM_MEDIA_URL_ALLOW_REDIRECTS=0"} <= set(words)
    assert after(words, "--allowed-media-domains") == "media.invalid"


def test_02_one_line_is_the_guides_bind() -> None:
    open_, closed = command(exposure="open"), command()
    assert after(open_, "--host") == "0.0.0.0"
    added = [word for word in closed if word not in open_]
    assert [word for word in open_ if word not in closed] == ["0.0.0.0"]
    assert all(re.match(r"VLLM_|GLOO|NCCL|--allowed-media|media\.invalid|127\.0\.0\.1", word) for word in added)


@pytest.mark.parametrize("value", ["Gateway", "closed", True, None, "", "open ", ["open"], 0])
def test_03_an_exposure_that_is_none(value: Any) -> None:
    text = refused(exposure=value)
    assert "exposure: found" in text and "gateway, loopback, open" in text and "\n" not in text


@pytest.mark.parametrize("exposure", ["gateway", "loopback"])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::0", "192.0.2.4", "::ffff:0.0.0.0", "0:0:0:0:0:0:0:0"])
def test_04_an_engine_that_listens_past_the_gateway(exposure: str, host: str) -> None:
    assert f"`exposure: {exposure}`" in refused(exposure=exposure, services=[{"host": host}])


def test_05_a_port_for_two() -> None:
    assert "gateway_port: found 8000" in refused(gateway_port=8000)
    share = {"gpu_memory_utilization": 0.4}
    assert "services[1].port" in refused(services=[{"name": "a", **share}, {"name": "b", **share}])


@pytest.mark.parametrize(
    "words",
    [
        ["--host", "0.0.0.0"],
        ["--host=0.0.0.0"],
        ["--port", "9"],
        ["--api-key", SECRET],
        [f"--api-key={SECRET}"],
        ["--config", "/x.yaml"],
    ],
)
def test_06_arguments_around_the_settings(words: list[str]) -> None:
    assert SECRET not in refused(services=[{"engine_args": words}])


@pytest.mark.parametrize(
    "name",
    [
        "VLLM_API_KEY",
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "DB_PASSWORD",
        "S3_SECRET",
        "WANDB_API_KEY",
    ],
)
def test_07_a_secret_as_a_variable_of_the_inventory(name: str) -> None:
    text = refused(services=[{"environment": {name: SECRET}}])
    assert "secret-in-argv" in text and name in text and SECRET not in text


def test_07_what_is_no_secret_is_none() -> None:
    for name, value in (
        ("GOOGLE_APPLICATION_CREDENTIALS", "/keys/a.json"),
        ("TOKENIZERS_PARALLELISM", "false"),
        ("MAX_TOKENS", "9"),
    ):
        assert f"{name}={value}" in command(services=[{"environment": {name: value}}])
    assert "dev-mode" in refused(services=[{"environment": {"VLLM_SERVER_DEV_MODE": "1"}}])


def test_08_the_engine_s_own_key_behind_the_gateway() -> None:
    assert "VLLM_API_KEY" in refused(service_secrets={"VLLM_API_KEY": SOURCE})
    assert "VLLM_API_KEY" in refused(services=[{"secrets": {"VLLM_API_KEY": SOURCE}}])
    for exposure in ("open", "loopback"):
        parse("mini", {"exposure": exposure, "service_secrets": {"VLLM_API_KEY": SOURCE}})


@pytest.mark.parametrize(
    "names",
    [["a", "a"], ["a", "b", "a"], ["läptop"], ["A"], ["../x"], [""], ["-a"], ["a" * 33], ["a\n"], [1], "a", ["a.old"]],
)
def test_09_names_of_keys(names: Any) -> None:
    assert refused(gateway_keys=names).startswith("mini: gateway_keys")


def test_10_no_key_at_all() -> None:
    """`ojai open` would take such a host for one that was never deployed."""
    assert "another `exposure`" in refused(gateway_keys=[])
    parse("mini", {"gateway_keys": [], "exposure": "loopback"})


def test_11_a_key_that_nobody_has() -> None:
    assert "expected names of gateway_keys" in refused(gateway_key_sources={"laptop": SOURCE})
    assert "expected names of gateway_keys" in refused(gateway_keys_renewed={"laptop": "x"})
    both = {"gateway_key_sources": {"default": SOURCE}, "gateway_keys_renewed": {"default": "x"}}
    assert "change its secret" in refused(**both)


def test_33_half_a_certificate() -> None:
    assert "go together" in refused(gateway_certificate="/x")
    assert "go together" in refused(gateway_certificate_key="/x")


@pytest.mark.parametrize("port", [22, 2222])
def test_36_ssh_is_not_guarded(port: int) -> None:
    for data in ({"gateway_port": port}, {"services": [{"port": port}]}):
        settings = parse("mini", {"firewall_networks": ["192.0.2.0/24"], **data})
        (found,) = firewall.failed(settings, Report(came_by=CameBy("192.0.2.9", port)))
        assert f"SSH on port {port}" in str(found)
        assert not list(firewall.failed(parse("mini", data), Report(came_by=CameBy("192.0.2.9", port))))


@pytest.mark.parametrize(
    "data",
    [
        *({"service_secrets": {"HF_TOKEN": value}} for value in (
            SECRET, [SECRET], [{"env": SECRET}], {"value": SECRET}, {"env": [SECRET]}, {"env": f"HF_TOKEN={SECRET}"},
            {"ENV": SECRET}, {"command": SECRET}, {"command": {SECRET: 1}}, {"env": "A", "default": SECRET})),
        {"service_secrets": f"HF_TOKEN={SECRET}"},
        {"service_secrets": [f"HF_TOKEN={SECRET}"]},
        {"services": [{"secrets": {"HF_TOKEN": SECRET}}]},
        {"services": [{"secrets": [f"HF_TOKEN={SECRET}"]}]},
        {"services": [{"secrets": f"HF_TOKEN={SECRET}"}]},
        {"registry_credentials": {"ghcr.io": f"ada:{SECRET}"}},
        {"registry_credentials": {f"ada:{SECRET}@ghcr.io": SOURCE}},
        {"registry_credentials": [f"ghcr.io={SECRET}"]},
        {"gateway_key_sources": {"default": SECRET}},
        {"gateway_key_sources": [SECRET]},
        {"HF_TOKEN": SECRET},
        {"hf_token": SECRET},
        {"services": [{"HF_TOKEN": SECRET}]},
    ],
)  # fmt: skip
def test_37_a_secret_in_the_inventory_is_not_said(data: dict[str, Any]) -> None:
    assert SECRET not in refused(**data)


def test_39_a_secret_that_a_variable_would_hide() -> None:
    """docker takes `-e` before `--env-file`."""
    plain = {"environment": {"FOO": "x"}}
    assert "take it out of `environment`" in refused(services=[{**plain, "secrets": {"FOO": SOURCE}}])
    assert "take it out of `environment`" in refused(services=[plain], service_secrets={"FOO": SOURCE})


@pytest.mark.parametrize(
    "name", ["https://ghcr.io", "ghcr.io/", "ghcr.io/owner", "a b", "", "https://index.docker.io/v1/"]
)
def test_39_names_of_registries(name: str) -> None:
    assert "expected a registry as images name it" in refused(registry_credentials={name: SOURCE})


def test_39_which_login_is_used() -> None:
    settings = parse("mini", {"registry_credentials": {"docker.io": SOURCE, "ghcr.io": {"env": "OTHER"}}})
    assert settings.login("vllm/vllm:1") == settings.registry_credentials["docker.io"]
    assert settings.login("ghcr.io/a/b:1") == settings.registry_credentials["ghcr.io"]
    assert settings.login("registry.example.net:5000/a:1") is None


def test_40_a_hardened_command_is_what_its_page_says() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/hardening.md").read_text()
    lines = page.split("```")[1].splitlines()
    gone = [line[2:] for line in lines if line.startswith("- ")]
    new = [line[2:] for line in lines if line.startswith("+ ")]
    plain, hard = command(), command(services=[{"hardened": True}])
    assert [word for word in plain if word not in hard] == gone
    assert not [word for word in hard if word not in plain and word not in new and "/dev/dri" not in word]
    for word in ("--ipc=private", "--cap-drop=ALL", "no-new-privileges", "--read-only", "--pids-limit=4096"):
        assert word in new and word in hard


def test_40_what_does_not_go_with_hardened() -> None:
    assert "port: found 80" in refused(services=[{"hardened": True, "port": 80}])
    assert "data_owner" in refused(services=[{"hardened": True}], data_owner="ada")


INVENTORY = """
hosts = [
    ("mini", {"ssh_hostname": "192.0.2.11", "gateway_keys": ["laptop", "ci"],
              "gateway_key_sources": {"laptop": {"command": ["pass", "show", "x"]}}}),
    ("closed", {"ssh_hostname": "192.0.2.12", "ssh_user": "ada", "ssh_port": 2222, "exposure": "loopback"}),
    ("wide", {"ssh_hostname": "192.0.2.13", "exposure": "open"}),
    ("inner", {"ssh_hostname": "192.0.2.14", "exposure": "open", "services": [{"host": "10.0.0.4"}]}),
    ("own", {"ssh_hostname": "192.0.2.15", "exposure": "open", "services": [{"host": "127.0.0.1"}]}),
    ("dead", {"ssh_hostname": "192.0.2.16"}),
]
"""
KEY = "ojai-" + "k" * 43


def test_40_open_says_what_is_true(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def collect(inventory: str, names: list[str], limit: tuple[str, ...], show: bool) -> Any:
        return {"mini": Access("-----CERTIFICATE-----\n", {"ci": KEY if show else None, "laptop": None})}, {
            "dead": "could not connect"
        }

    monkeypatch.setattr(open_command, "collect_access", collect)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    Path("hosts.py").write_text(INVENTORY)
    done = CliRunner().invoke(main, ["open", "hosts.py"])
    assert done.exit_code == 1 and "could not connect" in done.output and KEY not in done.output
    assert "key laptop: in the command pass; the host has its sum alone" in done.output
    assert "key ci: on the host, in /etc/ojai/gateway/keys/ci.key; --show-key prints it" in done.output
    for text in ("http://192.0.2.13:8000/v1", "http://10.0.0.4:8000/v1", "http://127.0.0.1:8000/v1",
                 "-L 8000:127.0.0.1:8000 -p 2222 ada@192.0.2.12"):  # fmt: skip
        assert text in done.output
    assert "http://192.0.2.14" not in done.output and "http://192.0.2.15" not in done.output
    data = json.loads(CliRunner().invoke(main, ["open", "hosts.py", "--json"]).output)["hosts"]
    assert [one["name"] for one in data if one["failure"]] == ["dead"]
    assert KEY not in json.dumps(data)
    assert (
        json.loads(CliRunner().invoke(main, ["open", "hosts.py", "--json", "--show-key"]).output)["hosts"][0]["keys"][
            "ci"
        ]
        == KEY
    )
