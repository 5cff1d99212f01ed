# The KV cache plan against the planners of vLLM's releases: the oldest, the newest, and those between that the data
# file names. Needs the environment that `make contract` builds, torch for a CPU among it.

PLANNERS ?= $(shell sed -n 's/^  compared: \[\(.*\)\]/\1/p' ojai/data/vllm-releases.yaml | tr -d ,)

.PHONY: contract-kv
contract-kv: $(PLANNERS:%=$(CONTRACT)/vllm-%/ready) ## the KV cache plan against vLLM's own planners, case by case (as `contract`)
	@for release in $(PLANNERS); do PYTHONPATH=$(CONTRACT)/vllm-$$release \
		$(CONTRACT)/bin/python tests/contract/kv/compare.py || exit 1; done
