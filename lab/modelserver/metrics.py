"""The Prometheus metrics of vLLM 0.20.1, under its names, counted for real.

Only what the stand-in does is counted; what it has no part in (preemptions, external caches) stays at zero.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping

FIRST_TOKEN = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
    1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
PER_TOKEN = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75,
    1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
REQUEST = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0,
    50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0,
)  # fmt: skip
FINISHED = ("stop", "length", "abort", "error", "repetition")
SOURCES = ("local_compute", "local_cache_hit", "external_kv_transfer")


def one_two_five(largest: int) -> tuple[float, ...]:
    """Return 1, 2, 5, 10, 20, 50 … up to `largest`."""
    values: list[float] = []
    power = 1
    while True:
        for digit in (1, 2, 5):
            if digit * power > largest:
                return tuple(values)
            values.append(float(digit * power))
        power *= 10


def _number(value: float) -> str:
    return repr(float(value))


def _labels(labels: Mapping[str, str]) -> str:
    def escape(text: str) -> str:
        return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    return "{" + ",".join(f'{name}="{escape(labels[name])}"' for name in sorted(labels)) + "}"


class _Series:
    """One time series: a number, or a histogram when it has buckets."""

    def __init__(self, buckets: tuple[float, ...] | None) -> None:
        self.buckets = buckets
        self.value = 0.0
        self.counts = [0] * (len(buckets) + 1) if buckets is not None else []
        self.created = time.time()


class Metrics:
    """All series of one server; every method may be called from any thread."""

    def __init__(self, model_name: str, max_model_len: int) -> None:
        self._base = {"engine": "0", "model_name": model_name}
        self._lock = threading.Lock()
        self._families: dict[str, tuple[str, str]] = {}
        self._series: dict[tuple[str, str], tuple[dict[str, str], _Series]] = {}
        lengths = one_two_five(max_model_len)
        self._gauge("num_requests_running", "Number of requests in model execution batches.")
        self._gauge("num_requests_waiting", "Number of requests waiting to be processed.")
        self._gauge("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.")
        for name, text in (
            ("prefix_cache_queries", "Prefix cache queries, in terms of number of queried tokens."),
            ("prefix_cache_hits", "Prefix cache hits, in terms of number of cached tokens."),
            ("external_prefix_cache_queries", "External prefix cache queries, in tokens."),
            ("external_prefix_cache_hits", "External prefix cache hits, in tokens."),
            ("mm_cache_queries", "Multi-modal cache queries, in items."),
            ("mm_cache_hits", "Multi-modal cache hits, in items."),
            ("num_preemptions", "Cumulative number of preemptions."),
            ("prompt_tokens", "Number of prefill tokens processed."),
            ("prompt_tokens_cached", "Number of cached prompt tokens."),
            ("generation_tokens", "Number of generation tokens processed."),
        ):
            self._counter(name, text)
        for source in SOURCES:
            self._counter("prompt_tokens_by_source", "Number of prompt tokens by source.", source=source)
        for reason in FINISHED:
            self._counter("request_success", "Count of successfully processed requests.", finished_reason=reason)
        for name, text, buckets in (
            ("request_prompt_tokens", "Number of prefill tokens processed.", lengths),
            ("request_generation_tokens", "Number of generation tokens processed.", lengths),
            ("request_max_num_generation_tokens", "Maximum number of requested generation tokens.", lengths),
            ("request_params_n", "The n request parameter.", (1.0, 2.0, 5.0, 10.0, 20.0)),
            ("request_params_max_tokens", "The max_tokens request parameter.", lengths),
            ("request_prefill_kv_computed_tokens", "New KV tokens computed during prefill.", lengths),
            ("time_to_first_token_seconds", "Time to first token in seconds.", FIRST_TOKEN),
            ("inter_token_latency_seconds", "Inter-token latency in seconds.", PER_TOKEN),
            ("request_time_per_output_token_seconds", "Time per output token of a request.", PER_TOKEN),
            ("e2e_request_latency_seconds", "End to end request latency in seconds.", REQUEST),
            ("request_queue_time_seconds", "Time spent in WAITING phase.", REQUEST),
            ("request_inference_time_seconds", "Time spent in RUNNING phase.", REQUEST),
            ("request_prefill_time_seconds", "Time spent in PREFILL phase.", REQUEST),
            ("request_decode_time_seconds", "Time spent in DECODE phase.", REQUEST),
        ):
            self._add(name, "histogram", f"Histogram: {text}", buckets, {})

    def _add(self, name: str, kind: str, text: str, buckets: tuple[float, ...] | None, labels: dict[str, str]) -> None:
        self._families[name] = (kind, text)
        whole = {**self._base, **labels}
        self._series[name, _labels(whole)] = (whole, _Series(buckets))

    def _gauge(self, name: str, text: str, **labels: str) -> None:
        self._add(name, "gauge", text, None, labels)

    def _counter(self, name: str, text: str, **labels: str) -> None:
        self._add(name, "counter", text, None, labels)

    def _find(self, name: str, labels: Mapping[str, str]) -> _Series:
        return self._series[name, _labels({**self._base, **labels})][1]

    def add(self, name: str, amount: float = 1.0, **labels: str) -> None:
        """Add to a counter or a gauge (its name without `vllm:` and `_total`)."""
        with self._lock:
            self._find(name, labels).value += amount

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        with self._lock:
            self._find(name, labels).value = value

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Put a value into a histogram."""
        with self._lock:
            series = self._find(name, labels)
            series.counts[bisect_left(series.buckets or (), value)] += 1
            series.value += value

    def read(self, name: str, **labels: str) -> float:
        """Return a counter's or gauge's value, or a histogram's number of observations."""
        with self._lock:
            series = self._find(name, labels)
            return float(sum(series.counts)) if series.buckets is not None else series.value

    def _samples(self, name: str, kind: str) -> Iterable[str]:
        suffix = "_total" if kind == "counter" else ""
        mine = [entry for (family, _), entry in self._series.items() if family == name]
        for labels, series in mine:
            if series.buckets is None:
                yield f"vllm:{name}{suffix}{_labels(labels)} {_number(series.value)}"
                continue
            total = 0
            bounds = [_number(bound) for bound in series.buckets] + ["+Inf"]
            for bound, count in zip(bounds, series.counts, strict=True):
                total += count
                yield f"vllm:{name}_bucket{_labels({**labels, 'le': bound})} {_number(total)}"
            yield f"vllm:{name}_count{_labels(labels)} {_number(total)}"
            yield f"vllm:{name}_sum{_labels(labels)} {_number(series.value)}"
        if kind != "gauge":
            yield f"# HELP vllm:{name}_created {self._families[name][1]}"
            yield f"# TYPE vllm:{name}_created gauge"
            for labels, series in mine:
                yield f"vllm:{name}_created{_labels(labels)} {_number(series.created)}"

    def text(self) -> str:
        """Return all series in Prometheus' text form."""
        lines: list[str] = []
        with self._lock:
            for name, (kind, text) in self._families.items():
                whole = f"vllm:{name}_total" if kind == "counter" else f"vllm:{name}"
                lines += [f"# HELP {whole} {text}", f"# TYPE {whole} {kind}", *self._samples(name, kind)]
        return "\n".join(lines) + "\n"
