"""What is in the way of the data folders."""

from __future__ import annotations

from collections.abc import Iterator

from ojai.facts.report import Report
from ojai.preflight import FailedCheck
from ojai.settings import HostSettings


def failed(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """Why a folder cannot be used."""
    for path, kind in report.folders.not_folders.items():
        yield FailedCheck(
            "data folder",
            f"{path}, {kind}",
            "a folder, or nothing",
            "set data_directory to the folder itself, or mount it at that path (`mount --bind`)",
        )
    for path, disk in report.folders.read_only.items():
        yield FailedCheck(
            "data folder",
            f"{path} on a file system that is mounted read-only ({disk})",
            "one that can be written to",
            "see why (`sudo dmesg`; an unclean NTFS or a disk with errors is mounted so), mount it writable, or set "
            "data_directory to another folder",
        )
    for path, why in report.folders.cannot_move.items() if settings.move_adopted_caches else ():
        if path in settings.adopted_caches.values():
            yield FailedCheck(
                "data folder",
                f"{path}: {why}",
                f"a folder that can be renamed into {settings.data_directory}",
                "leave move_adopted_caches out (it is used where it is then), or move it yourself",
            )
    for target in report.folders.not_mounted:
        yield FailedCheck(
            "data disk",
            f"nothing mounted on {target}, which /etc/fstab names",
            f"it to be mounted, since {settings.data_directory} is to be on it",
            f"`sudo mount {target}`, or remove its line from /etc/fstab, or set data_directory to another folder",
        )
