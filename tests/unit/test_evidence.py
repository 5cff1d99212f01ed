"""Bundles of owners are replayed, and prove claims; the page says which."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from ojai.doctor import Case, Results, case, examine, facts, pack, unpack
from ojai.facts.condition import Answered
from ojai.facts.report import Report
from ojai.facts.report.gpu import Gpu
from ojai.plan import plan
from ojai.pyinfra_runs.kept import Kept
from ojai.settings import parse
from ojai.settings.inventory import Entry
from ojai.sizes import GIB
from tests.unit.test_doctor import sound
from tools import evidence_table

CLAIMS = {one["claim"]: one for one in yaml.safe_load((evidence_table.DATA / "claims.yaml").read_text())}
REPLAYED = [
    pytest.param(one, id=f"{name}-{one.name}") for name, cases in evidence_table.bundles().items() for one in cases
]


def test_the_page_is_fresh() -> None:
    assert evidence_table.main(["--check"]) == 0, "run make reference"


def objections(replayed: Case) -> list[str]:
    """What preflight, doctor and the memory budget have against a host that served."""
    found = [one.finding.cause for one in examine(replayed) if one.finding.rank in ("cause", "general", "unknown")]
    settings = parse(replayed.name, replayed.data)
    assert replayed.answered is not None and replayed.answered.report is not None
    planned = plan(Entry(replayed.name, (), replayed.data, settings), report=replayed.answered.report)
    found += [f"{one.unit} does not fit" for one in planned.services if not one.budget.fits]
    return found + [line for line in facts(replayed) if line.startswith("fact budget") and "agrees=no" in line]


@pytest.mark.parametrize("replayed", REPLAYED)
def test_nothing_is_said_against_a_host_that_served(replayed: Case) -> None:
    assert objections(replayed) == []


@pytest.mark.parametrize(
    ("carve_out", "cache", "objection"),
    [
        (64, "42.1", None),
        (64, "7.0", "agrees=no"),
        (8, "42.1", "does not fit"),
    ],
)
def test_a_replay_objects_where_budget_and_host_do_not_agree(
    tmp_path: Path, carve_out: int, cache: str, objection: str | None
) -> None:
    report = sound(vram_total=carve_out * GIB)
    log = (f"INFO 11-27 09:03:02 [gpu_worker.py:470] Available KV cache memory: {cache} GiB",)
    data = {"services": [{"profile": "gemma-4-e4b"}]}
    file = tmp_path / "b.json"
    file.write_text(pack([case("mini", data, 0.0, Answered(log=log, report=report), "")], "now"))
    found = objections(unpack(file)[0])
    assert found == [] if objection is None else any(objection in one for one in found), found


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
    assert json.loads(file.read_text())["version"] == 2
    cases = unpack(file)
    assert evidence_table.proved(CLAIMS[claim], cases[0]) is proved
    row = next(one for one in evidence_table.page({"b": cases}).splitlines() if one.startswith(f"| {claim} "))
    assert ("`b`" if proved else "not yet") in row


VERIFY = "every check of `ojai verify` passes, and a deploy would change nothing"
SMOKE = "E4B does what `ojai smoke` asks: thinking, tools, pictures and long texts"
ASKED = ("thinking on", "tool call", "image", "needle at the limit")


@pytest.mark.parametrize(
    ("claim", "when", "failed", "proved"),
    [
        (VERIFY, 900_000.0, (), True),
        (VERIFY, 100_000.0, (), False),
        (VERIFY, 900_000.0, ("docker",), False),
        (SMOKE, 900_000.0, (), True),
        (SMOKE, 900_000.0, ("audio",), False),
        (SMOKE, 900_000.0, ("tool call",), False),
    ],
    ids=["verify", "before the boot", "verify failed", "smoke", "one failed", "one that is asked for failed"],
)
def test_results_prove_what_was_asked_of_what_runs_now(
    tmp_path: Path, claim: str, when: float, failed: tuple[str, ...], proved: bool
) -> None:
    areas = [Kept("verify", area, "it is", "failed" if area in failed else "passed", "", when, "1")
             for area in ("docker", "drift", "kernel", "vllm")]  # fmt: skip
    asked = [Kept("smoke", "vllm-gemma4", name, "failed" if name in failed else "passed", "", when, "1")
             for name in (*ASKED, "audio")]  # fmt: skip
    answered = made_up().answered
    assert answered is not None
    answered = replace(answered, facts=(*answered.facts, "fact models vllm-gemma4 google/gemma-4-E4B-it"))
    file = tmp_path / "b.json"
    file.write_text(pack([case("mini", {}, 1_000_000.0, answered, "", Results((*areas, *asked)))], "now"))
    assert evidence_table.proved(CLAIMS[claim], unpack(file)[0]) is proved
