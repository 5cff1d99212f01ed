"""`vllm bench serve` from a service's own image: the command, and what its JSON says."""

from __future__ import annotations

import json
from typing import Any

from ojai.engines import ResolvedService, Workload
from ojai.engines.vllm.command import MOUNTS, directories

# Its exit status says nothing: it is 0 when every request failed. What it prints goes to standard error, so that the
# JSON is alone on standard output. The key comes by the environment file, which names it as the server does.
_SCRIPT = (
    'export OPENAI_API_KEY="${VLLM_API_KEY:-}"; folder=$(mktemp -d) && '
    'vllm bench serve "$@" --save-result --result-dir "$folder" --result-filename result.json >&2; '
    'cat "$folder/result.json"'
)

#: Where the tokenizer is.
_CACHES = ("huggingface", "models")


def argv(service: ResolvedService, load: Workload) -> tuple[str, ...]:
    """The `docker run` list. It needs no GPU: the container is the client."""
    docker = ["docker", "run", "--rm", "--pull=never", "--name", f"{service.name}-bench", "--network=host"]
    docker += ["--entrypoint", "sh", f"--env-file={service.env_file}"]
    for variable in ("HF_HUB_OFFLINE=1", "VLLM_NO_USAGE_STATS=1"):
        docker += ["-e", variable]
    places = directories(service)
    for cache in _CACHES:
        if cache in service.profile.mounts:
            docker += ["--mount", f"type=bind,src={places[cache]},dst={MOUNTS[cache]},readonly"]
    return (*docker, service.image, "-c", _SCRIPT, "bench", *_arguments(service, load))


def _arguments(service: ResolvedService, load: Workload) -> list[str]:
    words = ["--backend", "openai", "--endpoint", "/v1/completions"]
    words += ["--base-url", f"http://{service.address}:{service.port}"]
    words += ["--model", service.model, "--served-model-name", service.command.served_model_name]
    words += ["--dataset-name", "random", "--random-input-len", str(load.input_tokens)]
    words += ["--random-output-len", str(load.output_tokens), "--num-prompts", str(load.prompts)]
    return [*words, "--ignore-eos", "--seed", str(load.seed), "--disable-tqdm"]


def read(text: str) -> dict[str, float]:
    """The figures of its JSON; empty where there is none."""
    try:
        document: Any = json.loads(text)
    except ValueError:
        return {}
    if not isinstance(document, dict):
        return {}
    return {name: float(value) for name, value in document.items() if type(value) in (int, float)}
