# `make engines`: Docker as it is today, in containers of the lab: overlay2 and containerd's image store, and Docker's own
# archive (a signed stand-in): first deploy, second run, verify, failed upgrade, rollback after a prune, removal.
#   make engines ENGINES=containerd
#   make engines ENGINES_ARGS='--lf'     only those that failed before

ENGINES ?= overlay2 containerd
ENGINES_ARGS ?=

.PHONY: engines engines-failures

engines: setup ## both image stores of Docker, and Docker's own archive, in containers of the lab
	OJAI_TEST_ENGINES='$(ENGINES)' $(BIN)/python -m pytest tests/lab/test_engines.py -q --durations=10 $(ENGINES_ARGS)

engines-failures: setup ## drift and failed upgrades in a container with containerd's image store
	$(BIN)/python -m tests.lab.run upgrades --on container --engine containerd
	$(BIN)/python -m tests.lab.run drift --on container --engine containerd
