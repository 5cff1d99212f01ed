"""A virtual machine of these tests' own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.lab import manifest
from tests.lab.cases import INTERRUPTIONS, Interruption, named
from tests.lab.cutting import Cut, interrupt, probe, using
from tests.lab.machine import ROOT, Deploy, Guest, Lab

#: A place, how the deploy was cut off there, and what that left on the guest.
CutOff = tuple[Interruption, Cut, list[str]]

LAB = Lab(ROOT / ".lab-test")
ojai, deploy = LAB.ojai, LAB.deploy

#: For work on the tests themselves: a guest that is there is taken, and left there.
KEEP = bool(os.environ.get("OJAI_LAB_KEEP"))

#: Where the first deploy is cut off, one after the other. `make chaos` does many more, each on its own.
FIRST_CUTS = (
    named(INTERRUPTIONS, "kernel: dpkg unpacks it"),
    named(INTERRUPTIONS, "image: it is pulled (killed)"),
    named(INTERRUPTIONS, "service: it is waited for (network)"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Removal comes last, whatever file it is in: the other tests want what it takes away."""
    items.sort(key=lambda item: item.name.startswith("test_removal"))


@pytest.fixture(scope="session")
def stock() -> Iterator[Guest]:
    """A guest that nobody has deployed to yet, on its stock kernel."""
    if not KEEP:
        ojai("lab", "down", "--destroy")
    up = ojai("lab", "up")
    assert up.returncode == 0, up.stderr
    yield Guest(LAB)
    if KEEP:
        return
    down = ojai("lab", "down", "--destroy")
    assert down.returncode == 0, down.stderr


@pytest.fixture(scope="session")
def before(stock: Guest) -> tuple[str, str]:
    """The kernel release and the boot id from before the first deploy."""
    kernel, boot = stock.text("uname -r; cat /proc/sys/kernel/random/boot_id").split()
    return kernel, boot


@pytest.fixture(scope="session")
def untouched(stock: Guest) -> dict[str, str]:
    """Every file of the guest from before the first deploy. Nothing of one that was kept: it has been deployed to."""
    if KEEP:
        return {}
    return manifest.take(stock)


@pytest.fixture(scope="session")
def cut_off(stock: Guest, before: tuple[str, str], untouched: dict[str, str]) -> list[CutOff]:
    """The first deploy, cut off three times: where, how, and what each cut left on the guest."""
    if KEEP and stock.run("command -v dockerd || test -e /usr/sbin/dockerd").returncode == 0:
        return []
    with using(LAB):
        return [(case, interrupt(case, LAB), probe(stock)) for case in FIRST_CUTS]


@pytest.fixture(scope="session")
def first(stock: Guest, before: tuple[str, str], cut_off: list[CutOff]) -> tuple[Deploy, str, str]:
    """The first deploy to reach its end; with the guest's kernel release and boot id from before all of them."""
    return deploy(), *before


@pytest.fixture(scope="session")
def guest(stock: Guest, first: tuple[Deploy, str, str]) -> Guest:
    """A guest that has been deployed to."""
    assert first[0].status == 0, first[0].output[-6000:]
    return stock
