"""Cases of a reader who had the issue and the documentation alone: certificates of the owner's, and a kernel's rules."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ojai import firewall
from ojai.settings import SettingsError, parse
from tests.gateway.test_firewall import INSIDE, INSIDE6, OUTSIDE, OUTSIDE6, Cable, Namespace, cable, new_namespace
from tests.gateway.test_report import Root, openssl, root

__all__ = ["cable", "root"]


# 33 -------------------------------------------------------------------------------------------------------------------
def signed(folder: Path, name: str, *dates: str) -> tuple[Path, Path]:
    """A certificate with its key, valid between two moments if they are given."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    openssl("ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", key)
    openssl("req", "-x509", "-key", key, "-subj", "/CN=a", "-days", "9", "-out", certificate)
    if dates:
        (folder / "ca").mkdir()
        (folder / "ca/index.txt").write_text("")
        (folder / "ca/serial").write_text("01\n")
        (folder / "ca.cnf").write_text(
            f"[ca]\ndefault_ca=c\n[c]\ndatabase={folder}/ca/index.txt\nserial={folder}/ca/serial\nnew_certs_dir={folder}/ca\n"
            "default_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n"
        )
        request = folder / "a.csr"
        openssl("req", "-new", "-key", key, "-subj", "/CN=a", "-out", request)
        openssl("ca", "-batch", "-config", folder / "ca.cnf", "-selfsign", "-keyfile", key, "-in", request,
                "-startdate", dates[0], "-enddate", dates[1], "-notext", "-out", certificate)  # fmt: skip
    return certificate, key


@pytest.mark.parametrize(
    ("dates", "text"),
    [
        (("20200101000000Z", "20210101000000Z"), "a certificate that has ended"),
        (("20990101000000Z", "20991231000000Z"), "a certificate that is not valid yet"),
    ],
)
def test_33_a_certificate_of_another_time(root: Root, tmp_path: Path, dates: tuple[str, str], text: str) -> None:
    certificate, key = signed(tmp_path, "one", *dates)
    assert root.report(certificate, key).bad == (f"{text} in {certificate}",)


def test_33_files_that_are_none(root: Root, tmp_path: Path) -> None:
    certificate, key = signed(tmp_path, "one")
    assert root.report(certificate, key).bad == () == root.report(certificate, key).missing
    empty = tmp_path / "empty"
    empty.write_text("")
    assert root.report(empty, key).missing == (str(empty),)
    assert root.report(tmp_path / "gone", tmp_path / "gone").missing == (f"{tmp_path}/gone",) * 2
    assert root.report(tmp_path, key).bad[0] == f"no certificate in {tmp_path}"
    assert root.report(certificate, tmp_path).bad == (f"no key of that certificate in {tmp_path}",)
    assert root.report(key, certificate).bad, "the two the wrong way round"
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "nowhere")
    assert root.report(dangling, key).missing == (str(dangling),)


# 34 -------------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def kernel() -> Iterator[Namespace]:
    found = new_namespace()
    yield found
    found.process.kill()
    found.process.wait()


@pytest.mark.parametrize(
    "networks",
    [["10.0.0.0/8", "10.1.0.0/16"], ["10.0.0.1", "10.0.0.1"], ["10.0.0.1/32", "10.0.0.0/31"], ["0.0.0.0/0"],
     ["::/0"], ["0.0.0.0/0", "::/0", "10.0.0.0/8"], ["2001:DB8::/32", "2001:db8::1"], ["10.0.0.0/255.0.0.0"],
     ["10.0.0.0/25", "10.0.0.128/25"], ["fe80::/10"], ["255.255.255.255"], ["0.0.0.0/1", "128.0.0.0/1"]],
    ids=str,
)  # fmt: skip
def test_34_networks_that_are_taken_load(kernel: Namespace, networks: list[str]) -> None:
    kernel.load(firewall.rules(parse("mini", {"firewall_networks": networks})))
    kernel.load(firewall.rules(parse("mini", {"firewall_networks": networks})))
    assert kernel.run("nft", "list", "ruleset").count("table") == 1


@pytest.mark.parametrize(
    "network", ["fe80::1%eth0", "::ffff:192.0.2.0/120", "::ffff:192.0.2.7", "192.0.2.7/24", "192.0.2", "mini", "", "10/8"]
)
def test_34_networks_that_no_packet_comes_from_are_refused(network: str) -> None:
    with pytest.raises(SettingsError, match=r"firewall_networks\[0\]"):
        parse("mini", {"firewall_networks": [network]})


# 35 -------------------------------------------------------------------------------------------------------------------
def test_35_who_gets_through_beside_rules_of_others(cable: Cable) -> None:
    """As ufw has it: its own chains, and a policy that drops. What it drops stays dropped, what it takes is judged."""
    ufw = """table ip ufw {
  chain INPUT {
    type filter hook input priority filter; policy drop;
    iif "lo" accept
    tcp dport { 22, 8443 } accept
  }
}
"""
    cable.host.load(ufw)
    try:
        before = cable.host.run("nft", "-a", "list", "ruleset")
        cable.host.load(firewall.rules(parse("mini", {"firewall_networks": ["192.0.2.0/24"]})))
        assert cable.reached(INSIDE, [22, 8000, 8443]) == [22, 8443], "ufw drops 8000, which ours takes"
        assert cable.reached(OUTSIDE, [22, 8000, 8443]) == [22]
        assert cable.reached(INSIDE6, [22, 8000, 8443]) == [22] == cable.reached(OUTSIDE6, [22, 8443])
        cable.host.run("nft", "delete", "table", "inet", "ojai")
        assert cable.host.run("nft", "-a", "list", "ruleset") == before
    finally:
        cable.host.run("nft", "delete", "table", "ip", "ufw")


def test_35_a_flush_of_everything_is_found(cable: Cable) -> None:
    """As `nft -f /etc/nftables.conf` by hand does it."""
    from ojai.facts.firewall import RulesLoaded

    rules = firewall.rules(parse("mini", {"firewall_networks": ["192.0.2.0/24"]}))
    cable.host.load(rules)
    kept = cable.host.run("nft", "list", "table", "inet", "fw4")
    cable.host.run("nft", "flush", "table", "inet", "ojai")
    assert cable.host.shell(RulesLoaded().command(rules=rules)) == ""
    cable.host.load(rules)
    assert cable.host.shell(RulesLoaded().command(rules=rules)) == "yes\n"
    assert cable.host.run("nft", "list", "table", "inet", "fw4") == kept
    cable.host.run("nft", "delete", "table", "inet", "ojai")
    assert subprocess.run(cable.host.argv("nft", "list", "table", "inet", "ojai"), capture_output=True).returncode
