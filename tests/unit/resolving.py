"""A service of a profile with choices, resolved as the settings do it."""

from collections.abc import Mapping
from typing import Any

from ojai import accelerators
from ojai.engines import ResolvedService
from ojai.profiles import Features, Profile
from ojai.settings import ServiceSettings


def resolve(
    profile: Profile,
    *,
    features: Features | None = None,
    accelerator: str = accelerators.DEFAULT,
    data_directory: str = "/srv/ojai",
    group_ids: Mapping[str, int] | None = None,
    **service: Any,
) -> ResolvedService:
    """The service, refusals or not; ``service`` are settings of it that are no features."""
    choices = features.model_dump(exclude_none=True) if features else {}
    settings = ServiceSettings.model_validate({**choices, **service})
    found = settings.resolve(accelerator=accelerator, data_directory=data_directory, profile=profile)
    return found.on_host(group_ids, None) if group_ids is not None else found
