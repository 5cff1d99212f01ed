# `make coverage`: how much of the package the tests without a machine run, subprocesses included.

.PHONY: coverage

coverage: packages ## the unit tests once more, with the share of lines and branches that they run
	rm -f .coverage .coverage.*
	$(BIN)/python -m pytest tests/unit tests/roles -n 2 -q --cov --cov-report=
	$(BIN)/coverage report --skip-covered
