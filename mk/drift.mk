# `make drift`: every managed thing, broken on purpose (tests/lab/cases/drift), on a virtual machine of its own.
#   make drift DRIFT_ARGS=--resume           only those that have not passed before
#   make drift DRIFT_ARGS='--role Docker'    only one role's

DRIFT_ARGS ?=

.PHONY: drift

drift: setup ## break everything that is managed: verify detects it, the deploy fixes it (hours when emulated)
	$(BIN)/python -m tests.lab.run drift $(DRIFT_ARGS)
