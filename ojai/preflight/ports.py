"""Whether a service's port is free, now and after the next boot."""

from __future__ import annotations

from collections.abc import Iterator

from ojai.facts.report import Report
from ojai.facts.report.ports import PortHolder
from ojai.preflight import FailedCheck, owner
from ojai.settings import HostSettings

#: Where a server listens on all addresses.
_ALL = ("0.0.0.0", "::", "[::]", "")


def failed(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """Which ports another program holds. What belongs to a service of ours gives its port up in time."""
    taken = owner.judge(settings, report)[1]
    # They are in the owner's table.
    told = {*(one.name for one in taken.containers), *(one.name for one in taken.units)}
    for service in settings.resolved:
        for holder in report.ports:
            # A program on one address of the host leaves the others free.
            apart = bool(holder.address) and service.host not in (*_ALL, holder.address)
            if holder.port == service.port and not (holder.ours or apart or holder.name in told):
                yield FailedCheck(
                    "port",
                    f"{service.port} {state(holder)} by {named(holder)}",
                    f"it free for {service.name}",
                    f"{freed(holder)}, or set another `port`",
                )


def state(holder: PortHolder) -> str:
    """How it holds a port."""
    if not holder.now:
        return "free now, but taken at the next boot"
    return "held now and after every boot" if holder.at_boot else "held"


def named(holder: PortHolder) -> str:
    """Who it is."""
    process = f"{holder.program or 'a program'} (process {holder.pid})" if holder.pid else ""
    if holder.kind == "process":
        return process or "a program that the host does not name"
    kind = "the Docker container" if holder.kind == "container" else "the unit"
    name = f"{kind} {holder.name or 'of an unknown name'}"
    return f"{name}, {process}" if process else name


def freed(holder: PortHolder) -> str:
    """What frees the port."""
    if holder.kind == "container":
        if not holder.name:
            return "start Docker (`sudo systemctl start docker`), find the container with `sudo docker ps` and stop it"
        never = f"`sudo docker update --restart=no {holder.name}`" if holder.at_boot else ""
        stop = f"`sudo docker stop {holder.name}`" if holder.now else ""
        return " and ".join(filter(None, (never, stop)))
    if holder.kind == "unit":
        return (
            f"`sudo systemctl disable --now {holder.name}`"
            if holder.at_boot
            else f"`sudo systemctl stop {holder.name}`"
        )
    return (
        f"stop that program (`sudo kill {holder.pid}`)" if holder.pid > 1 else "find it (`sudo ss -ltnp`) and stop it"
    )
