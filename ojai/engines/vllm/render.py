"""From a profile and a service's choices to the one command that runs it, or the reasons why not."""

from __future__ import annotations

from collections.abc import Mapping

from ojai.engines.vllm.command import BASE_DIRECTORY, Command, RefusedError, build
from ojai.engines.vllm.refusals import findings
from ojai.profiles.features import Features
from ojai.profiles.model import Profile, effective


def render(
    profile: Profile,
    *,
    name: str = "vllm-gemma4",
    features: Features | None = None,
    port: int = 8000,
    host: str = "0.0.0.0",
    image: str | None = None,
    image_digest: str | None = None,
    model: str | None = None,
    base_directory: str = BASE_DIRECTORY,
    given_directories: Mapping[str, str] | None = None,
    env_file: str | None = None,
    group_ids: Mapping[str, int] | None = None,
    accelerator: str = "gfx1150",
) -> Command:
    """The command that serves ``profile``, as the unit has it.

    ``group_ids`` maps the host's group names to their numbers: docker resolves names in the *image*'s
    /etc/group, so a unit passes numbers; without it the names stand. Raises :class:`RefusedError` when
    something in it cannot work and is not allowed, :class:`ProfileError` for what cannot be rendered.
    """
    command = build(
        profile,
        name=name,
        features=effective(profile, features),
        port=port,
        host=host,
        image=image or profile.image,
        # another image than the profile's does not have the profile's digest
        digest=image_digest or (profile.image_digest if image is None else None),
        model=model or profile.model,
        base_directory=base_directory,
        given_directories=given_directories,
        env_file=env_file,
        group_ids=group_ids,
        accelerator=accelerator,
    )
    found = findings(profile, command, accelerator, model_named=model is not None)
    allow = set(command.features.allow or ())
    standing = [refusal for refusal in found if refusal.code not in allow]
    if standing:
        raise RefusedError(standing)
    return command.model_copy(update={"allowed": tuple(found)})
