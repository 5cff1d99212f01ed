"""The way to the outside: the proxies of apt, and authorities of the owner's own. Owns a file for each."""

import ssl
from pathlib import Path
from urllib.parse import urlsplit

from pyinfra.api.deploy import deploy
from pyinfra.api.exceptions import DeployError

from ojai.operations import authorities, files
from ojai.settings import HostSettings
from ojai.weights.pull import registry_of
from ojai.weights.upstream import HUB

PROXIES = "/etc/apt/apt.conf.d/95ojai-proxy"

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


def proxies_text(settings: HostSettings) -> str:
    """apt's settings for the proxies."""
    lines = [
        f'Acquire::{scheme}::Proxy "{address}";'
        for scheme, address in (("http", settings.http_proxy), ("https", settings.https_proxy))
        if address
    ]
    for name in settings.no_proxy:
        lines += [f'Acquire::{scheme}::Proxy::{name} "DIRECT";' for scheme in ("http", "https")]
    return "\n".join(["// Made by ojai.", *lines, ""])


def certificates(settings: HostSettings) -> list[str]:
    """The certificates in the files of this machine. Raises ``DeployError`` for a file that has none."""
    found: list[str] = []
    for name in settings.ca_certificates:
        trouble = "no certificate"
        try:
            text = Path(name).expanduser().read_text()
        except (OSError, UnicodeDecodeError) as error:
            text, trouble = "", getattr(error, "strerror", None) or "no text"
        parts = [part.partition(_END)[0] for part in text.split(_BEGIN)[1:]]
        secret, whole = "PRIVATE KEY" in text, [f"{_BEGIN}{part}{_END}\n" for part in parts]
        if parts and not secret and not _readable(whole):
            parts, trouble = [], "a certificate that is damaged or cut short"
        if not parts or secret:
            raise DeployError(
                f"ca_certificates {name}: found {'a private key' if secret else trouble}; expected certificates in PEM "
                "form, and nothing secret. What to do: correct the path in the inventory, or convert the file "
                "(`openssl x509 -inform der -in FILE`)."
            )
        found += whole
    return list(dict.fromkeys(found))


def _readable(certificates: list[str]) -> bool:
    """Whether OpenSSL, which the programs of the host read them with, takes each of them."""
    for one in certificates:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=one)
        except (ssl.SSLError, ValueError):
            return False
    return True


def registries(settings: HostSettings) -> list[str]:
    """Registries and mirrors of the owner's own, as Docker names their certificates' folders."""
    named = {registry_of(service.image) for service in settings.resolved} - {HUB}
    mirrors = {urlsplit(mirror).netloc for mirror in settings.docker_registry_mirrors if mirror.startswith("https:")}
    return sorted(named | mirrors) if settings.ca_certificates else []


@deploy("Network")
def apply(*, settings: HostSettings) -> None:
    """Have apt use the proxies, and every program trust the authorities."""
    if settings.proxies:
        files.text_file(name="Set apt's proxies", path=PROXIES, text=proxies_text(settings))
    else:
        files.absent(name="Remove apt's proxies", paths=[PROXIES])
    authorities.trusted(
        name="Trust the owner's authorities", certificates=certificates(settings), registries=registries(settings)
    )


@deploy("Network: removal")
def remove(*, settings: HostSettings) -> None:
    """Remove proxies and authorities."""
    files.absent(name="Remove apt's proxies", paths=[PROXIES])
    authorities.trusted(name="Trust the owner's authorities no more", certificates=[])
