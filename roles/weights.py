"""The weights: in the cache, verified and pinned, before anything that serves is touched. Owns the hub's client."""

from functools import partial

from pyinfra.api.deploy import deploy

from ojai.operations import files, weights
from ojai.operations import release as releases
from ojai.operations.weights import Report
from ojai.releases import serving_of
from ojai.settings import HostSettings
from ojai.weights import CLIENT
from ojai.weights.pack import packed
from ojai.weights.program import STATE


@deploy("Weights")
def apply(*, settings: HostSettings, report: Report | None = None) -> None:
    """Fetch the model, and the assistant, of every service. If that fails, what serves goes on.

    ``report`` is called with what was there and what was fetched, of all services.
    """
    if not settings.services:
        return
    services = [service for service in settings.resolved if service.wanted]
    unchanged = partial(releases.report_unchanged, services=[serving_of(server) for server in settings.resolved])
    weights.client(name="Install the hub client", pack=packed)  # images are pulled with it too
    if not services:
        return
    weights.fetched(
        name="Fetch the weights",
        services=services,
        endpoint=settings.hf_endpoint,
        tokens={service.name: settings.secrets_of(service.name).get("HF_TOKEN") for service in services},
        environment=settings.proxies,
        local_only=settings.local_only,
        on_failure=unchanged,
        report=report,
    )


@deploy("Weights: removal")
def remove(*, settings: HostSettings) -> None:
    """Remove the client and its records; the weights themselves are a cache (see the role Caches)."""
    files.absent(name="Remove the hub client and its records", paths=[CLIENT, STATE], recursive=True)
