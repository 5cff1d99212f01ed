"""Whether there is room for images, weights and packages."""

from __future__ import annotations

from collections.abc import Iterator

from ojai.facts.report import Report
from ojai.preflight import FailedCheck
from ojai.settings import HostSettings
from ojai.sizes import GIB, format_gib

#: Free space to leave beside image and weights, for logs and compile caches (bytes).
DISK_RESERVE = 5 * GIB


#: Free space that every deploy needs for packages, logs and the container (bytes), whatever is there already.
DISK_LEAST = GIB // 2


def failed(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """Why there is not enough room."""
    needs: dict[str, tuple[int, list[str]]] = {}

    def need(place: str, size: int, what: str) -> None:
        if place in report.disks:
            mount = report.disks[place][1]
            before, items = needs.get(mount, (0, []))
            needs[mount] = (before + size, [*items, what])

    for image in sorted({service.image for service in settings.resolved} - set(report.images)):
        need("/var/lib/docker", settings.image_bytes, f"image {image} {format_gib(settings.image_bytes)}")
    for service in settings.resolved:
        if service.model_directory not in report.models:
            size = service.profile.weights_bytes
            place = service.weights_folder if service.weights_folder in report.disks else settings.data_directory
            need(place, size, f"weights of {service.model} {format_gib(size)}")
    free = {mount: space for space, mount in report.disks.values()}
    for mount, space in free.items():
        if mount not in needs and space < DISK_LEAST:
            yield FailedCheck(
                "disk space",
                f"{format_gib(space)} free on {mount}: the disk is full",
                f"{format_gib(DISK_LEAST)} at least, for packages, logs and the container",
                "free space there (`sudo apt clean`, `docker image prune`, `journalctl --vacuum-size=200M`)",
            )
    for mount, (size, items) in needs.items():
        if free[mount] < size + DISK_RESERVE:
            yield FailedCheck(
                "disk space",
                f"{format_gib(free[mount])} free on {mount}",
                f"{format_gib(size + DISK_RESERVE)} ({', '.join(items)}, {format_gib(DISK_RESERVE)} to spare)",
                "free space there, or set data_directory to a larger file system",
            )
