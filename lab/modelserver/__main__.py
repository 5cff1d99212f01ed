"""`python -m ojai.lab.modelserver serve MODEL …`: the stand-in without its image."""

from .server import main

main()
