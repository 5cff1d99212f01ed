"""The engines that serve a model, a package each."""
