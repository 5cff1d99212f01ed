# `make lab-whole`: every test of the lab, those too that `make test` leaves out, on a virtual machine and in containers;
# and the reads of a run in 200 random drifts.
#   make lab-whole LAB_ARGS=--lf             only those that failed before

LAB_ARGS ?=

.PHONY: lab-whole

lab-whole: setup ## every test of the lab (long when emulated)
	$(BIN)/python -m pytest tests/lab tests/roles/test_reads.py -q --durations=20 $(LAB_ARGS)
