"""Where a service's things are on a host: all of it follows from the service's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

UNITS = "/etc/systemd/system"
SECRETS = "/etc/ojai"

#: Sorts after 99-sysctl.conf (/etc/sysctl.conf on Ubuntu) and other 99- files.
SYSCTL_DROP_IN = "/etc/sysctl.d/99-zz-ojai.conf"

#: Servers of the owner's that gave way to ours, as they were.
ADOPTED = "/var/lib/ojai/adopted"

#: What came of the last rollout to a host. A deploy that begins takes it away: from then on it is not true.
ROLLOUT = "/var/lib/ojai/rollout"

#: Version of the format of what a host keeps under /var/lib/ojai: the ledger and the releases. Version 0 is the same
#: format from before it had a number. Version 2 also has what was kept of the owner's; an older ojai would delete it.
SCHEMA = 2


def unit_file(name: str) -> str:
    """The systemd unit of the service of this name."""
    return f"{UNITS}/{name}.service"


def env_file(name: str) -> str:
    """The file of its secrets and local variables."""
    return f"{SECRETS}/{name}.env"


def secrets_folder(name: str) -> str:
    """The folder of its secrets that are files."""
    return f"{SECRETS}/{name}.secrets"


class _Named(Protocol):
    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class ApiPaths:
    """Paths of a server's HTTP API.

    + health: answers 200 once the server is ready
    + models: lists what it serves, as OpenAI's API does
    + metrics: Prometheus text
    """

    health: str
    models: str
    metrics: str


@dataclass(frozen=True)
class Offered:
    """A path of an engine's server that the gateway passes on, with these methods.

    + key: whether a key is asked for
    + body: the request may be as large as a picture or a recording
    + metrics: only the addresses may ask that the host's settings name
    + why: what it is for
    """

    path: str
    methods: tuple[str, ...]
    why: str
    key: bool = True
    body: bool = False
    metrics: bool = False


class ServicePaths:
    """To be inherited by what has a service's ``name``."""

    @property
    def unit(self: _Named) -> str:
        """Name of its systemd unit."""
        return f"{self.name}.service"

    @property
    def unit_file(self: _Named) -> str:
        """Where its unit is on the host."""
        return unit_file(self.name)

    @property
    def env_file(self: _Named) -> str:
        """Where its secret variables are on the host."""
        return env_file(self.name)

    @property
    def secrets_folder(self: _Named) -> str:
        """Where its secrets are that are files."""
        return secrets_folder(self.name)
