"""Cases of a reader who had the issue and the documentation alone: certificates of owners, and a kernel's rules."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ojai import firewall
from ojai.operations.gateway import _MAKE_KEYS
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
    "network",
    ["fe80::1%eth0", "::ffff:192.0.2.0/120", "::ffff:192.0.2.7", "192.0.2.7/24", "192.0.2", "mini", "", "10/8"],
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


# 12, 13, 32: on the host ----------------------------------------------------------------------------------------------
def made(folder: Path, *lines: str, overlap: int = 0) -> subprocess.CompletedProcess[str]:
    text = f"folder={folder} overlap={overlap}\n{_MAKE_KEYS}"
    given = "".join(f"{line}\n" for line in lines)
    return subprocess.run(["sh", "-c", text], input=given, capture_output=True, text=True, check=False)


as_root_only = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to root")


@as_root_only
@pytest.mark.parametrize(
    "text", ["short", "two words of enough letters", "schlüssel-schlüssel-schlüssel", "a" * 257, "a" * 40 + "\r"]
)
def test_12_a_key_that_an_owner_wrote_and_no_client_can_send(tmp_path: Path, text: str) -> None:
    """Its sum was taken, the deploy said that it is valid, and every request with it was answered with 401."""
    (tmp_path / "default.key").write_text(f"{text}\n", newline="")
    done = made(tmp_path, "default - ")
    assert done.returncode == 1 and "found no key in" in done.stderr and "What to do: " in done.stderr
    assert text not in done.stderr and not (tmp_path / "default.map").exists()


@as_root_only
def test_13_a_key_of_another_name_is_refused_on_the_host(tmp_path: Path) -> None:
    assert made(tmp_path, "a - ").returncode == 0
    (tmp_path / "b.key").write_text((tmp_path / "a.key").read_text())
    done = made(tmp_path, "b - ")
    assert done.returncode == 1 and "found for b the key of a.map; expected one of its own" in done.stderr
    assert not (tmp_path / "b.map").exists(), "what nginx reads is as it was"
    (tmp_path / "b.key").unlink()
    assert made(tmp_path, "b - ").returncode == 0
    # And one that was replaced is not another's before it has ended.
    old = (tmp_path / "a.key").read_text()
    (tmp_path / "a.key").write_text("ojai-" + "n" * 43 + "\n")
    assert made(tmp_path, "a - ", overlap=3600).returncode == 0
    (tmp_path / "b.key").write_text(old)
    assert "the key of a.old.map" in made(tmp_path, "b - ").stderr


@as_root_only
def test_13_two_keys_change_places(tmp_path: Path) -> None:
    """As the operation has it: their maps go before."""
    one, two = ("1" * 64, "2" * 64)
    assert made(tmp_path, f"a {one} ", f"b {two} ").returncode == 0
    for name in "ab":
        (tmp_path / f"{name}.map").unlink()
    assert made(tmp_path, f"a {two} ", f"b {one} ", overlap=60).returncode == 0
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "a.map": f'"{two}" "a";\n', "b.map": f'"{one}" "b";\n'
    }  # fmt: skip


@as_root_only
def test_32_back_to_the_key_of_before(tmp_path: Path) -> None:
    """Each sum is in the maps once, or nginx takes none of them."""
    sums = [f"{number}" * 64 for number in (1, 2)]
    for one in (*sums, sums[0], sums[1]):
        assert made(tmp_path, f"a {one} ", overlap=60).returncode == 0
        said = "".join(file.read_text() for file in sorted(tmp_path.glob("*.map")))
        assert all(said.count(total) <= 1 for total in sums), said
        assert f'"{one}" "a";' in said
