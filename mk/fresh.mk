# `make fresh`: what the README promises, on bare Debian 12 and 13 (tools/fresh.py). Part of every release.
#   make fresh FRESH_TARGETS='setup unit'     a quick look: no virtual machine
#   make fresh FRESH_RELEASES=trixie          one of them only

FRESH_TARGETS ?= lab test
FRESH_RELEASES ?= bookworm trixie

.PHONY: fresh

fresh: packages ## the two commands of the README in a bare Debian 12 and a bare Debian 13 (hours when emulated)
	$(BIN)/python -m tools.fresh $(FRESH_RELEASES:%=--release=%) $(FRESH_TARGETS)
