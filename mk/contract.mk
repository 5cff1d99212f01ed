# `make contract`: what the project says about vLLM's command line, put to vLLM 0.20.1's own parser.
# Apart from `make test`, because the environment holds torch (1.5 GB with the CPU build, more with another).

VENV ?= .venv
CONTRACT ?= .contract
CONTRACT_PYTHON ?= python3.11
CONTRACT_ARGS ?=

.PHONY: contract contract-data


contract: setup $(CONTRACT)/ready ## every profile, and bad command lines, put to vLLM's real parser (own environment, 2 GB)
	@$(VENV)/bin/ojai profiles --json > $(CONTRACT)/profiles.json
	@$(CONTRACT)/bin/python -m tools.contract.run --profiles $(CONTRACT)/profiles.json $(CONTRACT_ARGS)


contract-data: $(CONTRACT)/ready ## write the flags of vLLM's parser down anew
	$(CONTRACT)/bin/python -m tools.contract.extract ojai/engines/vllm/vllm-0.20.1.json

$(CONTRACT)/ready: requirements-contract.txt
	$(CONTRACT_PYTHON) -m venv $(CONTRACT)
	$(CONTRACT)/bin/python -m pip install --quiet torch==2.13.0
	$(CONTRACT)/bin/python -m pip install --quiet --no-deps -r requirements-contract.txt
	@touch $@
