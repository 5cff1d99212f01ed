"""Proxies, own authorities and logins to registries: how settings become files, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyinfra.api.exceptions import DeployError

from ojai.roles import docker, network
from ojai.settings import parse
from ojai.settings.host import SettingsError
from ojai.settings.secrets import Source

PEM = Path(__file__).resolve().parents[1] / "roles" / "inventories" / "authority.pem"
PROXIED = {"http_proxy": "http://proxy.lan:3128", "no_proxy": ["registry.lan"]}


def test_apt_the_daemon_and_the_container_have_the_proxies():
    settings = parse("mini", PROXIED)
    assert network.proxies_text(settings).splitlines()[1:] == [
        'Acquire::http::Proxy "http://proxy.lan:3128";',
        'Acquire::http::Proxy::registry.lan "DIRECT";',
        'Acquire::https::Proxy::registry.lan "DIRECT";',
    ]
    without = "localhost,127.0.0.1,registry.lan"
    assert docker.daemon_values(settings) == {"proxies": {"http-proxy": "http://proxy.lan:3128", "no-proxy": without}}
    argv = settings.resolved[0].command.docker_argv
    assert "http_proxy=http://proxy.lan:3128" in argv and f"no_proxy={without}" in argv
    assert not any("proxy" in word for word in parse("mini", {}).resolved[0].command.docker_argv)


def test_a_folder_of_the_owners_is_mounted_under_its_own_path_and_nothing_is_fetched():
    (service,) = parse("mini", {"services": [{"model": "/mnt/usb/gemma-4-E4B-it"}]}).resolved
    assert "type=bind,src=/mnt/usb/gemma-4-E4B-it,dst=/mnt/usb/gemma-4-E4B-it,readonly" in service.command.docker_argv
    assert service.wanted == () and service.brought and service.model_directory == "/mnt/usb/gemma-4-E4B-it"
    (cached,) = parse("mini", {"services": [{"model": "/app/models/gemma-4-E4B-it"}]}).resolved
    assert not cached.brought and cached.model_directory == "/srv/ojai/models/gemma-4-E4B-it"


@pytest.mark.parametrize(
    "data",
    [
        {"http_proxy": "http://ada:geheim@proxy.lan:3128"},
        {"http_proxy": "proxy.lan:3128"},
        {"no_proxy": ["a b"]},
        {"registry_credentials": {"registry.lan": "ada:geheim"}},
        {"registry_credentials": {"https://registry.lan": {"env": "LOGIN"}}},
    ],
)
def test_what_cannot_be_meant_is_refused(data):
    with pytest.raises(SettingsError, match="expected") as raised:
        parse("mini", data)
    assert "geheim" not in str(raised.value)


def test_a_login_is_that_of_the_images_registry():
    logins = {"docker.io": {"env": "A"}, "registry.lan:5000": {"file": "/b"}}
    settings = parse("mini", {"registry_credentials": logins})
    assert settings.login("vllm/vllm-openai-rocm:v0.20.1") == Source(env="A")
    assert settings.login("registry.lan:5000/vllm:1") == Source(file="/b")
    assert settings.login("other.lan/vllm:1") is None


def test_certificates_are_taken_from_files_and_what_is_none_is_refused(tmp_path):
    twice = tmp_path / "twice.pem"
    twice.write_text(f"text before\n{PEM.read_text()}{PEM.read_text()}")
    assert network.certificates(parse("mini", {"ca_certificates": [str(PEM), str(twice)]})) == [PEM.read_text()]
    der, key = tmp_path / "der.crt", tmp_path / "key.pem"
    der.write_bytes(b"\x30\x82\xff")
    key.write_text(f"{PEM.read_text()}-----BEGIN PRIVATE KEY-----\nSECRET\n")
    for file, said in ((der, "no text"), (key, "a private key"), (tmp_path / "none", "No such file")):
        with pytest.raises(DeployError, match=said) as raised:
            network.certificates(parse("mini", {"ca_certificates": [str(file)]}))
        assert "What to do" in str(raised.value) and "SECRET" not in str(raised.value)


def test_docker_is_told_of_authorities_by_the_names_of_the_owners_registries():
    """Docker Hub is not the owner's, and a mirror without TLS has no certificate."""
    own = {"image": "registry.lan:5000/vllm:v0.20.1", "profile": "gemma-4-e4b"}
    mirrors = ["https://mirror.lan", "http://plain.lan:5000"]
    data = {"services": [own], "docker_registry_mirrors": mirrors}
    named = parse("mini", {**data, "ca_certificates": [str(PEM)]})
    assert network.registries(named) == ["mirror.lan", "registry.lan:5000"]
    assert network.registries(parse("mini", data)) == []
    assert network.registries(parse("mini", {"ca_certificates": [str(PEM)]})) == []
