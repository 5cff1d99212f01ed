# `make drift`: every managed thing, broken on purpose (tests/lab/mutations.py), on a virtual machine of its own.
#   make drift DRIFT_ARGS=--resume           only those that did not pass before
#   make drift DRIFT_ARGS='--role Docker'    only one role's

DRIFT_ARGS ?=

.PHONY: drift

drift: setup ## every managed thing broken on purpose: named by verify, mended by the deploy (hours when emulated)
	$(BIN)/python -m tests.lab.drift $(DRIFT_ARGS)
