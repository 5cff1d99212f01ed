"""`python -m ojai.lab.hub FOLDER PORT SECOND_PORT`."""

from .server import main

main()
