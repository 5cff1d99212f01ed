"""Operating systems of a host, and what is to be known of each, from `ojai/data/systems.yaml`.

>>> find("ubuntu", "26.04").refused.todo
'install Ubuntu 24.04'
>>> find("linuxmint", "22.1", "ubuntu debian").title
'a derivative of Ubuntu (Mint, Pop!_OS, Zorin, KDE neon …)'
"""

from __future__ import annotations

from functools import cache
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from ojai import resources


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Refusal(_Data):
    """Why a system is refused, and what to do then."""

    why: str
    todo: str


class Facts(_Data):
    """What the roles need to know of a system."""

    codename: str
    kernel_package: str = Field(description="Metapackage of the kernel that AMD names for it.")
    kernel_flavour: str
    kernel_example: str = Field(description="A release of that kernel, as `uname -r` prints it.")
    rocm: str = Field(description="AMD's first line of ROCm for it on Ryzen, of those that are not retired.")
    docker_packages: tuple[str, ...] = Field(description="Docker Engine and its client in the system's own archive.")
    docker_suite: str = Field(description="Its suite in Docker's archive.")


class System(_Data):
    """A system, or a kind of systems."""

    title: str
    id: str | None = None
    versions: tuple[str, ...] = ()
    like: bool = False
    refused: Refusal | None = None
    facts: Facts | None = None
    sources: dict[str, str] = Field({}, description="Where each of the facts was read.")

    @model_validator(mode="after")
    def _sourced(self) -> Self:
        facts = set(Facts.model_fields) if self.facts else set()
        if facts != set(self.sources):
            raise ValueError(f"{self.title}: facts and sources differ in {', '.join(facts ^ set(self.sources))}")
        if not (self.refused or self.facts):
            raise ValueError(f"{self.title}: a system that is supported needs facts")
        return self

    def matches(self, os_id: str, version: str, like: str) -> bool:
        """Whether it is the system that an os-release describes."""
        named = self.id in like.split() and self.id != os_id if self.like else self.id == os_id
        return self.id is None or (named and version in (self.versions or (version,)))


@cache
def load() -> tuple[System, ...]:
    """All of them, in the order in which they are tried."""
    return TypeAdapter(tuple[System, ...]).validate_python(resources.data("systems"))


def find(os_id: str, version: str, like: str = "") -> System:
    """The system that an os-release describes, by ID, VERSION_ID and ID_LIKE."""
    return next(system for system in load() if system.matches(os_id, version, like))


def supported() -> list[System]:
    """Those that a host may have."""
    return [system for system in load() if not system.refused]


def reference() -> Facts:
    """Facts of the system that the defaults of the settings are for."""
    facts = supported()[0].facts
    if facts is None:
        raise ValueError("the first system of systems.yaml has no facts")
    return facts
