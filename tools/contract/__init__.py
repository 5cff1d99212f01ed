"""Holds what the project says about vLLM's command line against vLLM's own code (`make contract`).

Runs in its own environment (`.contract/`, see `requirements-contract.txt`), because vLLM needs torch.
"""
