"""What was measured under load and abuse is what the issue asks for, and the page tells it."""

import json

import pytest

from tests.gateway import test_abuse
from tests.gateway.figures import FIGURES, PAGE, page

FOUND = json.loads(FIGURES.read_text())


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == page(FOUND), "run python -m tests.gateway.figures"


@pytest.mark.parametrize("which", ["load", "real"])
def test_every_request_had_an_answer_or_a_clear_error(which):
    load = FOUND[which]
    assert load["streams"] == 64 and load["seconds"] >= 120
    assert load["whole"] + load["refused"] + load["cut"] == load["requests"]
    assert load["whole"] >= 64 and load["refused"] and load["cut"] <= 64 and load["again"] > 0


def test_ssh_and_the_gateway_are_all_that_answers():
    assert (FOUND["scan"]["named"], FOUND["scan"]["others"]) == ([22, 8443], [22])


def test_each_test_of_abuse_was_counted_and_let_nothing_through():
    counted = FOUND["abuse"]["tests"]
    assert counted.keys() == {name for name in vars(test_abuse) if name.startswith("test_")}
    assert all(one["connections"] > 0 and one["unlisted"] == 0 for one in counted.values())
