"""What the checks are given is in the plugin, so that checks in other folders have it too."""

pytest_plugins = ["ojai.checks"]
