# Two commands do everything, their own set-up included:
#   make lab    a real virtual machine becomes an inference host, and is checked
#   make test   the whole test suite
VENV ?= .venv
BIN := $(VENV)/bin
INVENTORY ?= inventory/lab.py

.DEFAULT_GOAL := help
.PHONY: help setup packages lab lab-down test lint unit lab-test reference

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: ## the virtual environment, with pinned packages
	@tools/setup.sh $(VENV)

packages: setup # system packages that the tests and the lab call; QEMU comes with the first machine
	@$(BIN)/python -c 'from ojai.lab.packages import TEST_PROGRAMS, ensure; ensure(TEST_PROGRAMS)'

lab: setup ## build and boot the lab, provision it, verify it, say what it is now
	$(BIN)/ojai lab up
	$(BIN)/pyinfra -y $(INVENTORY) deploy.py
	$(BIN)/ojai verify $(INVENTORY)
	$(BIN)/ojai lab status

lab-down: setup ## stop the lab; nothing is left running
	$(BIN)/ojai lab down

test: ## everything: style, types, unit, roles, and the deploy on a real virtual machine
	@MAKE='$(MAKE)' tools/suites.sh lint unit package molecule lab-test

lint: setup ## ruff, mypy, import rules and shellcheck
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	git ls-files -z '*.sh' .ci/run | xargs -0 $(BIN)/shellcheck -x

unit: packages ## tests that need no machine
	$(BIN)/python -m pytest tests/unit tests/roles tests/gateway -m 'not whole' -n 2 -q

lab-test: setup ## the deploy on a virtual machine of its own: provision, converge, damage, reboot, remove
	$(BIN)/python -m pytest tests/lab -m 'not whole' -q -x --durations=10

reference: setup ## write the generated pages of docs/reference
	for tool in settings_reference profile_table budget_table first_contact_table evidence_table fetch_errors_table findings_table contract.real_engines; do $(BIN)/python -m tools.$$tool || exit 1; done
	$(BIN)/python -m tests.lab.manifest

include $(wildcard mk/*.mk)
