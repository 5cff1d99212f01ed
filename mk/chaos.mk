# `make chaos`: a first deploy cut off at every point of tests/lab/interruptions.py, on a virtual machine of its own.

CHAOS_ARGS ?=

.PHONY: chaos

chaos: setup ## a first deploy, cut off in the middle at every point there is, and run again (hours when emulated)
	$(BIN)/python -m tests.lab.chaos_contained
	$(BIN)/python -m tests.lab.chaos $(CHAOS_ARGS)
