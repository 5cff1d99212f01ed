"""What ``hardened`` changes in a service's ``docker run``, read from ``ojai/data/hardening.yaml``."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ojai import resources
from ojai.engines import ResolvedService
from ojai.memory import container_limit
from ojai.profiles.model import Docker
from ojai.sizes import MIB

#: Where the number of the GPU's render node is not known yet, as on a host before its first boot into the driver.
USUAL_NODE = "renderD128"


class Measure(BaseModel):
    """One thing that is taken away from the engine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z-]+$", description="Its name.")
    taken: str = Field(description="What the engine has without it.")
    docker: dict[str, Any] = Field(description="Values of the profile's `docker` that it replaces.")
    add: tuple[str, ...] = Field(description="Options that it adds.")
    why: str = Field(min_length=1, description="What it is for.")
    lacks: str = Field(min_length=1, description="What the engine can no longer do.")
    gpu: str = Field(min_length=1, description="What of that only the GPU shows.")
    source: str = Field(min_length=1, description="Where it is from.")


@cache
def load() -> tuple[Measure, ...]:
    """The measures, in their order."""
    return TypeAdapter(tuple[Measure, ...]).validate_python(resources.data("hardening"))


def docker(service: ResolvedService) -> Docker:
    """The options of the service's profile, with what hardening replaces."""
    found = service.profile.docker
    if not service.hardened:
        return found
    changed = {key: value for measure in load() for key, value in measure.docker.items()}
    node = service.render_node or USUAL_NODE
    return Docker.model_validate(
        {
            **found.model_dump(),
            **changed,
            "devices": [
                device.format(render_node=node)
                for device in changed.get("devices", found.devices)
                if device.startswith(found.devices)
            ],
        }
    )


def options(service: ResolvedService) -> Iterator[str]:
    """The options that hardening adds; the limit of memory on a host only, whose memory is known."""
    for option in (option for measure in load() for option in measure.add) if service.hardened else ():
        if "{memory}" not in option:
            yield option
        elif service.memory_total:
            yield option.format(memory=f"{container_limit(service.memory_total) // MIB}m")
