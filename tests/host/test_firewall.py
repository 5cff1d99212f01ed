"""From where the services are reached: a table of nftables of our own, and nothing in it for anybody else's port."""

import ipaddress
import json

import pytest


@pytest.fixture(autouse=True)
def named(mini, services):
    if not mini.settings.firewall_networks:
        pytest.skip("firewall_networks names none")


def _all(value):
    """A list, or a single one; ``{"set": […]}`` or one element."""
    values = value["set"] if isinstance(value, dict) and "set" in value else [value]
    for one in values:
        prefix = one.get("prefix") if isinstance(one, dict) else None
        yield f"{prefix['addr']}/{prefix['len']}" if prefix else str(one)


def _rules(mini):
    """Chain -> its rules, each as (what is compared, with what) and then what is done."""
    found = {}
    listed = json.loads(mini.text("nft -j list table inet ojai"))["nftables"]
    for rule in (entry["rule"] for entry in listed if "rule" in entry):
        words = []
        for one in rule["expr"]:
            if "match" in one:
                left = one["match"]["left"]
                (what,) = left.values()
                name = f"{what['protocol']} {what['field']}" if "protocol" in what else what["key"]
                words.append((name, one["match"]["op"], tuple(sorted(_all(one["match"]["right"])))))
            elif "counter" not in one:
                words.append(next(iter(one)))
        found.setdefault(rule["chain"], []).append(tuple(words))
    return found, [entry["chain"] for entry in listed if "chain" in entry]


def test_only_the_named_networks_are_let_in(mini, services):
    settings = mini.settings
    rules, chains = _rules(mini)
    assert {(chain["name"], chain.get("hook")) for chain in chains} == {("guarded", None), ("input", "input")}
    (((what, operator, ports), verdict),) = rules["input"]
    assert (what, operator, verdict) == ("tcp dport", "==", "jump")
    must, gateway = {str(served.service.port) for served in services}, {str(settings.gateway_port)}
    # With another exposure, that of a gateway which a rollback would bring back may be among them.
    must |= gateway if settings.exposure == "gateway" else set()
    assert must <= set(ports) <= must | gateway, "other ports than ours, or not all of them"
    *allowed, last = rules["guarded"]
    assert last == ("drop",), "whoever is not named is let in"
    for words in allowed:
        (what, operator, values), verdict = words
        assert (operator, verdict) == ("==", "accept")
        if what == "iifname":
            assert values == ("lo",)
        else:
            assert what in ("ip saddr", "ip6 saddr") and values, "a rule that nobody asked for"
    assert _networks(allowed) == _collapsed(settings.firewall_networks)


def _networks(allowed):
    return {ipaddress.ip_network(value) for ((what, _, values), _) in allowed if what != "iifname" for value in values}


def _collapsed(networks):
    known = [ipaddress.ip_network(network) for network in networks]
    return {
        one
        for version in (4, 6)
        for one in ipaddress.collapse_addresses(network for network in known if network.version == version)
    }


def _unit(mini, name):
    shown = mini.text(
        f"systemctl show {name} -p ActiveState,UnitFileState,NeedDaemonReload,DropInPaths,Before,WantedBy"
    )
    return dict(line.split("=", 1) for line in shown.splitlines())


def test_the_rules_are_loaded_at_boot_before_the_network(mini):
    values = _unit(mini, "ojai-firewall.service")
    assert (values["ActiveState"], values["UnitFileState"]) == ("active", "enabled"), values
    assert values["NeedDaemonReload"] == "no", "the unit was edited and not reloaded"
    assert not values["DropInPaths"], f"it is changed by {values['DropInPaths']}"
    assert "network-pre.target" in values["Before"].split(), "it is loaded after the network is up"


def test_the_rules_are_loaded_again_after_those_of_the_owner(mini):
    """A start of theirs usually begins with the removal of every table."""
    values = _unit(mini, "ojai-firewall-again.service")
    assert values["UnitFileState"] == "enabled", values
    assert "nftables.service" in values["WantedBy"].split(), "a start of nftables.service does not run it"
    assert values["NeedDaemonReload"] == "no", "the unit was edited and not reloaded"
    assert not values["DropInPaths"], f"it is changed by {values['DropInPaths']}"
