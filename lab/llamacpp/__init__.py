"""The real llama.cpp in the lab: its server from Debian's next release, with Vulkan in software, and tiny models.

- `image`: the root file system, the image of it, the models;
- `tiny`: writes the models; it runs in an environment of its own, with gguf and numpy.

The server, its Vulkan backend and Mesa's driver are the real ones; what computes is the processor, 50 to 90 times
slower than llama.cpp's own backend for processors.
"""
