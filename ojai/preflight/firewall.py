"""Whether the rules of :mod:`ojai.firewall` leave the host within reach."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from ojai import firewall
from ojai.facts.report import Report
from ojai.preflight import FailedCheck
from ojai.settings import HostSettings


def wanted_packages(settings: HostSettings) -> tuple[str, ...]:
    """What is installed for the rules."""
    return (firewall.PACKAGE,) if firewall.wanted(settings) else ()


def failed(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """That the rules would cut the connection by which they come."""
    if firewall.wanted(settings) and report.came_by.port in firewall.ports(settings):
        yield FailedCheck(
            "firewall",
            f"SSH on port {report.came_by.port}, which firewall_networks would guard",
            "SSH on a port that is neither a service's nor the gateway's: no rule of ours is for SSH",
            "set another `port` or `gateway_port`, or leave out `firewall_networks`",
        )


def warnings(settings: HostSettings, report: Report) -> Iterator[str]:
    """That this computer is not among those that are let in."""
    client = report.came_by.client
    if firewall.wanted(settings) and client:
        networks = map(ipaddress.ip_network, settings.firewall_networks)
        if not any(ipaddress.ip_address(client) in network for network in networks):
            yield (
                f"this computer ({client}, as the host sees it) is not in firewall_networks: SSH works as before, but "
                "the services and the gateway will not answer it"
            )
