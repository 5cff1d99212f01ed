"""Whether there is room for images, weights, packages and a kernel, each where it goes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ojai.facts.report import Report
from ojai.preflight import FailedCheck
from ojai.preflight.gpu import expected_kernel_installed, expected_kernel_runs
from ojai.settings import HostSettings
from ojai.sizes import GB, GIB, format_gib

#: Free space to leave beside image and weights, for logs and compile caches (bytes).
DISK_RESERVE = 5 * GIB

#: Free space that every deploy needs for packages, logs and the container (bytes), whatever is there already.
DISK_LEAST = GIB // 2

#: What containerd's store keeps of an image beside its unpacked layers: the compressed ones as they were downloaded
#: (docs.docker.com/engine/storage/containerd). For the lab's image 12 MB beside 31 MB; a share that leaves some room.
COMPRESSED = 0.5

#: The same where little is written: temporary files, and a /boot that gets no new kernel.
LEAST = {"/tmp": 64 << 20, "/boot": 0}

#: ROCm as a whole, installed and downloaded (bytes), which bounds any part of it; and packages that are small.
ROCM_INSTALLED, ROCM_DOWNLOADED = 20 * GB, 6 * GB
ROCM_SMALL = frozenset({"rocminfo", "rocm-core", "rocm-smi-lib"})

_STORES = {
    "docker": "move Docker's images (`data-root` in /etc/docker/daemon.json)",
    "containerd": "move containerd's images, which are kept unpacked and compressed (`root` in "
    "/etc/containerd/config.toml)",
}


@dataclass(frozen=True)
class _Need:
    """``size`` bytes for ``what``; ``todo``: what else makes room; ``large``: something to leave a reserve beside."""

    size: int
    what: str
    todo: str
    large: bool = True


def failed(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """Why there is not enough room."""
    places = {**report.space.rooms, **report.disks}
    for place in report.space.unknown:
        yield FailedCheck(
            "disk space",
            f"no number of free bytes in what `df {place}` answers",
            "one, to know what fits there",
            f"`df -P --block-size=1 {place}` on the host must work: mount its file system again",
        )
    needs: dict[str, dict[str, _Need]] = {}
    for place, need in _needs(settings, report):
        if place in places:
            here = needs.setdefault(places[place][1], {})
            here[need.what] = max(need, here.get(need.what, need), key=lambda one: one.size)
    free = {mount: space for space, mount in places.values()}
    least = {mount: max(LEAST.get(p, DISK_LEAST) for p, (_, m) in places.items() if m == mount) for mount in free}
    for mount, space in free.items():
        wanted = needs.get(mount, {}).values()
        reserve = DISK_RESERVE if any(need.large for need in wanted) else 0
        size = sum(need.size for need in wanted) + reserve
        if space < size:
            items = [f"{need.what} {format_gib(need.size)}" for need in wanted]
            items += [f"{format_gib(reserve)} to spare"] if reserve else []
            yield FailedCheck(
                "disk space",
                f"{format_gib(space)} free on {mount}",
                f"{format_gib(size)} ({', '.join(items)})",
                f"free space there, or {', or '.join(dict.fromkeys(need.todo for need in wanted))}",
            )
        elif space < least[mount]:
            yield FailedCheck(
                "disk space",
                f"{format_gib(space)} free on {mount}: the disk is full",
                f"{format_gib(least[mount])} at least, for packages, logs and the container",
                "free space there (`sudo apt clean`, `docker image prune`, `journalctl --vacuum-size=200M`)",
            )


def _needs(settings: HostSettings, report: Report) -> Iterator[tuple[str, _Need]]:
    """Folder and what is to come there. A need of two folders counts once, the larger, where they share a disk."""
    stores = report.space.stores or {"docker": "/var/lib/docker"}
    todo = " and ".join(_STORES[store] for store in stores)
    if len(stores) > 1:
        todo += ": while Docker does not run, nobody knows which of them it uses, so both need the room"
    for image in sorted({service.image for service in settings.resolved} - set(report.images)):
        for store, place in stores.items():
            size = int(settings.image_bytes * (1 + COMPRESSED)) if store == "containerd" else settings.image_bytes
            yield place, _Need(size, f"image {image}", todo)
    for folder, service in {service.model_directory: service for service in settings.resolved}.items():
        missing = service.profile.weights_bytes - report.space.weights.get(folder, 0)
        if folder not in report.models and missing > 0 and not service.brought:
            what = f"{'the rest of the ' if folder in report.space.weights else ''}weights of {service.model}"
            place = service.weights_folder if service.weights_folder in report.disks else settings.data_directory
            yield place, _Need(missing, what, "set data_directory to a larger file system")
    if not (expected_kernel_runs(settings, report) or expected_kernel_installed(settings, report)):
        # Twice: an initramfs is written beside the one that it replaces.
        size = 2 * (report.space.boot_sizes or 0)
        todo = "remove old kernels (`sudo apt autoremove --purge`; `dpkg -l 'linux-image-*'` lists them)"
        yield "/boot", _Need(size, f"kernel and initramfs of {settings.kernel_package}", todo, large=False)
    expected = {*settings.rocm_packages, *(["migraphx"] if settings.rocm_migraphx else [])} - {
        *report.space.rocm_packages
    }
    large = sorted(name for name in expected - ROCM_SMALL if name.startswith(("rocm", "migraphx")))
    if large:
        todo = "ask for fewer rocm_packages: the container has its own ROCm"
        yield "/opt", _Need(ROCM_INSTALLED, f"{', '.join(large)} at most", todo)
        yield "/var/cache/apt", _Need(ROCM_DOWNLOADED, "downloaded packages of it at most", todo)
