# `make contract-llamacpp`: the flags of llama.cpp's real server, and the memory that its log names, beside what ojai says.
# Apart from `make test`: the server is Debian's, with Vulkan in software (0.6 GB of packages), and the first start of each
# model compiles shaders for a minute. It needs root, for chroot.

.PHONY: contract-llamacpp

contract-llamacpp: setup ## llama.cpp's flags and its memory, put to the real server (root, 0.6 GB)
	$(BIN)/python -m tools.contract.llamacpp
