"""The folders that outlive a container: weights, compiled kernels, tuning results, models, workspace."""

from pyinfra.api.deploy import deploy

from ojai.operations import adoption, files
from ojai.settings import HostSettings


@deploy("Caches")
def apply(*, settings: HostSettings) -> None:
    """Create each folder with its owner and mode, but those that are used where the owner has them.

    TunableOp's has a folder for each image, created with the unit.
    """
    files.folders(
        name="Create cache directories",
        paths=[settings.data_directory, *settings.own_caches],
        user=settings.data_owner,
        group=settings.data_group,
        mode=settings.data_mode,
    )
    if settings.move_adopted_caches:
        adoption.caches_moved(
            name="Move adopted caches to the data directory",
            folders=settings.adopted_caches,
            data_directory=settings.data_directory,
        )


@deploy("Caches: removal")
def remove(*, settings: HostSettings) -> None:
    """Keep the folders unless `removed_data` is set: downloading their content again can take hours."""
    adoption.caches_moved_back(name="Move adopted caches back")
    if settings.removed_data:
        files.absent(name="Remove cache directories", paths=settings.every_own_cache, recursive=True)
        files.empty_folder_absent(name="Remove the data directory if it is empty", path=settings.data_directory)
