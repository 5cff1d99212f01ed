"""The token rule, the prefix cache and the metrics' text."""

from hypothesis import given
from hypothesis import strategies as st

from ojai.lab.modelserver import answers, metrics, tokens


@given(st.text())
def test_pieces_joined_are_the_text(text):
    assert "".join(tokens.pieces(text)) == text


@given(st.text(), st.text())
def test_more_text_is_never_fewer_tokens(one, two):
    assert len(tokens.pieces(f"{one} {two}")) >= max(len(tokens.pieces(one)), len(tokens.pieces(two)))


def test_the_rule():
    assert tokens.pieces("a bc defgh") == ["a", " bc", " defg", "h"]
    assert tokens.pieces("") == []
    assert len(tokens.pieces("é" * 4)) == 2, "four bytes a token, not four characters"


def test_equal_pieces_have_equal_numbers():
    first, second, third = tokens.identifiers(["ab", "cd", "ab"])
    assert first == third != second
    assert 0 <= first < tokens.VOCABULARY


def test_prefix_cache_hits_whole_leading_blocks_only():
    cache = tokens.PrefixCache(4)
    prompt = list(range(11))
    assert cache.look_up(prompt) == 0
    assert cache.look_up(prompt) == 8
    assert cache.look_up([*prompt[:5], 99, 98, 97, 96]) == 4
    assert cache.look_up([99, *prompt]) == 0
    assert cache.look_up(prompt[:8]) == 4, "the last token is always computed"


def test_prefix_cache_forgets_the_oldest():
    cache = tokens.PrefixCache(2, capacity_blocks=2)
    cache.look_up([1, 2, 3])
    cache.look_up([4, 5, 6, 7, 8])
    assert cache.look_up([1, 2, 3]) == 0


def test_metrics_text():
    counted = metrics.Metrics('na"me', 100)
    counted.add("generation_tokens", 3)
    counted.observe("time_to_first_token_seconds", 0.001)
    counted.observe("time_to_first_token_seconds", 9999)
    text = counted.text()
    labels = 'engine="0",model_name="na\\"me"'
    assert f"vllm:generation_tokens_total{{{labels}}} 3.0\n" in text
    assert 'vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="na\\"me"} 1.0\n' in text
    assert 'vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="na\\"me"} 2.0\n' in text
    assert f"vllm:time_to_first_token_seconds_count{{{labels}}} 2.0\n" in text
    assert "# TYPE vllm:generation_tokens_total counter\n" in text
    assert counted.read("time_to_first_token_seconds") == 2


def test_length_buckets():
    assert metrics.one_two_five(100) == (1, 2, 5, 10, 20, 50, 100)
    assert metrics.one_two_five(1) == (1,)


def test_smallest_instance_of_a_schema():
    assert answers.minimal_instance({"type": "array", "items": {"type": "integer"}, "minItems": 2}) == [0, 0]
    assert answers.minimal_instance({"anyOf": [{"const": 7}, {"type": "string"}]}) == 7
    assert answers.minimal_instance({"type": ["string", "null"]}) == "stand-in"
