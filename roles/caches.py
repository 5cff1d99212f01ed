"""The folders that outlive a container: weights, compiled kernels, tuning results, models, workspace."""

from pyinfra.api.deploy import deploy

from ojai.engines.vllm import MOUNTS
from ojai.operations import files
from ojai.settings import HostSettings


@deploy("Caches")
def apply(*, settings: HostSettings) -> None:
    """Each folder is there, with owner and mode. TunableOp's has one folder an image in it, made with the unit."""
    files.folders(
        name="Create cache directories",
        paths=[settings.data_directory, *(settings.cache(name) for name in MOUNTS)],
        user=settings.data_owner,
        group=settings.data_group,
        mode=settings.data_mode,
    )


@deploy("Caches: removal")
def remove(*, settings: HostSettings) -> None:
    """The folders stay unless `removed_data` says otherwise: they hold what took hours to load."""
    if settings.removed_data:
        files.absent(name="Remove cache directories", paths=[settings.cache(name) for name in MOUNTS], recursive=True)
        files.empty_folder_absent(name="Remove the data directory if it is empty", path=settings.data_directory)
