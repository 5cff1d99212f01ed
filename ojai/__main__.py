"""``python -m ojai``: the same as the ``ojai`` command."""

from ojai.cli import run

run()
