"""One module per role: what a part of the machine should be, and how it is removed. `deploy.py` has their order."""
