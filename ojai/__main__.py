"""``python -m ojai``: the same as the ``ojai`` command."""

from ojai.cli import main

main(prog_name="ojai")
