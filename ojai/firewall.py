"""The rule set that lets only the inventory's networks reach the services and the gateway, and its place on a host."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ojai import gateway, resources
from ojai.paths import SECRETS, UNITS
from ojai.settings import HostSettings

RULES = f"{SECRETS}/firewall.nft"
UNIT = "ojai-firewall.service"
#: Runs with each start of the owner's nftables.service.
AGAIN = "ojai-firewall-again.service"
UNIT_FILES = {unit: f"{UNITS}/{unit}" for unit in (UNIT, AGAIN)}
#: The only table that is ours.
TABLE = "inet ojai"
PACKAGE = "nftables"


def wanted(settings: HostSettings) -> bool:
    """Whether the host is to have the rule set."""
    return bool(settings.firewall_networks) and bool(settings.services) and not settings.removed


def ports(settings: HostSettings, may_come_back: bool = False) -> list[int]:
    """The TCP ports that it guards: nothing else is looked at.

    ``may_come_back``: a gateway was here, and a release of before would bring it back.
    """
    own = [settings.gateway_port] if gateway.wanted(settings) or may_come_back else []
    return sorted({*own, *(service.port for service in settings.resolved)})


def _allowed(networks: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """The networks of each family by nft's word for it. Those that overlap are one: nft refuses them otherwise."""
    known = [ipaddress.ip_network(network) for network in networks]
    four = ipaddress.collapse_addresses(one for one in known if isinstance(one, ipaddress.IPv4Network))
    six = ipaddress.collapse_addresses(one for one in known if isinstance(one, ipaddress.IPv6Network))
    for word, found in (("ip", [str(one) for one in four]), ("ip6", [str(one) for one in six])):
        if found:
            yield word, found


def _render(name: str, **values: object) -> str:
    templates = Environment(
        loader=FileSystemLoader(resources.TEMPLATES / "firewall"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    return templates.get_template(name).render(**values)


def rules(settings: HostSettings, may_come_back: bool = False) -> str:
    """What nft reads; see :func:`ports`."""
    return _render(
        "rules.nft.j2", allowed=list(_allowed(settings.firewall_networks)), ports=ports(settings, may_come_back)
    )


def unit(name: str) -> str:
    """The text of one of `UNIT_FILES`."""
    return _render(f"{UNIT}.j2", again=name == AGAIN)
