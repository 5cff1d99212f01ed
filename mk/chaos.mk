# `make chaos`: a first deploy cut off in many places (tests/lab/cases/interruptions.yaml), in containers and on a virtual machine.
#   make chaos CHAOS_ARGS=--resume           only those that have not passed before

CHAOS_ARGS ?=

.PHONY: chaos

chaos: setup ## cut a first deploy off in many places, and run it again (hours when emulated)
	$(BIN)/python -m tests.lab.run interruptions $(CHAOS_ARGS)
