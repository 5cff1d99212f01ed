"""The ledger of what was added to the host. Owns /var/lib/ojai; its removal comes last, with all dependencies."""

from pyinfra.api.deploy import deploy
from pyinfra.operations import server

from ojai.operations import adoption, apt, files, ledger
from ojai.operations.ledger import STATE_DIR
from ojai.paths import SCHEMA


@deploy("Ledger")
def apply() -> None:
    """Restrict it to root and write its format version; the roles fill it."""
    ledger.root_owned(name="Restrict ledger permissions to root")
    files.text_file(name="Write the ledger's schema version", path=f"{STATE_DIR}/schema", text=f"{SCHEMA}\n")


@deploy("Ledger: removal")
def remove() -> None:
    """Remove dependencies, residue and the ledger itself, after all other roles, which share and read them."""
    gone = apt.dependencies_removed(name="Remove unneeded dependencies")
    ledger.kept_returned(name="Put back what was set aside")
    adoption.returned(name="Restart the server that was adopted")
    ledger.left_behind_removed(name="Remove package residue")
    # dpkg deletes it with the last package that has files in it, although every system starts with it.
    files.folder_there(name="Ensure /opt exists", path="/opt")
    server.shell(name="Refresh the loader cache", commands=["ldconfig"], _if=gone.did_change)
    files.absent(name="Remove the ledger", paths=[STATE_DIR], recursive=True)
