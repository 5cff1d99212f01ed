"""Whether the secrets that the inventory names can be had, before a host is touched. None of them is in a message."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial

from ojai import gateway
from ojai.facts.report import Report
from ojai.preflight import FailedCheck
from ojai.settings import HostSettings
from ojai.settings.secrets import SecretError, Source


def _token(source: Source) -> None:
    found = source.read()
    if found is not None and not re.fullmatch(r"[\w.~+/-]+", found, re.ASCII):
        raise SecretError(
            f"an = or another character in what {source} has", "a token, such as hf_ with letters and digits",
            "store it again (it is not shown)",
        )  # fmt: skip


def _key(source: Source, name: str, seen: dict[str, str]) -> None:
    found = source.read()
    if found and (other := seen.setdefault(found, name)) != name:
        raise SecretError(f"the key that {other} has", "one of its own", "make another: `openssl rand -hex 32`")
    least, most = gateway.KEY_LENGTHS
    if found is not None and not least <= len(found) <= most:
        raise SecretError(f"{len(found)} characters", f"{least} to {most}", "make another: `openssl rand -hex 32`")


def _of_services(settings: HostSettings) -> Iterator[tuple[str, Callable[[], object]]]:
    for service in settings.resolved:
        for name, source in settings.secrets_of(service.name).items():
            yield name, partial(_token, source) if name == "HF_TOKEN" else source.read


def _of_the_host(settings: HostSettings, report: Report) -> Iterator[tuple[str, Callable[[], object]]]:
    for image in sorted({service.image for service in settings.resolved} - set(report.images)):
        if source := settings.login(image):
            yield f"the login for {image}", source.login
    seen: dict[str, str] = {}
    for name, source in settings.gateway_key_sources.items() if gateway.wanted(settings) else ():
        yield f"the key {name}", partial(_key, source, name, seen)
    yield from ((f"the {name}", source.read) for name, source in settings.watch_secrets.items())


def failed(settings: HostSettings, report: Report | None = None) -> Iterator[FailedCheck]:
    """Why one cannot be had; without a report, only the hub's tokens, for a run that only fetches."""
    wrong: dict[str, SecretError] = {}
    for name, read in (*_of_services(settings), *(_of_the_host(settings, report) if report else ())):
        if not report and name != "HF_TOKEN":
            continue
        try:
            read()
        except SecretError as error:
            wrong[name] = error
    yield from (
        FailedCheck("secret", f"for {name}: {one.found}", one.expected, one.todo) for name, one in wrong.items()
    )
