"""The note on the host of what was added to it. It is the last thing to go, with what came with the packages."""

from pyinfra.api.deploy import deploy
from pyinfra.operations import server

from ojai.operations import apt, files, ledger
from ojai.operations.ledger import STATE_DIR
from ojai.paths import SCHEMA


@deploy("Ledger")
def apply() -> None:
    """The roles write it as they add things; here it is seen to be root's alone."""
    ledger.root_owned(name="Restrict ledger permissions to root")
    files.text_file(name="Record the format version", path=f"{STATE_DIR}/schema", text=f"{SCHEMA}\n")


@deploy("Ledger: removal")
def remove() -> None:
    """Every other role's removal reads the note, and dependencies are shared between them: so this comes after all."""
    gone = apt.dependencies_removed(name="Remove unneeded dependencies")
    ledger.left_behind_removed(name="Remove package residue")
    # dpkg takes it away with the last package that has something in it, though every system begins with it.
    files.folder_there(name="Ensure /opt exists", path="/opt")
    server.shell(name="Refresh the loader cache", commands=["ldconfig"], _if=gone.did_change)
    files.absent(name="Remove the ledger", paths=[STATE_DIR], recursive=True)
