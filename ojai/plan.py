"""What a host would serve, with which command, in how much memory: from its settings and known facts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, InstanceOf

from ojai import accelerators
from ojai.engines import ResolvedService
from ojai.facts.report import Report
from ojai.memory import Budget, Demand, HostMemory, fit_together
from ojai.preflight import tuning
from ojai.preflight.host import failed_checks
from ojai.preflight.memory import memory_of
from ojai.preflight.memory import warnings as memory_warnings
from ojai.preflight.upstream import Fetch, fetches, sentences
from ojai.profiles import budgets
from ojai.settings import HostSettings
from ojai.settings.inventory import Entry
from ojai.sizes import GIB, format_gib

Source = Literal["host", "option", "gtt_limit", "enough", "largest"]

_SOURCES: dict[Source, str] = {
    "host": "as the host reports",
    "option": "assumed: --gpu-memory",
    "gtt_limit": "assumed: as gtt_limit allows",
    "enough": "assumed: the smallest BIOS carve-out that is enough",
    "largest": "assumed: the largest BIOS carve-out, and it is not enough",
}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GpuMemory(_Frozen):
    """The GPU memory that a plan assumes, in bytes, and where the figure is from."""

    bytes: int
    source: Source

    @property
    def assumed(self) -> bool:
        """Whether the figure is not the host's own."""
        return self.source != "host"

    def __str__(self) -> str:
        return f"{format_gib(self.bytes)} ({_SOURCES[self.source]})"


class ServicePlan(_Frozen):
    """One service of a host."""

    service: InstanceOf[ResolvedService] = Field(exclude=True)
    unit: str
    title: str
    budget: Budget
    warnings: tuple[str, ...]


class HostPlan(_Frozen):
    """One host. ``obstacles``: what blocks it, a line each."""

    name: str
    groups: tuple[str, ...]
    removed: bool = Field(description="What the roles added is to be removed; nothing is served.")
    accelerator: str
    gpu_memory: GpuMemory | None = Field(description="None where nothing is served.")
    needed_gpu_bytes: int | None = Field(description="Least GPU memory on which all services start, in whole GiB.")
    enough_carve_out_bytes: int | None = Field(
        description="Smallest BIOS step on which all services start; None: none of them, or GTT."
    )
    services: tuple[ServicePlan, ...]
    obstacles: tuple[str, ...]
    fetches: tuple[Fetch, ...] = Field((), description="What is to be fetched, as far as the host was asked.")
    to_fetch: tuple[str, ...] = Field((), description="That in words.")


def plan(
    entry: Entry, *, gpu_bytes: int | None = None, report: Report | None = None, failure: str | None = None
) -> HostPlan:
    """The plan for a host.

    ``gpu_bytes``: a carve-out to assume (a host with ``gtt_limit`` has that instead). ``report``: what the host
    answered, which goes before any assumption. ``failure``: why it was asked but did not answer.
    """
    settings = entry.settings
    obstacles = [f"host: {failure}"] if failure else []
    if settings.removed or not settings.services:
        return _nothing(entry, obstacles)
    demands = {service.name: service.demand for service in settings.resolved}
    enough = budgets.enough_carve_out(settings.accelerator, demands.values())
    memory, source = _memory(settings, enough, gpu_bytes, report)
    services = tuple(
        ServicePlan(
            service=service,
            unit=service.unit,
            title=service.title,
            budget=service.budget(memory),
            warnings=(
                *service.warnings,
                *memory_warnings(settings),
                *(one for one in (tuning.remarks(settings, report) if report else ()) if one.startswith(service.name)),
            ),
        )
        for service in settings.resolved
    )
    if report is not None:
        obstacles += [f"preflight: {failed}" for failed in failed_checks(settings, report)]
    if report is None or source != "host":
        obstacles += _too_small(services, demands, memory)
    return HostPlan(
        name=entry.name,
        groups=tuple(dict.fromkeys(entry.groups)),
        removed=False,
        accelerator=settings.accelerator,
        gpu_memory=GpuMemory(bytes=memory.gpu_bytes, source=source),
        needed_gpu_bytes=max((demand.needed_gpu_bytes() for demand in demands.values()), default=None),
        enough_carve_out_bytes=enough if settings.memory_regime == "carveout" else None,
        services=services,
        obstacles=tuple(obstacles),
        fetches=tuple(fetches(settings, report)) if report else (),
        to_fetch=tuple(sentences(settings, report)) if report else (),
    )


def _memory(
    settings: HostSettings, enough: int | None, gpu_bytes: int | None, report: Report | None
) -> tuple[HostMemory, Source]:
    """The memory to assume, and where its figure is from."""
    if report is not None and (found := memory_of(settings, report)) is not None:
        return found, "host"
    amount: int
    source: Source
    if settings.memory_regime == "gtt":
        amount, source = settings.gtt_limit or GIB, "gtt_limit"
    elif gpu_bytes is not None:
        amount, source = gpu_bytes, "option"
    elif enough is not None:
        amount, source = enough, "enough"
    else:
        amount, source = accelerators.load(settings.accelerator).carve_outs[-1], "largest"
    overcommit = int(settings.sysctl.get("vm.overcommit_memory", 0))
    return HostMemory.model_validate(
        {"gpu_bytes": amount, "regime": settings.memory_regime, "overcommit_memory": overcommit}
    ), source


def _too_small(services: tuple[ServicePlan, ...], demands: Mapping[str, Demand], memory: HostMemory) -> list[str]:
    alone = [service.budget.sentence(service.service.name) for service in services if not service.budget.fits]
    return alone or list(fit_together(demands, memory))


def _nothing(entry: Entry, obstacles: list[str]) -> HostPlan:
    return HostPlan(
        name=entry.name,
        groups=tuple(dict.fromkeys(entry.groups)),
        removed=entry.settings.removed,
        accelerator=entry.settings.accelerator,
        gpu_memory=None,
        needed_gpu_bytes=None,
        enough_carve_out_bytes=None,
        services=(),
        obstacles=tuple(obstacles),
    )
