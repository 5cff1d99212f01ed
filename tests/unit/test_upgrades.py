"""The list of upgrades that fail, and its page."""

import json
import re

import pytest

from ojai.settings import parse
from tests.lab import results, upgrades
from tests.lab.upgrades import FAILURES, away


def test_there_are_at_least_ten_kinds_each_with_a_name_of_its_own():
    assert len({failure.name for failure in FAILURES}) == len(FAILURES) >= 10


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.name)
def test_each_is_an_inventory_that_is_not_refused_for_its_words(failure):
    """What the settings refuse never reaches the service: the rehearsal would show nothing."""
    data = dict(word.split("=", 1) for word in failure.words[1::2])
    parse("lab", {key: json.loads(value) for key, value in data.items()})
    re.compile(failure.says)


def test_the_time_away_is_what_lies_between_the_looks():
    looks = [(0.0, True), (1.0, True), (2.0, False), (2.5, False), (4.0, True), (5.0, True)]
    assert away(looks) == 2.0
    assert away([]) == 0


def test_the_page_is_the_one_that_the_results_give_and_nothing_was_lost():
    seen = results.load("upgrades")
    assert (results.REFERENCE / "failed-upgrades.md").read_text() == upgrades.page(seen), "run `make upgrades`"
    assert {name for name, one in seen.items() if not one["back"]} == set()
    assert len(seen) >= 10
