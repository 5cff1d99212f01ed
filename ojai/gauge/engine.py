"""What an engine says of itself: its version and context by its API, its backends and memory by its log."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

import httpx2

from ojai import counters, resources
from ojai.gauge.client import Target
from ojai.gauge.result import Memory
from ojai.sizes import GIB

_UNITS = {"GiB": GIB, "MiB": GIB >> 10}


@cache
def _patterns() -> tuple[re.Pattern[str], tuple[tuple[str, re.Pattern[str]], ...]]:
    document = resources.data("engine-log")
    return re.compile(document["start"]), tuple(
        (entry["about"], re.compile(entry["pattern"])) for entry in document["lines"]
    )


def by_api(target: Target) -> dict[str, Any]:
    """What the server's own pages say, by the names of :class:`~ojai.gauge.result.Subject`; what fails is left out."""
    with target.client() as client:
        models = _json(client, "/v1/models").get("data") or []
        version = _json(client, "/version")
        properties = _json(client, "/props")
    card = next((one for one in models if one.get("id") == target.model), models[0] if len(models) == 1 else {})
    meta = card.get("meta") or {}
    slot = properties.get("default_generation_settings") or {}
    found = {
        "engine": counters.engine(card.get("owned_by")).get("name"),
        "engine_version": version.get("version") or properties.get("build_info"),
        "checkpoint": card.get("root") or properties.get("model_path"),
        "quantization": meta.get("ftype") or properties.get("model_ftype"),
        # llama.cpp shares the context out among its slots.
        "context": slot.get("n_ctx") or card.get("max_model_len") or meta.get("n_ctx"),
    }
    return {name: value for name, value in found.items() if value}


def _json(client: httpx2.Client, path: str) -> dict[str, Any]:
    try:
        response = client.get(path, timeout=10)
        found = response.json() if response.status_code == 200 else {}
    except (httpx2.HTTPError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def by_log(lines: Iterable[str]) -> tuple[tuple[str, ...], tuple[Memory, ...]]:
    """The backends that the engine named since it last started, and the parts of the memory."""
    start, patterns = _patterns()
    backends: dict[str, None] = {}
    parts: dict[str, tuple[int | None, dict[str, None]]] = {}
    for line in lines:
        if start.search(line):
            backends, parts = {}, {}
        for about, pattern in patterns:
            if (match := pattern.search(line)) is None:
                continue
            text = " ".join(match["text"].split())
            if about == "backend":
                backends[text] = None
                continue
            groups = match.groupdict()
            amount, texts = parts.get(about, (None, {}))
            if groups.get("amount"):
                amount = (amount or 0) + round(float(groups["amount"]) * _UNITS[groups["unit"]])
            parts[about] = (amount, {**texts, text: None})
    memory = tuple(
        Memory.model_validate(
            {"part": part, "bytes": amount, "text": _shown(list(texts)), "source": "the engine's log"}
        )
        for part, (amount, texts) in parts.items()
    )
    return tuple(backends), memory


def _shown(texts: list[str], most: int = 3) -> str:
    """The lines of one part; the largest of those that say a size, where there are many."""
    texts = [text for text in texts if not re.search(r"= 0\.00 MiB$", text)] or texts[:1]
    more = len(texts) - most
    return "; ".join(texts[:most]) + (f"; and {more} more" if more > 0 else "")
