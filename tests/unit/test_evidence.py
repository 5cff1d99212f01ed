"""Bundles of owners are replayed, and prove claims; the page says which."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from ojai.doctor import Case, case, examine, pack, unpack
from ojai.facts.condition import Answered
from ojai.facts.report import Report
from ojai.facts.report.gpu import Gpu
from tools import evidence_table

CLAIMS = {one["claim"]: one for one in yaml.safe_load((evidence_table.DATA / "claims.yaml").read_text())}
REPLAYED = [
    pytest.param(one, id=f"{name}-{one.name}") for name, cases in evidence_table.bundles().items() for one in cases
]


def test_the_page_is_fresh() -> None:
    assert evidence_table.main(["--check"]) == 0, "run make reference"


@pytest.mark.parametrize("replayed", REPLAYED)
def test_preflight_and_doctor_have_nothing_against_a_host_that_served(replayed: Case) -> None:
    assert [one for one in examine(replayed) if one.finding.rank in ("cause", "unknown")] == []


def made_up(kernel: str = "6.17.0-1028-oem", *log: str) -> Case:
    report = Report(kernel=kernel, gfx_versions=(110500,), gpu=Gpu(saves={110500: True}, mes=(0x83,)))
    said = ("fact health vllm-gemma4 200", "fact uptime 700000.1")
    return case("mini", {}, 0.0, Answered(facts=said, log=log, report=report), "")


@pytest.mark.parametrize(
    ("claim", "kernel", "line", "proved"),
    [
        ("the OEM kernel's own driver brings up a gfx1150 GPU", "6.17.0-1028-oem", "", True),
        ("the OEM kernel's own driver brings up a gfx1150 GPU", "6.17.0-28-generic", "", False),
        ("root can read the version of the MES firmware that is loaded", "6.17.0-1028-oem", "", True),
        ("a week of serving leaves no hang of the GPU in the kernel's log", "6.17.0-1028-oem", "", True),
        ("a week of serving leaves no hang of the GPU in the kernel's log", "x", "amdgpu: ring gfx timeout", False),
        ("a W4A16 profile runs by the kernel for RDNA", "x", "Using RDNAHybridW4A16LinearKernel", True),
    ],
)
def test_a_bundle_proves_what_is_in_it_and_no_more(
    tmp_path: Path, claim: str, kernel: str, line: str, proved: bool
) -> None:
    file = tmp_path / "b.json"
    file.write_text(pack([made_up(kernel, line)], "now"))
    assert json.loads(file.read_text())["version"] == 1
    cases = unpack(file)
    assert evidence_table.proved(CLAIMS[claim], cases[0]) is proved
    row = next(one for one in evidence_table.page({"b": cases}).splitlines() if one.startswith(f"| {claim} "))
    assert ("`b`" if proved else "not yet") in row
