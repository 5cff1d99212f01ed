# `make package`: the package with its dependencies from PyPI, as `pipx install --include-deps .` installs it.
# What needs no network is in `make unit` (tests/unit/test_installed.py).

.PHONY: package
package: setup ## install with pipx, dependencies included, and use it
	@$(BIN)/python -m pytest tests/package -q
