"""One module per role: ``apply`` sets up a part of the machine, ``remove`` takes it away. deploy.py has their order."""
