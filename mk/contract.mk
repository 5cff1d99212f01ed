# `make contract`: what the project says about vLLM's command line, put to the parser of every release with a contract.
# Apart from `make test`: the environment holds torch for a CPU (1.5 GB with the CPU build, more with another), and a
# folder a release (0.6 GB each; the package as it is released, without what it depends on).
#   make contract RELEASES=0.33.0        one release only

VENV ?= .venv
CONTRACT ?= .contract
CONTRACT_PYTHON ?= python3.11
CONTRACT_ARGS ?=
RELEASES ?= $(patsubst ojai/engines/vllm/vllm-%.json,%,$(wildcard ojai/engines/vllm/vllm-*.json))

.PHONY: contract contract-data

contract: setup $(RELEASES:%=$(CONTRACT)/vllm-%/ready) ## command lines, put to vLLM's real parsers (python3.11, torch for a CPU, 4 GB)
	@$(VENV)/bin/ojai profiles --json > $(CONTRACT)/profiles.json
	@for release in $(RELEASES); do echo "vLLM $$release"; PYTHONPATH=$(CONTRACT)/vllm-$$release \
		$(CONTRACT)/bin/python -m tools.contract.run --profiles $(CONTRACT)/profiles.json $(CONTRACT_ARGS) || exit 1; done

contract-data: $(RELEASES:%=$(CONTRACT)/vllm-%/ready) ## write the flags of vLLM's parsers down anew
	for release in $(RELEASES); do PYTHONPATH=$(CONTRACT)/vllm-$$release \
		$(CONTRACT)/bin/python -m tools.contract.extract ojai/engines/vllm/vllm-$$release.json || exit 1; done

$(CONTRACT)/ready: requirements-contract.txt
	$(CONTRACT_PYTHON) -m venv $(CONTRACT)
	$(CONTRACT)/bin/python -m pip install --quiet torch==2.13.0
	$(CONTRACT)/bin/python -m pip install --quiet --no-deps -r requirements-contract.txt
	@touch $@

$(CONTRACT)/vllm-%/ready: $(CONTRACT)/ready
	$(CONTRACT)/bin/python -m pip install --quiet --no-deps --upgrade --target $(@D) vllm==$*
	@touch $@
