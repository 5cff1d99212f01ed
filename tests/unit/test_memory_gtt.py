import pytest
from hypothesis import given
from hypothesis import strategies as st

from ojai.memory import OPTIONS_FILE, Limit, check_pages_limit, others_in_force, pages_bytes, ttm_pages
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


def in_force(*lines: str, words: tuple[str, ...] = (), ours: bool = True) -> dict[str, str]:
    found = others_in_force(lines, words, "/proc/cmdline", ours=ours)
    return {limit.setting: limit.place for limit in found}


def test_the_last_of_modprobes_files_wins_and_the_command_line_over_all() -> None:
    """The order is what `modprobe --showconfig` of kmod 30 shows of such files."""
    early, late = "/etc/modprobe.d/amdgpu.conf", "/etc/modprobe.d/ttm.conf"
    assert in_force(f"{early}:options ttm pages_limit=1") == {}
    assert in_force(f"{early}:options ttm pages_limit=1", ours=False) == {"ttm.pages_limit=1": early}
    assert in_force(f"{late}:options ttm page_pool_size=9 pages_limit=2") == {"ttm.pages_limit=2": late}
    both = (f"{late}:options ttm pages_limit=2", f"{early}:options ttm pages_limit=1")
    assert in_force(*both, ours=False) == {"ttm.pages_limit=2": late}
    assert in_force(*both, words=("quiet", "ttm.pages_limit=3")) == {"ttm.pages_limit=3": "/proc/cmdline"}
    shadowed = (f"{late}:options ttm pages_limit=2", "/usr/lib/modprobe.d/ttm.conf:options ttm pages_limit=4")
    assert in_force(*shadowed) == {"ttm.pages_limit=2": late}
    assert in_force(f"{OPTIONS_FILE}:options ttm pages_limit=7", ours=False) == {}, "that is ours to remove"


def test_a_gtt_size_counts_wherever_it_is_set_and_other_parameters_do_not() -> None:
    early = "/etc/modprobe.d/amdgpu.conf"
    assert in_force(f"{early}:options amdgpu cwsr_enable=0 gttsize=126976") == {"amdgpu.gttsize=126976": early}
    assert in_force(f"{early}:options amdgpu gttsize=-1", words=("ttm.pages_limit=0",)) == {}
    assert in_force(words=("amdttm.pages_limit=5", "ttm.dma32_pages_limit=5", "ttm.page_pool_size=5")) == {}
    assert others_in_force((), ("amdgpu.gttsize=1024", "ttm.pages_limit=0x40000"), "x", ours=True) == [
        Limit("x", "amdgpu.gttsize=1024", GIB),
        Limit("x", "ttm.pages_limit=0x40000", GIB),
    ]
