.PHONY: upgrades

upgrades: setup ## fail an upgrade in each known way, see the old service come back (about 20 min)
	$(BIN)/python -m tests.lab.upgrades
