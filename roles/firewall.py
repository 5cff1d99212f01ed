"""Which networks reach the gateway and the services. Owns a table of nftables, its file, its units, nftables if ours.

No rule of anybody else's is touched, ufw's and Docker's included; SSH's port is never among those guarded.
"""

from pyinfra import host
from pyinfra.api.deploy import deploy

from ojai import firewall, gateway
from ojai.facts.files import Existing
from ojai.operations import apt, files
from ojai.operations import firewall as operations
from ojai.settings import HostSettings


@deploy("Firewall")
def apply(*, settings: HostSettings) -> None:
    """With ``firewall_networks``: load the rules, before the gateway and the services start. Without: none."""
    if not firewall.wanted(settings):
        operations.gone(name="Remove rules that are no longer configured")
        return
    rules = firewall.rules(settings, may_come_back=bool(host.get_fact(Existing, paths=gateway.UNIT_FILES[:1])))
    apt.packages(name="Install nftables", names=[firewall.PACKAGE])
    files.text_file(name="Write the firewall's rules", path=firewall.RULES, text=rules)
    for what, (unit, path) in zip(("unit", "second unit"), firewall.UNIT_FILES.items(), strict=True):
        files.text_file(name=f"Write the firewall's {what}", path=path, text=firewall.unit(unit))
    operations.loaded(name="Load the firewall's rules", rules=rules)


@deploy("Firewall: removal")
def remove(*, settings: HostSettings) -> None:
    """Remove the rules, and nftables if it was installed for them."""
    operations.gone(name="Remove the firewall's rules")
    apt.packages_removed(name="Remove nftables", names=[firewall.PACKAGE])
