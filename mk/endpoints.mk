# `make endpoints`: every endpoint of a real vLLM that runs on this machine, asked directly and through the gateway; writes
# docs/reference/endpoints.md. The server's log from its start has its router's paths.
#   make endpoints ENGINE_PORT=18000 ENGINE_LOG=/tmp/vllm.log
#   make endpoints ENDPOINTS_ARGS=--more ENGINE_LOG=…     then of a server with all that can be switched on

ENGINE_PORT ?= 18000
ENGINE_LOG ?= vllm.log
ENDPOINTS_ARGS ?=

.PHONY: endpoints

endpoints: packages ## every endpoint of a real vLLM, through the gateway with and without key
	$(BIN)/python -m tests.gateway.endpoints ask --port $(ENGINE_PORT) --log $(ENGINE_LOG) $(ENDPOINTS_ARGS)
