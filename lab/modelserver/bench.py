"""`vllm bench serve`: requests to a server that runs, timed, and their figures as JSON in vLLM's form.

Of the real one's flags those are known that a measurement of random prompts takes; another is refused as unknown. The
requests are real and so is their timing, but a prompt's tokens are counted by the stand-in's rule. As with the real
one, the status is 0 even when every request failed: the JSON says so.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .logs import fail

USAGE = "usage: vllm bench serve [options]"
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        fail(f"{USAGE}\nvllm bench serve: error: {message}", 2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="vllm bench serve", allow_abbrev=False)
    parser.add_argument("--backend", default="openai", choices=["openai", "vllm"])
    parser.add_argument("--base-url")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--endpoint", default="/v1/completions")
    parser.add_argument("--model", required=True)
    parser.add_argument("--served-model-name")
    parser.add_argument("--tokenizer")
    parser.add_argument("--dataset-name", default="random", choices=["random"])
    parser.add_argument("--random-input-len", type=int, default=1024)
    parser.add_argument("--random-output-len", type=int, default=128)
    parser.add_argument("--num-prompts", type=int, default=1000)
    parser.add_argument("--max-concurrency", type=int)
    parser.add_argument("--request-rate", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--result-dir")
    parser.add_argument("--result-filename")
    for switch in ("--ignore-eos", "--save-result", "--disable-tqdm"):
        parser.add_argument(switch, action="store_true")
    return parser


@dataclass
class Output:
    """One request: seconds to the first token and in all, those between tokens, and why it failed."""

    ttft: float = 0.0
    latency: float = 0.0
    tokens: int = 0
    gaps: list[float] = field(default_factory=list)
    error: str = ""


def _ask(arguments: argparse.Namespace, prompt: str, output: Output) -> None:
    address = urlsplit(arguments.base_url or f"http://{arguments.host}:{arguments.port}")
    body = {
        "model": arguments.served_model_name or arguments.model,
        "prompt": prompt,
        "repetition_penalty": 1.0,
        "max_tokens": arguments.random_output_len,
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": arguments.ignore_eos,
    }
    headers = {"content-type": "application/json"}
    if key := os.environ.get("OPENAI_API_KEY"):
        headers["authorization"] = f"Bearer {key}"
    started = last = time.perf_counter()
    connection = http.client.HTTPConnection(address.hostname or "", address.port or 80, timeout=6 * 3600)
    try:
        connection.request("POST", arguments.endpoint, json.dumps(body), headers)
        answer = connection.getresponse()
        if answer.status != 200:
            output.error = answer.reason or str(answer.status)
            return
        for line in answer:
            data = line.strip().removeprefix(b"data: ")
            if not data or data == b"[DONE]":
                continue
            event = json.loads(data)
            now = time.perf_counter()
            if event.get("choices"):
                if output.ttft:
                    output.gaps.append(now - last)
                else:
                    output.ttft = now - started
                last = now
            if event.get("usage"):
                output.tokens = event["usage"]["completion_tokens"]
        output.latency = last - started
        if not output.ttft:
            output.error = "Never received a valid chunk to calculate TTFT.This response will be marked as failed!"
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        output.error = f"{type(error).__name__}: {error}"
    finally:
        connection.close()


def percentile(values: Sequence[float], share: float) -> float:
    """Interpolate between the two nearest values, as numpy does; 0 without any."""
    if not values:
        return 0.0
    ordered = sorted(values)
    place = (len(ordered) - 1) * share
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def figures(arguments: argparse.Namespace, outputs: Sequence[Output], duration: float) -> dict[str, Any]:
    """Return the JSON of a run, with the names and units of the real one."""
    good = [one for one in outputs if not one.error]
    tokens = sum(one.tokens for one in good)
    prompts = len(good) * arguments.random_input_len
    rate = arguments.request_rate
    found: dict[str, Any] = {
        "date": time.strftime("%Y%m%d-%H%M%S"),
        "endpoint_type": arguments.backend,
        "backend": arguments.backend,
        "label": None,
        "model_id": arguments.model,
        "tokenizer_id": arguments.tokenizer or arguments.model,
        "num_prompts": arguments.num_prompts,
        "request_rate": "inf" if rate == float("inf") else rate,
        "burstiness": 1.0,
        "max_concurrency": arguments.max_concurrency,
        "duration": duration,
        "completed": len(good),
        "failed": len(outputs) - len(good),
        "total_input_tokens": prompts,
        "total_output_tokens": tokens,
        "request_throughput": len(good) / duration,
        "request_goodput": None,
        "output_throughput": tokens / duration,
        "total_token_throughput": (prompts + tokens) / duration,
    }
    series = {
        "ttft": [one.ttft for one in good],
        "tpot": [(one.latency - one.ttft) / (one.tokens - 1) for one in good if one.tokens > 1],
        "itl": [gap for one in good for gap in one.gaps],
    }
    for name, values in series.items():
        mean = sum(values) / len(values) if values else 0.0
        spread = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5 if values else 0.0
        pairs = {"mean": mean, "median": percentile(values, 0.5), "std": spread, "p99": percentile(values, 0.99)}
        found |= {f"{kind}_{name}_ms": value * 1000 for kind, value in pairs.items()}
    return found


def main(words: Sequence[str]) -> int:
    """Run `vllm bench serve` with these words; return its status."""
    arguments = _parser().parse_args(words)
    chance = random.Random(arguments.seed)
    # A word of four letters is one token by the stand-in's rule.
    prompts = [
        " ".join("".join(chance.choices(LETTERS, k=4)) for _ in range(arguments.random_input_len))
        for _ in range(arguments.num_prompts)
    ]
    outputs = [Output() for _ in prompts]
    at_once = threading.BoundedSemaphore(arguments.max_concurrency or max(len(prompts), 1))

    def one(prompt: str, output: Output) -> None:
        with at_once:
            _ask(arguments, prompt, output)

    started = time.perf_counter()
    threads = [threading.Thread(target=one, args=pair) for pair in zip(prompts, outputs, strict=True)]
    for thread in threads:
        thread.start()
        if arguments.request_rate != float("inf"):
            time.sleep(chance.expovariate(arguments.request_rate))
    for thread in threads:
        thread.join()
    found = figures(arguments, outputs, time.perf_counter() - started)
    errors = [one.error for one in outputs if one.error]
    if errors:
        print("Failed requests during benchmark run detected (capping to 10):")
        for number, text in enumerate(errors[:10]):
            print(f"Error {number}: {text}")
    print(f"{' Serving Benchmark Result ':=^50}")
    print(f"{'Successful requests:':<40} {found['completed']:<10}")
    print(f"{'Failed requests:':<40} {found['failed']:<10}", flush=True)
    if arguments.save_result:
        name = arguments.result_filename or f"{arguments.backend}-{found['date']}.json"
        Path(arguments.result_dir or ".", name).write_text(json.dumps(found), encoding="utf-8")
    return 0
