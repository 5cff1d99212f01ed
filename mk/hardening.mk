# `make hardening`: the vLLM of `make contract-server` (3 GB) in Docker, in a container of the lab, under each measure of
# `hardened: true`; writes docs/reference/hardening.md. On an idle machine half an hour, and 8 GB while it runs.
#   make hardening HARDENING_ARGS='read-only all'    only these

HARDENING_ARGS ?=

.PHONY: hardening

hardening: packages $(SERVER)/ready ## what a real vLLM lacks under each measure of `hardened: true` (Docker in a container of the lab)
	$(BIN)/python -m tests.lab.hardening $(HARDENING_ARGS)
	$(BIN)/python -m tools.profile_table
