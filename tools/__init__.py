"""What developers run: generators of the reference, the set-up, the contract with vLLM, releases."""
