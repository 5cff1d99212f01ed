# `make lab-whole`: every test of the lab, those too that `make test` leaves out, on a virtual machine and in containers.
#   make lab-whole LAB_ARGS=--lf             only those that failed before

LAB_ARGS ?=

.PHONY: lab-whole

lab-whole: setup ## every test of the lab (long when emulated)
	$(BIN)/python -m pytest tests/lab -q --durations=20 $(LAB_ARGS)
