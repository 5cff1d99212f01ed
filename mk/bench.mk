# `make bench`: ojai beside Ansible, Ansible with Mitogen, stock pyinfra and the floor, on 24 containers of the lab. Results
# are kept after each sample; a run stops after an hour, and the next one goes on. Wants an idle machine, and root or sudo.
#   make bench BENCH_ARGS=--smoke        three hosts, one sample of each; nothing is kept in docs/
#   make bench BENCH_ARGS=--again        a second run, whose ratios are put beside those of the first
# All tools run on one Python: the newest here that Ansible's current release takes (3.12 or newer).
# New pins: pip-compile --generate-hashes --no-header --no-emit-index-url --strip-extras --allow-unsafe requirements-*.in

BENCH ?= .bench
BENCH_ARGS ?=
BENCH_PYTHON ?= $(shell for python in python3.14 python3.13 python3.12 ~/.pyenv/versions/3.13*/bin/python; do \
	$$python -c '' 2>/dev/null && echo $$python && break; done)

.PHONY: bench

bench: setup $(BENCH)/ojai/.ojai-ready $(BENCH)/ansible/ready $(BENCH)/mitogen/ready $(BENCH)/plots/ready ## measure it against Ansible, Mitogen and stock pyinfra (an idle machine, an hour; goes on where it stopped)
	$(BENCH)/ojai/bin/python -m benchmarks.run $(BENCH_ARGS)
	$(BENCH)/plots/bin/python -m benchmarks.page $(if $(findstring --smoke,$(BENCH_ARGS)),$(BENCH)/smoke.json $(BENCH)/smoke)

$(BENCH)/ojai/.ojai-ready: requirements.txt pyproject.toml
	PYTHON=$(BENCH_PYTHON) tools/setup.sh $(BENCH)/ojai

$(BENCH)/%/ready: benchmarks/requirements-%.txt
	$(BENCH_PYTHON) -m venv $(BENCH)/$*
	$(BENCH)/$*/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@
