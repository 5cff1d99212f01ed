"""Who reaches a service: what each exposure makes of the command line, and what contradicts it."""

from __future__ import annotations

from typing import Any

import pytest

from ojai import gateway
from ojai.settings import HostSettings, SettingsError, parse


def command(**data: Any) -> list[str]:
    return list(parse("mini", data).resolved[0].command.docker_argv)


def value(words: list[str], flag: str) -> str | None:
    return words[words.index(flag) + 1] if flag in words else None


CLOSED = ("VLLM_HOST_IP=127.0.0.1", "GLOO_SOCKET_IFNAME=lo", "NCCL_SOCKET_IFNAME=lo",
          "VLLM_MEDIA_URL_ALLOW_REDIRECTS=0", "VLLM_NO_USAGE_STATS=1")  # fmt: skip


@pytest.mark.parametrize("data", [{}, {"exposure": "gateway"}, {"exposure": "loopback"}])
def test_an_engine_that_is_not_open_listens_and_talks_on_loopback(data):
    words = command(**data)
    assert (value(words, "--host"), value(words, "--port")) == ("127.0.0.1", "8000")
    assert set(CLOSED) <= set(words)
    assert value(words, "--allowed-media-domains") == "media.invalid"


def test_open_is_the_guides_exact_command():
    words = command(exposure="open")
    assert words[-4:] == ["--host", "0.0.0.0", "--port", "8000"]
    assert not set(CLOSED) & set(words) and "--allowed-media-domains" not in words


def test_media_come_from_the_named_hosts():
    named = [{"media_domains": ["a.example.net", "b.example.net"]}]
    for exposure in ("gateway", "open"):
        words = command(exposure=exposure, services=named)
        at = words.index("--allowed-media-domains")
        assert words[at + 1 : at + 4] == ["a.example.net", "b.example.net", "--host"]
    own = [{"engine_args": ["--allowed-media-domains", "c.example.net"]}]
    assert command(services=own).count("--allowed-media-domains") == 1


def test_a_variable_of_the_inventory_wins():
    assert "VLLM_NO_USAGE_STATS=0" in command(services=[{"environment": {"VLLM_NO_USAGE_STATS": "0"}}])


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"services": [{"host": "0.0.0.0"}]}, "host: found 0.0.0.0; expected an address of the host's own"),
        ({"services": [{"host": "192.0.2.7"}], "exposure": "loopback"}, "`exposure: loopback`"),
        ({"gateway_port": 8000}, "gateway_port: found 8000, which a service has"),
        ({"gateway_certificate": "/etc/a.pem"}, "gateway_certificate_key: a certificate and its key go together"),
        ({"gateway_certificate_key": "/etc/a.pem"}, "gateway_certificate: a certificate and its key go together"),
        ({"exposure": "public"}, "exposure"),
        ({"gateway_keys": ["../x"]}, "gateway_keys"),
        ({"gateway_keys": ["A key"]}, "gateway_keys"),
        ({"gateway_names": ["a b; DNS:*"]}, "gateway_names"),
        ({"gateway_metrics_from": ["192.0.2.1/24"]}, "gateway_metrics_from"),
        ({"gateway_address": "any; }"}, "gateway_address"),
        ({"gateway_certificate": "/a; load_module x", "gateway_certificate_key": "/b"}, "gateway_certificate"),
    ],
)
def test_what_contradicts_or_is_none_is_refused(data, text):
    with pytest.raises(SettingsError) as refused:
        parse("mini", data)
    assert text in str(refused.value)


def test_addresses_of_the_host_itself_and_a_port_that_no_gateway_has_are_fine():
    assert command(services=[{"host": "127.0.0.1"}]) == command()
    assert value(command(services=[{"host": "::1"}]), "--host") == "::1"
    assert value(command(exposure="open", services=[{"host": "192.0.2.7"}]), "--host") == "192.0.2.7"
    parse("mini", {"exposure": "open", "gateway_port": 8000})


def settings(**data: Any) -> HostSettings:
    return parse("mini", data)


def test_who_has_a_gateway():
    assert gateway.wanted(settings())
    for data in ({"exposure": "open"}, {"exposure": "loopback"}, {"services": []}, {"removed": True}):
        assert not gateway.wanted(settings(**data))


def test_names_of_the_certificate_are_such_and_no_program():
    found = gateway.names(
        settings(gateway_names=["ai.example.net", "2001:db8::1"]), "mini", "@local/x", "", "a b", "$(x)", "mini"
    )
    assert found == ["ai.example.net", "2001:db8::1", "mini"]


def test_what_it_is_to_be_open_is_said_of_each_service():
    (text,) = gateway.open_meaning(settings(exposure="open"))
    assert text.startswith("exposure is open: whoever reaches 0.0.0.0:8000 can use vllm-gemma4")
    for data in ({}, {"exposure": "loopback"}, {"exposure": "open", "removed": True}):
        assert list(gateway.open_meaning(settings(**data))) == []


def test_the_configuration_has_a_place_for_each_path_and_no_other():
    text = gateway.configuration(settings(gateway_metrics_from=["192.0.2.0/24"], gateway_address="::"))
    places = [line.split()[2] for line in text.splitlines() if line.strip().startswith("location = ")]
    assert places == [one.path for one in settings().resolved[0].engine.offered]
    assert text.count("proxy_pass ") == len(places)
    assert "listen [::]:8443 ssl" in text and "allow 192.0.2.0/24;" in text
    assert [line for line in text.splitlines() if "proxy_pass http" in line and "$" in line] == []
