"""The cache plan: the published figures, vLLM's own answers, and what must hold for any geometry."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ojai.engines.vllm import releases
from ojai.memory import Geometry, default_batch, default_max_num_seqs, longest_context, plan
from ojai.sizes import GIB

KV = Path(__file__).parents[1] / "contract" / "kv"
BY_RELEASE = {
    name: json.loads((KV / f"answers-{name}.json").read_text(encoding="utf-8")) for name in releases.compared()
}
ANSWERS = BY_RELEASE["0.20.1"]


def shape(model: str, **changes: Any) -> Geometry:
    """The geometry of one of the models in answers.json."""
    said = ANSWERS["models"][model]
    return Geometry.model_validate(
        {
            "layers": said["num_hidden_layers"],
            "pattern": f"{said['sliding_window_pattern'] - 1}:1",
            "kv_heads_sliding": said["num_key_value_heads"],
            "kv_heads_full": said["num_global_key_value_heads"],
            "sliding_window": said["sliding_window"],
            "shared_kv_layers": said["num_kv_shared_layers"],
            "max_context": said["max_position_embeddings"],
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("model", "context", "block", "amount"),
    [
        ("E4B", 131072, 16, 2_505_310_208),
        ("E2B", 131072, 16, 912_654_336),
        ("31B", 32768, 16, 10_247_208_960),
        ("26B-A4B", 32768, 32, 2_565_079_040),
    ],
)
def test_the_published_figures_to_the_byte(model: str, context: int, block: int, amount: int) -> None:
    assert plan(shape(model), context, block_size=block).bytes_per_sequence == amount


def test_the_published_pool_of_4_88_gb() -> None:
    made = plan(shape("26B-A4B"), 32768, block_size=32)
    assert f"{made.max_concurrency(4_880_000_000):.2f}" == "1.90"
    assert made.tokens(4_880_000_000) == 62_337


@pytest.mark.parametrize(
    ("release", "answer"),
    [(release, answer) for release, kept in BY_RELEASE.items() for answer in kept["answers"]],
    ids=lambda one: one if isinstance(one, str) else "-".join(map(str, list(one.values())[:5])),
)
def test_vllm_s_own_answers_to_the_byte(release: str, answer: dict[str, Any]) -> None:
    asked: dict[str, Any] = {
        "planner": releases.planner(release),
        "block_size": answer["block"],
        "max_num_batched_tokens": answer["batch"],
        "kv_cache_dtype": answer["dtype"],
    }
    geometry = shape(answer["model"])
    if answer.get("refused"):
        with pytest.raises(ValueError, match="cannot plan this geometry"):
            plan(geometry, answer["context"], **asked)
        return
    made = plan(geometry, answer["context"], **asked)
    assert made.bytes_per_sequence == answer["bytes"]
    for pool, theirs in zip(ANSWERS["pools"], answer["pools"], strict=True):
        assert longest_context(geometry, pool, answer["context"], **asked) == theirs["longest"]
        assert (made.least_bytes <= pool) is theirs["starts"]
        if theirs["starts"]:
            assert pool // made.block_bytes == theirs["blocks"]
            assert made.max_concurrency(pool) == theirs["concurrency"]
            assert made.tokens(pool) == theirs["tokens"]


def test_groups_of_e4b_are_one_full_and_five_sliding() -> None:
    made = plan(shape("E4B"), 131072)
    assert [(group.kind, group.layers) for group in made.groups].count(("sliding", 4)) == 5
    assert [(group.kind, group.layers) for group in made.groups].count(("full", 4)) == 1
    assert {group.block_size for group in made.groups} == {16, 32}


def test_a_nearly_even_split_is_padded_to_the_larger_count() -> None:
    types = ("sliding", "full") * 4 + ("sliding",)
    made = plan(shape("E4B", layers=9, pattern=None, layer_types=types, shared_kv_layers=0), 4096)
    assert [(group.kind, group.layers) for group in made.groups] == [("sliding", 5), ("full", 4)]
    assert made.layers_per_group == 5


def test_pages_that_do_not_divide_are_refused_as_vllm_refuses_them() -> None:
    with pytest.raises(ValueError, match="does not divide the largest page"):
        plan(shape("E4B", kv_heads_sliding=3), 4096)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"max_model_len": 0}, "max_model_len is 0"),
        ({"block_size": 0}, "block_size is 0"),
        ({"max_num_batched_tokens": -1}, "max_num_batched_tokens is -1"),
        ({"kv_cache_dtype": "int3"}, "known are auto"),
    ],
)
def test_impossible_questions_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plan(shape("E4B"), **{"max_model_len": 4096, **wrong})


geometries = st.builds(
    Geometry,
    layers=st.integers(1, 6).map(lambda repeats: repeats * 6),
    pattern=st.sampled_from(["5:1", "2:1", "1:1", "0:1", "1:0", "1:2"]),
    kv_heads_sliding=st.sampled_from([1, 2, 4, 8, 16]),
    kv_heads_full=st.sampled_from([1, 2, 4, 8]),
    sliding_window=st.integers(1, 4096),
    shared_kv_layers=st.integers(0, 5),
    max_context=st.just(262144),
)
contexts = st.integers(1, 262144)
blocks = st.sampled_from([16, 32, 64])
batches = st.integers(1, 16384)


@given(geometries, contexts, st.integers(0, 4096), blocks, batches)
def test_a_longer_context_never_costs_less(geometry: Geometry, context: int, more: int, block: int, batch: int) -> None:
    short, with_progress = (
        plan(geometry, length, block_size=block, max_num_batched_tokens=batch).bytes_per_sequence
        for length in (context, context + more)
    )
    assert short <= with_progress


@given(geometries, contexts, blocks, batches, st.integers(0, 4096))
def test_a_larger_batch_never_costs_less(geometry: Geometry, context: int, block: int, batch: int, more: int) -> None:
    small, large = (
        plan(geometry, context, block_size=block, max_num_batched_tokens=tokens).bytes_per_sequence
        for tokens in (batch, batch + more)
    )
    assert small <= large


@given(geometries, contexts, blocks, batches)
def test_one_byte_a_number_is_half_of_two(geometry: Geometry, context: int, block: int, batch: int) -> None:
    two, one = (
        plan(geometry, context, block_size=block, max_num_batched_tokens=batch, kv_cache_dtype=dtype).bytes_per_sequence
        for dtype in ("auto", "fp8")
    )
    assert two == 2 * one


@given(geometries, contexts, blocks, batches)
def test_every_cached_layer_is_in_exactly_one_group_and_has_room_for_its_tokens(
    geometry: Geometry, context: int, block: int, batch: int
) -> None:
    made = plan(geometry, context, block_size=block, max_num_batched_tokens=batch)
    for kind, count in geometry.cached_layers.items():
        groups = [group for group in made.groups if group.kind == kind]
        assert sum(group.layers for group in groups) == count
        kept = context if kind == "full" else min(geometry.sliding_window, context)
        assert all(group.blocks * group.block_size >= kept for group in groups)
    assert all(group.layers <= made.layers_per_group for group in made.groups)


@settings(max_examples=50)
@given(geometries, contexts, batches, st.integers(0, 20 * GIB))
def test_the_longest_context_is_the_last_that_fits(geometry: Geometry, limit: int, batch: int, pool: int) -> None:
    longest = longest_context(geometry, pool, limit, max_num_batched_tokens=batch)
    assert 0 <= longest <= limit
    if longest:
        assert plan(geometry, longest, max_num_batched_tokens=batch).bytes_per_sequence <= pool
    if longest < limit:
        assert plan(geometry, longest + 1, max_num_batched_tokens=batch).bytes_per_sequence > pool


@pytest.mark.parametrize(
    ("gib", "batch", "seqs"), [(16, 2048, 256), (64, 2048, 256), (70, 8192, 1024), (96, 8192, 1024)]
)
def test_vllm_s_defaults_follow_the_size_of_the_gpu(gib: int, batch: int, seqs: int) -> None:
    assert default_batch(gib * GIB, 131072) == batch
    assert default_max_num_seqs(gib * GIB) == seqs


def test_the_default_batch_is_no_more_than_all_sequences_hold() -> None:
    assert default_batch(64 * GIB, 100, max_num_seqs=4) == 400


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"pattern": None}, "either pattern or layer_types"),
        ({"layer_types": ("full",) * 42}, "either pattern or layer_types"),
        ({"pattern": None, "layer_types": ("full",) * 3}, "3 entries for 42 layers"),
        ({"pattern": "4:1"}, "does not divide 42 layers evenly"),
        ({"pattern": "0:0"}, "does not divide 42 layers evenly"),
        ({"pattern": "four:1"}, "pattern"),
        ({"shared_kv_layers": 42}, "leaves none"),
        ({"layers": 0}, "greater than or equal to 1"),
        ({"layers": "42"}, "valid integer"),
        ({"window": 512}, "Extra inputs"),
    ],
)
def test_a_geometry_that_contradicts_itself_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        shape("E4B", **wrong)
