"""Whether the gateway can stand beside what is on the host, and what changes for those who use the host today."""

from __future__ import annotations

from collections.abc import Iterator

from ojai.facts.report import Report
from ojai.gateway import KEYS, OPENSSL, PACKAGES, UNIT, open_meaning, wanted
from ojai.preflight import FailedCheck
from ojai.preflight.ports import freed, named, state
from ojai.settings import HostSettings


def ports(settings: HostSettings) -> tuple[int, ...]:
    """The gateway's own."""
    return (settings.gateway_port,) if wanted(settings) else ()


def certificates(settings: HostSettings) -> tuple[str, ...]:
    """Files of the owner's certificate."""
    files = (settings.gateway_certificate, settings.gateway_certificate_key) if wanted(settings) else ()
    return tuple(file for file in files if file)


def wanted_packages(settings: HostSettings) -> tuple[str, ...]:
    """What is installed for the gateway on a host without any nginx."""
    return (*PACKAGES, OPENSSL) if wanted(settings) else ()


def packages(report: Report | None) -> list[str]:
    """What is to be installed on this host: an nginx of the owner's is used as it is."""
    return [OPENSSL] if report and report.gateway.of_owner else [*PACKAGES, OPENSSL]


def failed(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """Why the gateway cannot be set up."""
    if not wanted(settings):
        return
    if report.gateway.of_owner and not report.gateway.module:
        module = PACKAGES[1]
        yield FailedCheck(
            "nginx",
            f"an nginx of yours without the module of {module}",
            "none, or one that has it: the gateway is an nginx of its own, but the program is the same",
            f"`sudo apt install {module}` (your nginx loads it too), or set `exposure: loopback` and let your nginx "
            "stand before the engine",
        )
    for service in settings.resolved:
        variable = service.engine.key_variable
        if variable in report.env_names.get(service.env_file, ()):
            yield FailedCheck(
                "engine key",
                f"{variable} in {service.env_file}",
                "none: the gateway asks clients for its own keys, and hands none on",
                f"put that key into {KEYS}/NAME.key to keep it for clients (root only; NAME in gateway_keys), and take "
                "the line out; or set another `exposure`",
            )
    faults = [*(f"no {file}, or an empty one" for file in report.gateway.missing), *report.gateway.bad]
    if faults:
        yield FailedCheck(
            "certificate",
            "; ".join(faults),
            "a certificate that is valid, and its key without a password, where gateway_certificate and "
            "gateway_certificate_key say",
            "put both there, or leave out both settings: then the host makes its own",
        )
    for holder in report.ports:
        apart = bool(holder.address) and settings.gateway_address not in ("0.0.0.0", "::", holder.address)
        if holder.port == settings.gateway_port and holder.name != UNIT and not (holder.ours or apart):
            yield FailedCheck(
                "gateway port",
                f"{holder.port} {state(holder)} by {named(holder)}",
                "it free for the gateway",
                f"{freed(holder)}, or set another `gateway_port`",
            )


def warnings(settings: HostSettings, report: Report) -> Iterator[str]:
    """Who reaches the services, where that is everybody; and what is about to change for clients."""
    yield from open_meaning(settings)
    if settings.exposure == "open":
        return
    by_hand = (
        (named(holder), holder.port)
        for holder in report.ports
        if settings.adopt and holder.now and not (holder.ours or holder.address or holder.port == settings.gateway_port)
    )
    for name, port in (*report.gateway.open, *by_hand):
        if settings.exposure == "gateway":
            now = (
                f"clients must then use https://HOST:{settings.gateway_port}/v1 with a key (`ojai open INVENTORY` "
                "prints all they need)"
            )
        else:
            now = "only this host itself, or an SSH tunnel, reaches it then"
        yield (
            f"{name} answers on port {port} of the network today, whoever asks; this deploy ends that: {now}. To "
            "leave it as it is, set `exposure: open`"
        )
