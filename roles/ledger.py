"""What came with the other roles' packages, and the note on the host of what was added to it: the last things to go."""

from pyinfra.api.deploy import deploy
from pyinfra.operations import server

from ojai.operations import apt, files, ledger
from ojai.operations.ledger import STATE_DIR


@deploy("Ledger: removal")
def remove() -> None:
    """Every other role's removal reads the note, and dependencies are shared between them: so this comes after all."""
    gone = apt.dependencies_removed(name="Remove what came with the packages and nothing else needs")
    ledger.left_behind_removed(name="Remove what they left behind")
    # dpkg takes it away with the last package that has something in it, though every system begins with it.
    files.folders(name="Have /opt, as every system has", paths=["/opt"], user="root", group="root", mode="755")
    server.shell(name="Refresh the loader's cache", commands=["ldconfig"], _if=gone.did_change)
    files.absent(name="Remove the note of what was added", paths=[STATE_DIR], recursive=True)
