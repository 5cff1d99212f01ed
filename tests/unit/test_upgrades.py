"""The list of upgrades that fail, and its page."""

import json
import re

import pytest

from ojai.settings import parse
from tests.lab import pages, results
from tests.lab.cases import UPGRADES
from tests.lab.run import KINDS
from tests.lab.upgrades import downtime, options


def test_there_are_at_least_ten_kinds_each_with_a_name_of_its_own():
    assert len({case.name for case in UPGRADES}) == len(UPGRADES) >= 10


@pytest.mark.parametrize("case", UPGRADES, ids=lambda case: case.name)
def test_each_is_an_inventory_that_is_not_refused_for_its_words(case):
    """What the settings refuse never reaches the service: the rehearsal would show nothing."""
    data = dict(word.split("=", 1) for word in options(case)[1::2])
    parse("lab", {key: json.loads(value) for key, value in data.items()})
    re.compile(case.says)


def test_the_downtime_is_what_lies_between_the_looks():
    looks = [(0.0, True), (1.0, True), (2.0, False), (2.5, False), (4.0, True), (5.0, True)]
    assert downtime(looks) == 2.0
    assert downtime([]) == 0


def test_the_page_is_the_one_that_the_results_give_and_nothing_was_lost():
    seen = results.load("upgrades")
    others = {engine: results.load("upgrades", engine) for engine in results.OTHERS}
    page = pages.upgrades(seen, others)
    assert KINDS["upgrades"].path.read_text() == page, "run python -m tests.lab.run upgrades --page"
    assert {name for name, one in seen.items() if not one["passed"]} == set()
    assert len(seen) >= 10
