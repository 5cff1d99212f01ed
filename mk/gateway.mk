# `make gateway`: the gateway on a container of the lab, from a box that is open to its removal, with 64 streams from outside for
# two minutes while the engine is killed. `make test` has what needs no container: tests/gateway, with 12 s of the same. What
# was measured is written to docs/reference/gateway-load.md.
#   make gateway GATEWAY_SECONDS=600          longer
#   make gateway-real                         the same streams before the vLLM of `make contract-server` (3 GB)

GATEWAY_SECONDS ?= 120
GATEWAY_ARGS ?=

.PHONY: gateway gateway-real

gateway: setup ## the gateway on a container of the lab, under load and abuse
	OJAI_RECORD_FIGURES=1 $(BIN)/python -m pytest tests/gateway/test_abuse.py -q
	OJAI_RECORD_FIGURES=1 OJAI_LOAD_SECONDS=$(GATEWAY_SECONDS) $(BIN)/python -m pytest tests/lab/test_gateway.py -q -rP --durations=10 $(GATEWAY_ARGS)

gateway-real: setup $(SERVER)/ready ## 64 streams through the gateway to a real vLLM on a CPU, which is killed in the middle
	OJAI_RECORD_FIGURES=1 $(BIN)/python -m tests.gateway.load 300
