# `make first-contact`: machines that were set up by hand, adopted and given back; two deploys at once. In containers.
#   make first-contact FIRST_CONTACT_ARGS='--lf'     only those that failed before

FIRST_CONTACT_ARGS ?=

.PHONY: first-contact

first-contact: setup ## adoption in all its variants, and two deploys at once, in containers of the lab
	$(BIN)/python -m pytest tests/lab/test_adoption.py tests/lab/test_two_deploys.py -q --durations=10 $(FIRST_CONTACT_ARGS)
