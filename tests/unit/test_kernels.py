"""Kernel releases as Debian and Ubuntu name them, compared the way that AMD's floors are meant."""

from __future__ import annotations

import platform

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ojai import accelerators, kernels

RELEASES = {
    "6.17.0-1012-oem": ((6, 17, 0), (1012,), "oem"),
    "6.14.0-1018": ((6, 14, 0), (1018,), ""),
    "6.8.0-90-generic": ((6, 8, 0), (90,), "generic"),
    "6.8.0-1020-raspi": ((6, 8, 0), (1020,), "raspi"),
    "6.8.0-90-lowlatency-64k": ((6, 8, 0), (90,), "lowlatency-64k"),
    "6.18.4": ((6, 18, 4), (), ""),
    "6.12.57+deb13-amd64": ((6, 12, 57), (), "amd64"),
    "6.12.57+deb13-cloud-amd64": ((6, 12, 57), (), "cloud-amd64"),
    "6.1.0-41-cloud-amd64": ((6, 1, 0), (41,), "cloud-amd64"),
    "6.17.0-061700-generic": ((6, 17, 0), (61700,), "generic"),
    "5.15.167.4-microsoft-standard-WSL2": ((5, 15, 167, 4), (), "microsoft-standard-WSL2"),
}


@pytest.mark.parametrize(("text", "parts"), RELEASES.items())
def test_releases(text, parts):
    found = kernels.parse(f" {text}\n")
    assert (found.base, found.abi, found.flavour) == parts
    assert found.text == text


@pytest.mark.parametrize("text", ["", "6", "generic", "linux-6.17.0", "6.17.0-1012-oem extra", "v6.18"])
def test_what_is_no_release_is_named(text):
    with pytest.raises(ValueError, match="expected one such as") as error:
        kernels.parse(text)
    assert repr(text) in str(error.value)


#: oldest first
IN_ORDER = [
    "6.8.0-90-generic",
    "6.14.0-1005-oem",
    "6.14.0-1018-oem",
    "6.14.1-1-oem",
    "6.17.0-19-generic",
    "6.17.0-1005-oem",
    "6.17.0-1012-oem",
    "6.17.13",
    "6.18.4",
    "6.18.10",
    "7.0.0-1-generic",
]


def test_order():
    """6.14.0-1005 and 6.14.0-1018 differ by the ABI alone, and 10 is more than 4."""
    assert sorted(IN_ORDER, key=lambda text: kernels.parse(text).order) == IN_ORDER
    assert [kernels.parse(text).order for text in IN_ORDER] == sorted({kernels.parse(t).order for t in IN_ORDER})


NUMBERS = st.tuples(st.integers(2, 9), st.integers(0, 40), st.integers(0, 200), st.integers(0, 3000))


@given(NUMBERS, NUMBERS)
def test_order_is_that_of_the_numbers(one, other):
    texts = [f"{a}.{b}.{c}-{abi}-oem" for a, b, c, abi in (one, other)]
    first, second = (kernels.parse(text).order for text in texts)
    assert (first < second, first == second) == (one < other, one == other)


def test_newest_is_of_the_flavour():
    installed = ("6.17.0-1005-oem", "6.17.0-1012-oem", "6.17.0-2000-generic", "6.18.4", "vmlinuz.old")
    assert kernels.newest(installed, "oem").text == "6.17.0-1012-oem"
    assert kernels.newest(installed, "generic").text == "6.17.0-2000-generic"
    assert kernels.newest(installed, "").text == "6.18.4"
    assert kernels.newest(installed, "lowlatency") is None
    assert kernels.newest((), "oem") is None


@pytest.mark.parametrize("name", accelerators.names())
def test_the_floors_are_readable(name):
    floors = accelerators.load(name).kernel_floors
    assert all(kernels.parse(floor).base for floor in floors.values())


def test_this_machines_own_release():
    assert kernels.parse(platform.release()).base
