import pytest
from hypothesis import given
from hypothesis import strategies as st

from ojai.memory import check_pages_limit, pages_bytes, ttm_pages
from ojai.sizes import GIB


@pytest.mark.parametrize(
    ("gib", "pages"), [(100, 26_214_400), (124, 32_505_856), (96, 25_165_824), (0.5, 131_072), ("1.5", 393_216)]
)
def test_pages_are_gib_times_262144(gib: float, pages: int) -> None:
    assert ttm_pages(gib) == pages


def test_it_is_not_the_widespread_formula() -> None:
    assert ttm_pages(108) != round(108 * 1024 * 1024 / 4.096)


@given(st.integers(1, 4096))
def test_pages_and_bytes_agree(gib: int) -> None:
    assert pages_bytes(ttm_pages(gib)) == gib * GIB


@pytest.mark.parametrize("wrong", [0, -1, 0.000001])
def test_what_is_no_number_of_pages_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="whole number"):
        ttm_pages(wrong)


def test_a_cap_beyond_ram_says_what_is_allowed() -> None:
    (fault,) = check_pages_limit(ttm_pages(124), 62 * GIB + 5)
    assert "allows 124 GiB" in fault
    assert "at most 16252928 (62 GiB)" in fault
    assert check_pages_limit(ttm_pages(62), 62 * GIB) == []
