# Scenarios of molecule: create, converge, idempotence, verify, destroy.
#   make molecule                 the roles that a container can hold
#   make molecule SCENARIO=vm     all of it, on the lab's virtual machine

SCENARIO ?= default

.PHONY: molecule
molecule: setup ## a scenario of molecule, by default in a container (SCENARIO=vm: in a virtual machine)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/molecule --base-config .config/molecule/config.yml \
		test --no-command-borders --scenario-name $(SCENARIO)
