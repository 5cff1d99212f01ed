# `make guests`: the same steps, from the first deploy to removal, on each system that the lab's guest can be.
#   make guests GUESTS_ARGS='--guest noble'      only these, and again what has passed before
#   make guests GUESTS_ARGS='--on container'     in containers: the roles that need no kernel

GUESTS_ARGS ?= --resume

.PHONY: guests

guests: setup ## first deploy, drift, failed upgrade, rollback, removal on every system of the lab (hours when emulated)
	$(BIN)/python -m tests.lab.run guests $(GUESTS_ARGS)
