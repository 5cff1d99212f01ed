"""One drift case of every role, as one batch; `make drift` runs all of them."""

from __future__ import annotations

from tests.lab.backends import VirtualMachine
from tests.lab.cases import SAMPLE
from tests.lab.conftest import LAB, deploy
from tests.lab.drift import run_chain


def test_one_case_a_role_is_detected_and_fixed(guest):
    ready = deploy()  # what other tests left is not the sample's to judge
    assert ready.status == 0, ready.output[-3000:]
    (outcomes,) = run_chain(VirtualMachine(LAB), [SAMPLE])
    assert {one.case.name: one.failures for one in outcomes if one.failures} == {}
