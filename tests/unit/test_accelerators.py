from typing import Any

import pytest
from pydantic import ValidationError

from ojai.accelerators import (
    Accelerator,
    UnknownAcceleratorError,
    by_pci_id,
    load,
    names,
    unserved,
)


def test_both_are_known() -> None:
    assert names() == ["gfx1150", "gfx1151"]


@pytest.mark.parametrize(
    ("name", "pci", "version", "override"),
    [("gfx1150", "1002:150e", 110500, "11.5.0"), ("gfx1151", "1002:1586", 110501, "11.5.1")],
)
def test_a_host_s_answers_lead_to_it(name: str, pci: str, version: int, override: str) -> None:
    found = load(name)
    assert by_pci_id(pci) is found and by_pci_id(pci.upper()) is found
    assert found.gfx_target_version == version
    assert found.hsa_override_gfx_version == override
    assert not found.hsa_override_needed and not found.supports_aiter


def test_what_is_not_known_is_none() -> None:
    assert by_pci_id("10de:2204") is None


@pytest.mark.parametrize(("name", "near"), [("gfx1105", "gfx115"), ("gfx-1151", "gfx1151")])
def test_an_unknown_name_is_refused_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UnknownAcceleratorError, match=f"did you mean {near}.*known are gfx1150, gfx1151"):
        load(name)


@pytest.mark.parametrize(("name", "pci"), [("gfx1152", "1002:1114"), ("gfx1153", "1002:1902")])
def test_a_gpu_without_an_image_is_known_and_told_so(name: str, pci: str) -> None:
    assert name not in names() and unserved()[name].pci_ids == (pci,)
    with pytest.raises(UnknownAcceleratorError, match=f"{name} .*no image of vLLM has code for it.*llama.cpp's"):
        load(name)


def test_the_smaller_gpus_of_a_chip_are_named() -> None:
    assert "880M" in load("gfx1150").title
    assert all(smaller in load("gfx1151").title for smaller in ("8050S", "8065S"))


def test_nothing_near_is_said_when_nothing_is_near() -> None:
    with pytest.raises(UnknownAcceleratorError) as caught:
        load("h100")
    assert "did you mean" not in str(caught.value) and "gfx1150" in str(caught.value)


def test_bandwidths_and_their_contradiction() -> None:
    assert load("gfx1150").memory().gb_per_s == 89.6
    assert load("gfx1150").memory("lpddr5x-8000").gb_per_s == 128
    assert load("gfx1151").memory().gb_per_s == 256
    with pytest.raises(ValueError, match="known are ddr5-5600, lpddr5x-8000"):
        load("gfx1150").memory("hbm3")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sources": {}}, "no source for"),
        ({"sources": {**load("gfx1150").sources, "colour": "seen"}}, "sources for colour"),
        ({"default_memory": "hbm3"}, "'hbm3' is not in memories"),
        ({"carve_out_gib": [16, 8]}, "must rise"),
        ({"pci_ids": ["150e"]}, "pattern"),
        ({"colour": "red"}, "Extra inputs"),
    ],
)
def test_an_entry_that_is_not_whole_is_refused(change: dict[str, Any], said: str) -> None:
    entry = load("gfx1150").model_dump() | change
    with pytest.raises(ValidationError, match=said):
        Accelerator.model_validate(entry)
