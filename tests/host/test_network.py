"""Proxies and authorities are those of the inventory."""


def test_proxies_of_apt_are_those_of_the_inventory(mini):
    shown = mini.run("cat /etc/apt/apt.conf.d/95ojai-proxy").stdout
    for scheme, address in (("http", mini.settings.http_proxy), ("https", mini.settings.https_proxy)):
        found = mini.text(f"apt-config dump Acquire::{scheme}::Proxy --format '%v%n' | head -n 1")
        right = found == address if address else f"Acquire::{scheme}::Proxy " not in shown
        assert right, f"{scheme}: {found or 'none'}"


def test_proxies_of_the_daemon_are_those_of_the_inventory(mini):
    wanted = mini.settings.proxies
    if wanted:
        found = mini.text("timeout 20 docker info --format '{{.HTTPProxy}} {{.HTTPSProxy}} {{.NoProxy}}'").split(" ")
        assert found == [wanted.get(name, "") for name in ("http_proxy", "https_proxy", "no_proxy")]


def test_the_owners_authorities_are_trusted_and_no_others(mini):
    found = mini.run("ls /usr/local/share/ca-certificates/ojai-*.crt /etc/docker/certs.d/*/ojai.crt").stdout.split()
    bundle = mini.run("cat /etc/ssl/certs/ca-certificates.crt").stdout
    assert len(found) >= len(mini.settings.ca_certificates), "a certificate of the inventory's is missing"
    assert not found or mini.settings.ca_certificates, f"not named by the inventory: {', '.join(found)}"
    for file in found:
        assert mini.text(f"cat {file}").split("-----END")[0] in bundle, f"{file} is not trusted"
