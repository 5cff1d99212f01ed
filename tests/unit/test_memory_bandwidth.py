import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ojai.memory import Bands, bands, decode
from ojai.sizes import GB


def test_the_guides_ceilings() -> None:
    assert decode(10 * GB, 128).ceiling_tok_per_s == pytest.approx(12.8)
    assert decode(8 * GB, 89.6).ceiling_tok_per_s == pytest.approx(11.2)
    assert decode(2 * GB, 89.6).ceiling_tok_per_s == pytest.approx(44.8)


@pytest.mark.parametrize(
    ("speed", "verdict"),
    [
        (0, "broken"),
        (4.9, "broken"),
        (5, "sub-optimal"),
        (6.85, "sub-optimal"),
        (7, "healthy"),
        (10.9, "healthy"),
        (11, "excellent"),
        (12.9, "excellent"),
        (21, "suspicious"),
    ],
)
def test_the_guides_table_at_the_guides_ceiling(speed: float, verdict: str) -> None:
    assert bands().rate(speed, 12.8).verdict == verdict


def test_both_guides_measurements_are_healthy_at_the_real_bandwidth() -> None:
    assert bands().rate(6.85, decode(10 * GB, 89.6).ceiling_tok_per_s).verdict == "healthy"
    assert bands().rate(7, decode(8 * GB, 89.6).ceiling_tok_per_s).verdict == "healthy"


def test_a_band_s_span_is_where_it_is_judged() -> None:
    start, end = bands().span("healthy", 11.2)
    assert end is not None
    assert bands().rate(start, 11.2).verdict == bands().rate(end - 0.001, 11.2).verdict == "healthy"
    assert bands().rate(end, 11.2).verdict == "excellent"
    assert bands().span("suspicious", 11.2)[1] is None
    assert bands().span("broken", 11.2)[0] == 0


@given(st.integers(1, 100 * GB), st.floats(1, 1000), st.integers(0, 10 * GB))
def test_a_longer_cache_is_never_faster(weights: int, bandwidth: float, cache: int) -> None:
    alone = decode(weights, bandwidth)
    loaded = decode(weights, bandwidth, cache_bytes_per_token=cache)
    assert loaded.ceiling_tok_per_s <= alone.ceiling_tok_per_s
    assert loaded.expected_tok_per_s[0] < loaded.expected_tok_per_s[1] == loaded.ceiling_tok_per_s


@pytest.mark.parametrize("wrong", [(0, 89.6), (GB, 0), (-1, 1)])
def test_impossible_figures_are_refused(wrong: tuple[int, float]) -> None:
    with pytest.raises(ValueError, match="above zero"):
        decode(*wrong)


@pytest.mark.parametrize("ends", [[7, 5, None], [5, None, None], [5, 7]])
def test_a_table_that_does_not_rise_is_refused(ends: list[float | None]) -> None:
    with pytest.raises(ValidationError, match="bands must rise"):
        Bands.model_validate(
            {
                "source": "here",
                "reference_tok_per_s": 12.8,
                "bands": [{"verdict": "healthy", "below": end, "meaning": ""} for end in ends],
            }
        )
