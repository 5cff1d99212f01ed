import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from ojai.sizes import GB, GIB, Bytes, format_gb, format_gib, parse_bytes


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("64GiB", 68_719_476_736),
        ("64 gib", 68_719_476_736),
        ("16 GB", 16_000_000_000),
        ("4.88GB", 4_880_000_000),
        ("0.5 GiB", 536_870_912),
        ("512MiB", 536_870_912),
        ("1TiB", 1 << 40),
        ("4096", 4096),
        ("4096 B", 4096),
        (" 52_000_000_000 ", 52_000_000_000),
        (7, 7),
    ],
)
def test_amounts_people_write(text: str | int, amount: int) -> None:
    assert parse_bytes(text) == amount


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("64G", "GiB"),
        ("64Gi", "write GiB"),
        ("lots", "is not an amount"),
        ("", "is not an amount"),
        ("-4 GB", "is not an amount"),
        ("64 parsecs", "'parsecs'"),
        ("0.3 B", "whole number of bytes"),
        ("1e9", "is not an amount"),
        ("٦٤GiB", "is not an amount"),
        (-1, "negative"),
        (True, "is not an amount"),
        (None, "is not an amount"),
    ],
)
def test_what_is_no_amount_is_refused_with_a_reason(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"\S") as caught:
        parse_bytes(text)
    assert said in str(caught.value)


@given(st.integers(min_value=0, max_value=1 << 50))
def test_whole_gib_and_gb_survive_the_round_trip(count: int) -> None:
    assert parse_bytes(format_gib(count * GIB)) == count * GIB
    assert parse_bytes(format_gb(count * GB)) == count * GB


@given(st.text(max_size=12))
def test_any_text_gives_bytes_or_a_value_error(text: str) -> None:
    try:
        assert parse_bytes(text) >= 0
    except ValueError as error:
        assert str(error)


def test_rounding_is_to_the_nearest_and_leaves_whole_numbers_alone() -> None:
    assert format_gb(15_250_000_000) == "15.3 GB"
    assert format_gb(100 * GB) == "100 GB"
    assert format_gib(1) == "0 GiB"


def test_a_bytes_field_takes_numbers_and_text_and_nothing_negative() -> None:
    class Holder(BaseModel):
        size: Bytes

    assert Holder.model_validate({"size": "64GiB"}).size == Holder(size=64 * GIB).size
    for wrong in ("64 Gigs", -1):
        with pytest.raises(ValidationError):
            Holder.model_validate({"size": wrong})
