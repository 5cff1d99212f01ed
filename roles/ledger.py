"""The note on the host of what was added to it: the last thing to go."""

from pyinfra.api.deploy import deploy

from ojai.operations import files
from ojai.operations.ledger import STATE_DIR


@deploy("Ledger: removal")
def remove() -> None:
    """The note is gone. Every other role's removal reads it, so this comes after all of them."""
    files.absent(name="Remove the note of what was added", paths=[STATE_DIR], recursive=True)
