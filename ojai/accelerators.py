"""Facts about the accelerators, each with its source, from `ojai/data/accelerators.yaml`.

>>> load("gfx1150").supports_aiter
False
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from ojai import resources
from ojai.schema.nearest import nearest
from ojai.sizes import GIB

#: The GPU of the guides' machine.
DEFAULT = "gfx1150"

KernelFlavour = Literal["oem", "generic", "other"]

_PciId = Annotated[str, Field(pattern=r"^[0-9a-f]{4}:[0-9a-f]{4}$")]


class UnknownAcceleratorError(ValueError):
    """No accelerator of that name; the message names the nearest one and all there are."""


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MemoryKind(_Facts):
    """Memory that a machine with this accelerator is built with."""

    name: str
    title: str
    gb_per_s: float = Field(gt=0, description="Peak bandwidth in GB/s: transfers a second x bytes a transfer.")
    source: str = Field(min_length=1)


class Accelerator(_Facts):
    """What the rest of the project needs to know of one GPU."""

    name: str
    title: str
    pci_ids: tuple[_PciId, ...] = Field(description="vendor:device, as lspci -n prints them.")
    gfx_target_version: int = Field(description="As /sys/class/kfd/kfd/topology/nodes/*/properties shows it.")
    hsa_override_gfx_version: str = Field(description="The value that equals the native ISA.")
    hsa_override_needed: bool
    supports_aiter: bool
    carve_out_gib: tuple[float, ...] = Field(description="BIOS steps of memory given to the GPU, ascending.")
    kernel_floors: dict[KernelFlavour, str] = Field(description="Oldest kernel that is supported, by flavour.")
    firmware_known_bad: tuple[str, ...] = Field(
        description="MES versions (0x83), and parts of versions of firmware packages (20251125), that break ROCm."
    )
    gtt: str | None = Field(None, description="What is to be known of vLLM in memory that the GPU borrows.")
    memories: tuple[MemoryKind, ...] = Field(min_length=1)
    default_memory: str
    sources: dict[str, str] = Field(description="Where each of the other keys was read.")

    @model_validator(mode="after")
    def _sourced(self) -> Self:
        facts = set(type(self).model_fields) - {"name", "memories", "sources"}
        if self.gtt is None:
            facts -= {"gtt"}
        if unsourced := facts - set(self.sources):
            raise ValueError(f"{self.name}: no source for {', '.join(sorted(unsourced))}")
        if stray := set(self.sources) - facts:
            raise ValueError(f"{self.name}: sources for {', '.join(sorted(stray))}, which are not facts of it")
        if self.default_memory not in {memory.name for memory in self.memories}:
            raise ValueError(f"{self.name}: default_memory {self.default_memory!r} is not in memories")
        if list(self.carve_out_gib) != sorted(set(self.carve_out_gib)):
            raise ValueError(f"{self.name}: carve_out_gib must rise from step to step")
        return self

    def memory(self, name: str | None = None) -> MemoryKind:
        """The memory called `name`, or the default one.

        Raises:
            ValueError: there is none of that name.
        """
        asked = self.default_memory if name is None else name
        for kind in self.memories:
            if kind.name == asked:
                return kind
        known = ", ".join(kind.name for kind in self.memories)
        raise ValueError(f"{self.name} has no memory {asked!r}: known are {known}")

    @property
    def carve_outs(self) -> tuple[int, ...]:
        """The BIOS steps in bytes, ascending."""
        return tuple(round(step * GIB) for step in self.carve_out_gib)


class Unserved(_Facts):
    """A GPU of the family that no image of the engine has code for."""

    name: str
    title: str
    pci_ids: tuple[_PciId, ...]
    gfx_target_version: int
    why: str = Field(min_length=1)
    sources: dict[Literal["title", "pci_ids", "gfx_target_version", "why"], str] = Field(min_length=4)

    def __str__(self) -> str:
        return f"{self.name} ({self.title}): {self.why}"


@cache
def unserved() -> dict[str, Unserved]:
    """Those GPUs by name, from `ojai/data/accelerators-unserved.yaml`."""
    entries = TypeAdapter(dict[str, dict[str, object]]).validate_python(resources.data("accelerators-unserved"))
    return {name: Unserved.model_validate({"name": name, **entry}) for name, entry in entries.items()}


@cache
def _all() -> dict[str, Accelerator]:
    entries = TypeAdapter(dict[str, dict[str, object]]).validate_python(resources.data("accelerators"))
    return {name: Accelerator.model_validate({"name": name, **entry}) for name, entry in entries.items()}


def names() -> list[str]:
    """The names of all accelerators, sorted."""
    return sorted(_all())


def load(name: str) -> Accelerator:
    """Return the facts of the accelerator called `name` ("gfx1150").

    Raises:
        UnknownAcceleratorError: there is none; names the nearest.
    """
    try:
        return _all()[name]
    except KeyError:
        if name in unserved():
            raise UnknownAcceleratorError(str(unserved()[name])) from None
        near = nearest(name, names())
        hint = f"did you mean {near}? " if near else ""
        raise UnknownAcceleratorError(f"unknown accelerator {name!r}: {hint}known are {', '.join(names())}") from None


def by_pci_id(pci_id: str) -> Accelerator | None:
    """The accelerator with that PCI id ("1002:150e"), or None."""
    return next((found for found in _all().values() if pci_id.lower() in found.pci_ids), None)
