"""Whose KV cache planner the memory budget follows."""

from __future__ import annotations

from ojai.engines.vllm import cli, releases
from ojai.memory import Planner
from ojai.profiles import Features


def planner(image: str, features: Features) -> Planner:
    """How the image's release plans the cache."""
    found = releases.planner(releases.of(image).version)
    if features.async_scheduling is False:
        return found.model_copy(update={"batches_in_flight": 1})
    return found


def follows(image: str) -> str:
    """Which planner that is, and how far it is known to be the image's own."""
    version = releases.of(image).version
    compared = releases.compared()
    if version in compared:
        return f"follows vLLM {version}'s planner, which is the image's"
    if version is None:
        return (
            f"follows vLLM {cli.RELEASES[-1]}'s planner; your image is {image}, which names no release: take the cache "
            "for an estimate"
        )
    nearest = [one for one in compared if releases.within(one, None, version)]
    return (
        f"follows vLLM {(nearest or compared)[-1 if nearest else 0]}'s planner, with what is known to differ by then; "
        f"your image is v{version}, whose own was not compared"
    )
