"""A virtual machine of these tests' own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.lab.machine import ROOT, Deploy, Guest, Lab

LAB = Lab(ROOT / ".lab-test")
ojai, deploy = LAB.ojai, LAB.deploy


@pytest.fixture(scope="session")
def stock() -> Iterator[Guest]:
    """A guest that nobody has deployed to yet, on its stock kernel."""
    keep = bool(os.environ.get("OJAI_LAB_KEEP"))  # for work on the tests themselves: a guest that is there is taken
    if not keep:
        ojai("lab", "down", "--destroy")
    up = ojai("lab", "up")
    assert up.returncode == 0, up.stderr
    yield Guest(LAB)
    if keep:
        return
    down = ojai("lab", "down", "--destroy")
    assert down.returncode == 0, down.stderr


@pytest.fixture(scope="session")
def first(stock: Guest) -> tuple[Deploy, str, str]:
    """The first deploy; with the guest's kernel release and boot id from before it."""
    before = stock.text("uname -r; cat /proc/sys/kernel/random/boot_id").split()
    return deploy(), before[0], before[1]


@pytest.fixture(scope="session")
def guest(stock: Guest, first: tuple[Deploy, str, str]) -> Guest:
    """A guest that has been deployed to."""
    assert first[0].status == 0, first[0].output[-6000:]
    return stock
