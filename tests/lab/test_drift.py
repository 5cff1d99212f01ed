"""One damage of every role, as one batch; `make drift` runs all of them."""

from __future__ import annotations

from tests.lab.conftest import LAB, deploy
from tests.lab.drift import Site, run_chain
from tests.lab.mutations import SAMPLE, named


def test_one_damage_a_role_is_named_and_mended(guest):
    ready = deploy()  # what other tests left is not the sample's to judge
    assert ready.status == 0, ready.output[-3000:]
    (seen,) = run_chain(Site(LAB), [[named(name) for name in SAMPLE]])
    assert {one.mutation.name: one.faults for one in seen if one.faults} == {}
