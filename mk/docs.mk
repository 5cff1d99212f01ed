# `make docs`: the documentation site. Broken links, anchors and references fail the build.
#   make docs DOCS_OUT=/some/folder      somewhere else
# New pins: pip-compile --generate-hashes --no-header --no-emit-index-url --strip-extras --allow-unsafe requirements-docs.in

DOCS_OUT ?= build/docs

.PHONY: docs

docs: $(VENV)/.docs-ready ## the documentation site, into build/docs; a broken link fails it
	$(BIN)/python -m sphinx -b html -W --keep-going -n -q -j auto -c docs . $(DOCS_OUT)
	@echo "$(DOCS_OUT)/index.html"

$(VENV)/.docs-ready: requirements-docs.txt | setup
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-docs.txt
	@touch $@
