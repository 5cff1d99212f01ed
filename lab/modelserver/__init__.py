"""The lab's stand-in for vLLM 0.20.1: the command line, the life cycle and the HTTP interface, and no model.

It takes `vllm serve`'s command line as strictly as vLLM 0.20.1 does, loads for a while, answers, counts, and
fails in the ways that the project's guides met on real machines. What it answers says what it is.
Standard library only: it runs under the Python of the lab's image (3.13) and of the tests (3.11).

Known differences from the real server, on purpose:

- while it loads it already listens, and answers 503 to everything; the real one binds its port but does not
  listen yet, so that a client is refused until the engine is up;
- token counts follow a simple rule (`tokens.py`), not Gemma's tokenizer, and tokens come at a set pace
  (OJAI_LAB_TOKEN_SECONDS): no figure measured here says anything about a GPU;
- weights are sparse files of the right size, made in the Hugging Face cache when they are absent;
- `--config`, `--uds`, TLS and gRPC are refused with a clear message (status 1);
- of `vllm bench`, `serve` is here, with random prompts.

Environment that only the stand-in reads (its own rehearsal switches):

OJAI_LAB_LOAD_SECONDS    how long loading takes, in seconds (default 5)
OJAI_LAB_TOKEN_SECONDS   pause before each generated token, in seconds (default 0.01)
OJAI_LAB_CRASH_AT        `start`: die before anything else; `loading`: die half-way through loading
OJAI_LAB_NEVER_HEALTHY   `1`: never finish loading
OJAI_LAB_BUILD           name of this build, written into TunableOp's file (set by the image)
OJAI_LAB_ROOT            for unit tests: a folder that stands for / where devices and sysfs are looked up

Environment of the real server that it honours: VLLM_API_KEY, VLLM_ROCM_USE_AITER, VLLM_ROCM_USE_AITER_MOE,
VLLM_TUNED_CONFIG_FOLDER, VLLM_ALLOW_LONG_MAX_MODEL_LEN, PYTORCH_ALLOC_CONF, PYTORCH_HIP_ALLOC_CONF,
PYTORCH_TUNABLEOP_ENABLED, PYTORCH_TUNABLEOP_TUNING, PYTORCH_TUNABLEOP_FILENAME, HF_HOME, HF_HUB_CACHE,
HF_HUB_OFFLINE.

The memory of the GPU is the lab's: /sys/class/dmi/id/product_sku says `carveout=<bytes>` (the VM's SMBIOS),
and where the TTM limit (/sys/module/ttm/parameters/pages_limit) is larger, that counts, as in the driver.
"""

VERSION = "0.20.1"
"""The vLLM release that is stood in for."""

NOTICE = f"This is the ojai lab's stand-in for vLLM {VERSION}; no model is loaded."
"""What every answer and the first log line say."""
