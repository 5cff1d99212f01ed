# `make upgrades`: upgrades that fail (tests/lab/cases/upgrades.yaml), on a virtual machine of its own.

UPGRADES_ARGS ?=

.PHONY: upgrades

upgrades: setup ## fail an upgrade in each known way, see the old service come back (hours when emulated)
	$(BIN)/python -m tests.lab.run upgrades $(UPGRADES_ARGS)
