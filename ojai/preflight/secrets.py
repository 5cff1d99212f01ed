"""Whether the secrets that the inventory names can be had, before a host is touched. None of them is in a message."""

from __future__ import annotations

from collections.abc import Iterator

from ojai.preflight import FailedCheck
from ojai.settings import HostSettings
from ojai.settings.secrets import SecretError, Source


def _sources(settings: HostSettings) -> Iterator[tuple[str, Source]]:
    for service in settings.resolved:
        yield from settings.secrets_of(service.name).items()
    for registry, login in settings.registry_logins.items():
        yield f"the password for {registry}", login.password
    yield from ((f"the key {name}", source) for name, source in settings.gateway_key_sources.items())


def failed(settings: HostSettings) -> Iterator[FailedCheck]:
    """Why one cannot be had."""
    wrong: dict[str, SecretError] = {}
    for name, source in _sources(settings):
        try:
            found = source.read()
            if found is not None and name.startswith("the key ") and not 20 <= len(found) <= 256:
                raise SecretError(f"{len(found)} characters", "20 to 256", "make a longer one: `openssl rand -hex 32`")
        except SecretError as error:
            wrong[name] = error
    yield from (
        FailedCheck("secret", f"for {name}: {one.found}", one.expected, one.todo) for name, one in wrong.items()
    )
