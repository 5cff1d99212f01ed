# The KV cache plan against vLLM 0.20.1's own planner. Needs the environment that `make contract` builds.

.PHONY: contract-kv
contract-kv:  ## Compare our KV cache plan with vLLM's own planner, case by case
	@test -x .contract/bin/python || { echo "no .contract environment: run 'make contract' first" >&2; exit 1; }
	.contract/bin/python tests/contract/kv/compare.py
