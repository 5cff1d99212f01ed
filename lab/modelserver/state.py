"""What the server's threads share: its phase, the running requests, and the pace of a generation."""

from __future__ import annotations

import argparse
import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

from . import answers, tokens
from .environment import Environment
from .loading import Loaded
from .metrics import Metrics

LOADING, READY, DRAINING, DEAD = "loading", "ready", "draining", "dead"
DEAD_MESSAGE = "EngineCore encountered an issue. See stack trace (above) for the root cause."


class Stopped(Exception):
    """A generation is cut short: the server is stopping, or its engine is gone."""


class State:
    """One server. `phase` is one of loading, ready, draining, dead; only the main thread changes it."""

    def __init__(self, arguments: argparse.Namespace, environment: Environment) -> None:
        self.arguments = arguments
        self.environment = environment
        self.model: str = arguments.model_tag or "Qwen/Qwen3-0.6B"
        self.names: list[str] = list(arguments.served_model_name or [self.model])
        self.phase = LOADING
        self.started = int(time.time())
        self.abort = threading.Event()
        self.idle = threading.Condition()
        self.running = 0
        self._tokens_held = 0
        self._lock = threading.Lock()
        self.loaded = Loaded(0, 1, None, 16)
        self.metrics = Metrics(self.names[0], 1)
        self._slots = threading.BoundedSemaphore(1)
        self._prefixes: tokens.PrefixCache | None = None

    def ready(self, loaded: Loaded) -> None:
        """Take over what the engine loaded, and serve."""
        self.loaded = loaded
        self.metrics = Metrics(self.names[0], loaded.max_model_len)
        self._slots = threading.BoundedSemaphore(loaded.max_num_seqs)
        # On by default in vLLM's V1 engine; --no-enable-prefix-caching turns it off.
        if self.arguments.enable_prefix_caching is not False:
            self._prefixes = tokens.PrefixCache(loaded.block_size)
        self.phase = READY

    def _hold(self, count: int) -> None:
        with self._lock:
            self._tokens_held += count
            capacity = self.loaded.kv_tokens
            if capacity:
                self.metrics.set("kv_cache_usage_perc", min(self._tokens_held / capacity, 1.0))

    @contextlib.contextmanager
    def _slot(self) -> Iterator[None]:
        self.metrics.add("num_requests_waiting")
        try:
            while not self._slots.acquire(timeout=0.2):
                if self.abort.is_set():
                    raise Stopped
        finally:
            self.metrics.add("num_requests_waiting", -1)
        self.metrics.add("num_requests_running")
        try:
            yield
        finally:
            self.metrics.add("num_requests_running", -1)
            self._slots.release()

    def _count_prompt(self, job: answers.Job) -> None:
        prompt = len(job.prompt_tokens)
        cached = 0
        if self._prefixes is not None:
            cached = self._prefixes.look_up(job.prompt_tokens)
            self.metrics.add("prefix_cache_queries", prompt)
            self.metrics.add("prefix_cache_hits", cached)
        self.metrics.add("prompt_tokens", prompt)
        self.metrics.add("prompt_tokens_cached", cached)
        self.metrics.add("prompt_tokens_by_source", prompt - cached, source="local_compute")
        self.metrics.add("prompt_tokens_by_source", cached, source="local_cache_hit")
        self.metrics.observe("request_prefill_kv_computed_tokens", prompt - cached)

    def generate(self, job: answers.Job) -> Iterator[dict[str, Any]]:
        """Yield a request's stream events at the set pace, and count; raises Stopped when cut short."""
        metrics, pause = self.metrics, self.environment.token_seconds
        arrived = time.monotonic()
        first = previous = started = 0.0
        generated, held, reason = 0, 0, "abort"
        with self.idle:
            self.running += 1
        try:
            events = answers.stream(job)
            with self._slot():
                started = time.monotonic()
                self._count_prompt(job)
                held = len(job.prompt_tokens)
                self._hold(held)
                for event, token in events:
                    if token:
                        if self.abort.wait(pause) if pause else self.abort.is_set():
                            reason = "error"
                            raise Stopped
                        now = time.monotonic()
                        if generated:
                            metrics.observe("inter_token_latency_seconds", now - previous)
                        else:
                            first = now
                            metrics.observe("time_to_first_token_seconds", now - arrived)
                        previous = now
                        generated += 1
                        metrics.add("generation_tokens")
                        self._hold(1)
                        held += 1
                    yield event
                reason = job.finish_reason if job.finish_reason in ("stop", "length") else "stop"
        finally:
            ended = time.monotonic()
            self._hold(-held)
            metrics.add("request_success", finished_reason=reason)
            if reason in ("stop", "length"):
                self._observe_finished(job, generated, arrived, started, first or ended, ended)
            with self.idle:
                self.running -= 1
                self.idle.notify_all()

    def _observe_finished(
        self, job: answers.Job, generated: int, arrived: float, started: float, first: float, ended: float
    ) -> None:
        observe = self.metrics.observe
        observe("request_prompt_tokens", len(job.prompt_tokens))
        observe("request_generation_tokens", generated)
        observe("request_max_num_generation_tokens", len(job.parts))
        observe("request_params_n", job.n)
        observe("request_params_max_tokens", job.max_tokens)
        observe("e2e_request_latency_seconds", ended - arrived)
        observe("request_queue_time_seconds", started - arrived)
        observe("request_inference_time_seconds", ended - started)
        observe("request_prefill_time_seconds", first - started)
        observe("request_decode_time_seconds", ended - first)
        if generated > 1:
            observe("request_time_per_output_token_seconds", (ended - first) / (generated - 1))

    def wait_until_idle(self, seconds: float) -> bool:
        """Wait for the running requests to end; return whether they did in time."""
        with self.idle:
            return self.idle.wait_for(lambda: self.running == 0, timeout=seconds)
