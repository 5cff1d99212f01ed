.PHONY: upgrades

upgrades: setup ## fail an upgrade in each known way, see the old service come back (hours when emulated)
	$(BIN)/python -m tests.lab.upgrades
