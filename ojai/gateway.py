"""The gateway: nginx in front of the engines. Where its things are on a host, and its configuration as text."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ojai import resources
from ojai.engines import ResolvedService
from ojai.paths import SECRETS, UNITS, Offered
from ojai.settings import HostSettings

FOLDER = f"{SECRETS}/gateway"
CONFIGURATION = f"{FOLDER}/nginx.conf"
SCRIPT = f"{FOLDER}/key.js"
#: A file NAME.map for each key, with its SHA-256 sum, and NAME.key with the key itself until somebody deletes it. After
#: it was replaced, NAME.old.map has the sum of the old one, with the time at which that ends.
KEYS = f"{FOLDER}/keys"
#: Characters that a key has at least and at most, wherever it is from.
KEY_LENGTHS = (20, 256)
#: The certificate of the local authority that clients are to trust, what it signed, and the program that makes both.
AUTHORITY = f"{FOLDER}/ca.crt"
CERTIFICATE = f"{FOLDER}/server.crt"
CERTIFICATE_KEY = f"{FOLDER}/server.key"
RENEWAL = f"{FOLDER}/renew"
CACHE = "/var/cache/ojai-gateway"
#: As new as what nginx has read.
LOADED = "/run/ojai-gateway/loaded"

UNIT = "ojai-gateway.service"
RENEWAL_UNIT = "ojai-gateway-renew.service"
RENEWAL_TIMER = "ojai-gateway-renew.timer"
UNIT_FILES = tuple(f"{UNITS}/{name}" for name in (UNIT, RENEWAL_UNIT, RENEWAL_TIMER))

#: Node exporter, and where the gateway has the host's own metrics, for the addresses of `gateway_metrics_from`.
NODE_PORT = 9100
HOST_PATH = "/host/metrics"

#: nginx itself, and its module for JavaScript, by which keys are compared as sums. Both are in Ubuntu's archive.
PACKAGES = ("nginx", "libnginx-mod-http-js")
#: What makes the certificate.
OPENSSL = "openssl"
#: The unit of the package, which would serve nginx's own page on port 80.
PACKAGE_UNIT = "nginx.service"
#: What the package leaves behind.
STATE = (
    "nginx:/etc/nginx",
    "nginx:/var/lib/nginx",
    "nginx:/var/log/nginx",
    "nginx:/var/www/html/index.nginx-debian.html",
    "nginx:/var/www/html/",
    "nginx:/var/www/",
)

#: Seconds that an engine may be silent within an answer: a long prompt is read before the first token comes.
TIMEOUT = 3600

#: What the gateway itself answers: its name in the configuration, the status, the text, more headers.
_ERRORS: tuple[tuple[str, int, str, dict[str, str]], ...] = (
    (
        "unauthorized",
        401,
        "No valid key. Send it as the header Authorization: Bearer KEY.",
        {"WWW-Authenticate": "'Bearer realm=\"ojai\"'"},
    ),
    ("forbidden", 403, "This address may not ask for this.", {}),
    ("unknown", 404, "The gateway does not offer this path.", {}),
    ("method", 405, "The gateway does not offer this method here.", {}),
    ("large", 413, "The request is larger than the gateway takes.", {}),
    ("many", 429, "Too many requests at a time for one client.", {"Retry-After": "1"}),
    ("down", 503, "The engine does not answer. It may be starting: try again in a while.", {"Retry-After": "5"}),
    ("late", 504, "The engine did not answer in time.", {}),
)


@dataclass(frozen=True)
class Location:
    """A path of the gateway, and the engine's address of it."""

    path: str
    engine: str
    offered: Offered


def wanted(settings: HostSettings) -> bool:
    """Whether the host is to have a gateway."""
    return settings.exposure == "gateway" and bool(settings.services) and not settings.removed


def open_meaning(settings: HostSettings) -> Iterator[str]:
    """What it means that services are open: said by every deploy and by every ``ojai verify``."""
    for service in settings.resolved if settings.exposure == "open" and not settings.removed else ():
        yield (
            f"exposure is open: whoever reaches {service.host}:{service.port} can use {service.name}, read its metrics "
            "and keep the GPU busy, without a key and without TLS"
        )


def prefix(settings: HostSettings, service: ResolvedService) -> str:
    """What stands before a service's paths: nothing for the first one, the service's name for the others."""
    return "" if service.name == settings.resolved[0].name else f"/{service.name}"


def locations(settings: HostSettings) -> Iterator[Location]:
    """All that can be reached."""
    for service in settings.resolved:
        for offered in service.engine.offered:
            address = f"http://{service.address}:{service.port}{offered.path}"
            yield Location(prefix(settings, service) + offered.path, address, offered)
    if settings.watch != "none":
        offered = Offered(HOST_PATH, ("GET",), "the host's own metrics", metrics=True)
        yield Location(HOST_PATH, f"http://127.0.0.1:{NODE_PORT}/metrics", offered)


def local_address(settings: HostSettings) -> str:
    """Where the host itself reaches the gateway, as a URL has it."""
    address = ipaddress.ip_address(settings.gateway_address)
    if address.is_unspecified:
        return "127.0.0.1"
    return f"[{address}]" if address.version == 6 else str(address)


def health_paths(settings: HostSettings) -> list[str]:
    """What answers without a key once the engines do."""
    return [one.path for one in locations(settings) if not one.offered.key]


def _render(name: str, **values: object) -> str:
    templates = Environment(
        loader=FileSystemLoader(resources.TEMPLATES / "gateway"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    return templates.get_template(name).render(**values)


def configuration(settings: HostSettings) -> str:
    """nginx's configuration."""
    every = tuple(locations(settings))
    address = f"[{settings.gateway_address}]" if ":" in settings.gateway_address else settings.gateway_address
    return _render(
        "nginx.conf.j2",
        locations=every,
        open_paths=health_paths(settings),
        listen=f"{address}:{settings.gateway_port}",
        both=settings.gateway_address == "::",
        certificate=settings.gateway_certificate or CERTIFICATE,
        certificate_key=settings.gateway_certificate_key or CERTIFICATE_KEY,
        metrics_from=settings.gateway_metrics_from,
        requests=settings.gateway_requests,
        streams=settings.gateway_streams,
        body=settings.gateway_body,
        timeout=TIMEOUT,
        errors=_ERRORS,
    )


def inputs(settings: HostSettings) -> list[str]:
    """The files that nginx reads when it starts or is reloaded, and the folder of those that come and go."""
    own = (settings.gateway_certificate or CERTIFICATE, settings.gateway_certificate_key or CERTIFICATE_KEY)
    return [CONFIGURATION, SCRIPT, KEYS, *own]


def key_script() -> str:
    """The JavaScript by which nginx knows a key."""
    return (resources.TEMPLATES / "gateway" / "key.js").read_text(encoding="utf-8")


def unit(path: str, settings: HostSettings, names: Iterable[str]) -> str:
    """The text of one of `UNIT_FILES`; ``names`` are those of the certificate."""
    own = settings.gateway_certificate is not None
    return _render(f"{path.rpartition('/')[2]}.j2", own=own, names=tuple(names))


def names(settings: HostSettings, *others: str) -> list[str]:
    """The names that the certificate is for, beside those that the host knows: the inventory's, if they can be one."""
    found = (*settings.gateway_names, *others)
    return list(
        dict.fromkeys(name for name in found if re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?", name))
    )


def renewal_script() -> str:
    """The program that makes and renews the certificate."""
    return (resources.TEMPLATES / "gateway" / "renew.sh").read_text(encoding="utf-8")
