"""`ojai status`: what hosts answered, as lines and as JSON."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ojai.cli import main
from ojai.cmdline import status
from ojai.facts.status import HostStatus, ServiceStatus
from ojai.pyinfra_runs import kept
from ojai.pyinfra_runs.verification import Check, Verdict
from tests.unit.browsing import in_a_browser

GIB = 1 << 30
SERVES = ServiceStatus(
    "vllm-gemma4",
    load="loaded",
    active="active",
    sub="running",
    since=1000.0,
    health=200,
    model="google/gemma-4-E4B-it",
    running=2,
    waiting=1,
    tokens_per_second=13.75,
    kv_cache=0.125,
)
WELL = HostStatus(
    now=100_000.0,
    gpu_busy=97.0,
    gpu_celsius=68.0,
    vram_used=12 * GIB,
    vram_total=16 * GIB,
    gtt_used=GIB,
    gtt_total=22 * GIB,
    disk_free=812 * 10**9,
    disk_total=10**12,
    deployed=96_400.0,
    services=(SERVES,),
)


@pytest.fixture
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    file = tmp_path / "hosts.py"
    file.write_text(
        'hosts = [("mini-01", {"services": [{"profile": "gemma-4-e4b"}]}), ("mini-02", {"services": []})]\n'
    )
    return file


def asked(monkeypatch: pytest.MonkeyPatch, answers: dict[str, HostStatus], failures: dict[str, str]) -> None:
    monkeypatch.setattr(status, "collect_statuses", lambda *_: (answers, failures))


def run(*words: str) -> Result:
    done = CliRunner().invoke(main, ["status", *words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    return done


def test_a_line_a_service(inventory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked(monkeypatch, {"mini-01": WELL, "mini-02": HostStatus(now=1.0)}, {})
    done = run(str(inventory))
    assert done.exit_code == 0
    head, first, second = done.output.splitlines()
    assert head.split()[:4] == ["Service", "State", "Since", "Model"]
    assert [cell.strip() for cell in first.split("  ") if cell.strip()] == [
        *("mini-01/vllm-gemma4", "serves", "1 d 3 h", "google/gemma-4-E4B-it", "2", "1", "13.8", "12 %", "-"),
        *("12.0 of 16.0 GiB", "97 %", "68 °C", "812 GB free", "1 h 0 min ago", "-"),
    ]
    assert [cell.strip() for cell in second.split("  ") if cell.strip()] == ["mini-02", "no service", *["-"] * 13]


def test_what_is_not_said_is_not_invented(inventory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked(monkeypatch, {"mini-01": HostStatus()}, {})
    done = run(str(inventory), "--limit", "mini-01")
    assert done.exit_code == 1
    assert done.output.splitlines()[1].split() == ["mini-01/vllm-gemma4", *["-"] * 14]
    (found,) = json.loads(run(str(inventory), "--limit", "mini-01", "--json").stdout)["services"]
    known = {"host", "service", "state", "serves", "deploying"}
    assert {key for key, value in found.items() if value is not None} == known and not found["serves"]


@pytest.mark.parametrize(
    ("service", "state"),
    [
        ({"health": 503}, "not ready"),
        ({"health": 0, "active": "activating", "sub": "auto-restart"}, "restarts"),
        ({"health": 0, "active": "failed", "sub": "failed"}, "failed"),
        ({"health": 0, "active": "inactive", "sub": "dead"}, "stopped"),
        ({"health": 0, "active": "inactive", "load": "not-found"}, "not deployed"),
        ({"health": 0, "active": "inactive", "load": "masked"}, "masked"),
    ],
)
def test_states(inventory: Path, monkeypatch: pytest.MonkeyPatch, service: dict[str, Any], state: str) -> None:
    said = ServiceStatus(**{"name": "vllm-gemma4", "load": "loaded", "active": "active", "sub": "running", **service})
    asked(monkeypatch, {"mini-01": HostStatus(services=(said,))}, {})
    done = run(str(inventory), "--limit", "mini-01", "--json")
    assert (done.exit_code, json.loads(done.stdout)["services"][0]["state"]) == (1, state)


def test_a_host_that_gives_no_answer_has_a_line_and_hides_none(
    inventory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked(monkeypatch, {"mini-02": WELL}, {"mini-01": "Authentication error"})
    done = run(str(inventory))
    assert done.exit_code == 1
    assert "unreachable" in done.output.splitlines()[1] and "mini-02" in done.output.splitlines()[2]
    assert done.output.splitlines()[3] == "mini-01: Authentication error"


def test_shared_memory_where_the_services_live_in_it(
    inventory: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    service = {"profile": "gemma-4-e4b", "gpu_memory_utilization": 0.5}
    data = {"services": [service], "memory_regime": "gtt", "gtt_limit": "32GiB", "accelerator": "gfx1151"}
    inventory.write_text(f'hosts = [("mini-01", {data!r})]\n')
    asked(monkeypatch, {"mini-01": WELL}, {})
    (found,) = json.loads(run(str(inventory), "--json").stdout)["services"]
    assert (found["gpu_memory_used"], found["gpu_memory_total"]) == (GIB, 22 * GIB)


def verdict(outcome: Any) -> Verdict:
    return Verdict("mini-01", ElementTree.Element("testsuite"), (Check("drift", "no drift", outcome, 1.0),), state="ok")


@pytest.mark.parametrize(("outcome", "said"), [("passed", "none, "), ("failed", "yes, ")])
def test_drift_is_what_verify_found_last(
    inventory: Path, monkeypatch: pytest.MonkeyPatch, outcome: str, said: str
) -> None:
    asked(monkeypatch, {"mini-01": WELL, "mini-02": WELL}, {})
    kept.keep(str(inventory), verdict(outcome))
    first, second = run(str(inventory)).output.splitlines()[1:3]
    assert said in first and first.rstrip().endswith("s ago") and second.rstrip().endswith("-")
    file = next((inventory.parent / "state").rglob("*.json"))
    assert file.parent.stat().st_mode & 0o077 == 0
    file.write_text("{")
    assert run(str(inventory)).output.splitlines()[1].rstrip().endswith("-")


def test_a_verify_that_did_not_look_for_drift_leaves_what_was_found(inventory: Path) -> None:
    kept.keep(str(inventory), verdict("failed"))
    kept.keep(str(inventory), Verdict("mini-01", ElementTree.Element("testsuite"), (), state="ok"))
    found = kept.drift(str(inventory), "mini-01")
    assert found is not None and found.drifted


def test_smokes_results_are_kept_beside_verifys_and_new_ones_take_the_place_of_old_ones(inventory: Path) -> None:
    name = str(inventory)
    kept.keep(name, verdict("passed"))
    for outcome in ("failed", "passed"):
        kept.keep_results(name, "mini-01", "smoke", [("vllm-gemma4", "tool call", outcome, "said")])
    kept.keep_results(name, "mini-01", "smoke", [("vllm-gemma4", "audio", "skipped", "no audio")])
    found = [(one.by, one.about, one.name, one.outcome) for one in kept.kept(name, "mini-01")]
    assert found == [
        ("verify", "drift", "no drift", "passed"),
        ("smoke", "vllm-gemma4", "tool call", "passed"),
        ("smoke", "vllm-gemma4", "audio", "skipped"),
    ]
    assert kept.kept(name, "mini-02") == ()


def test_a_page_has_services_and_hosts_those_that_do_not_serve_first(
    inventory: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    inventory.write_text(
        'hosts = [(name, {"services": [{"profile": "gemma-4-e4b"}]}) for name in ("well", "<b>gone</b>")]\n'
        'hosts += [("none", {"services": []})]\n'
    )
    asked(monkeypatch, {"well": WELL, "none": HostStatus()}, {"<b>gone</b>": "Connection refused"})
    page = tmp_path / "status.html"
    done = run(str(inventory), "--html", str(page))
    text = page.read_text()
    assert done.exit_code == 1 and "1 of 2 services serve." in text and 'verdict bad"' in text
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)]
    rows = [row for row in rows if row]
    assert rows == [
        ["&lt;b&gt;gone&lt;/b&gt;/vllm-gemma4", "unreachable", *["-"] * 7],
        ["well/vllm-gemma4", "serves", "1 d 3 h", "google/gemma-4-E4B-it", "2", "1", "13.8", "12 %", "-"],
        ["none", "no service", *["-"] * 7],
        ["&lt;b&gt;gone&lt;/b&gt;", *["-"] * 6],
        ["well", "12.0 of 16.0 GiB", "97 %", "68 °C", "812 GB free", "1 h 0 min ago", "-"],
        ["none", *["-"] * 6],
    ]
    assert '<td class="bad">unreachable' in text and '<td class="ok">serves' in text and "Connection refused" in text
    assert run(str(inventory), "--html", str(tmp_path / "no" / "page.html")).exit_code == 2


@pytest.mark.parametrize("width", [1280, 480])
def test_the_page_in_a_browser(width: int, inventory: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Wide tables scroll by themselves, not the page; what is green and red is seen so."""
    asked(monkeypatch, {"mini-01": WELL}, {"mini-02": "Connection refused"})
    page = tmp_path / "status.html"
    run(str(inventory), "--html", str(page))
    found = in_a_browser(
        page.read_text(),
        """const out = {width: innerWidth, page: document.documentElement.scrollWidth, tables: [], colors: {}};
        for (const table of document.querySelectorAll("table")) {
          const box = table.parentElement.getBoundingClientRect();
          out.tables.push([box.width, table.rows[0].cells.length, table.rows.length]);
        }
        for (const cell of document.querySelectorAll("td[class], .verdict"))
          out.colors[cell.textContent] = getComputedStyle(cell).color;
        return out;""",
        width,
        tmp_path,
    )
    assert found["page"] <= found["width"], "the page scrolls sideways"
    assert [cells for _, *cells in found["tables"]] == [[9, 3], [7, 3]]
    assert all(200 < box <= found["width"] for box, *_ in found["tables"])
    assert found["colors"]["serves"] != found["colors"]["unreachable"]
    assert found["colors"]["1 of 2 services serve."]


def test_drift_is_looked_for_when_asked(inventory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked(monkeypatch, {"mini-01": WELL}, {})
    monkeypatch.setattr(status, "verify", lambda entries, plan: [verdict("failed")] if plan.deploy else [])
    assert "yes, 0 s ago" in run(str(inventory), "--limit", "mini-01", "--drift").output


def test_watching_reads_again_until_it_is_ended(inventory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked(monkeypatch, {"mini-01": WELL}, {})
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            raise SystemExit(0)

    monkeypatch.setattr(status.time, "sleep", sleep)
    done = run(str(inventory), "--limit", "mini-01", "--watch", "--json")
    assert pauses == [5, 5]
    assert [json.loads(line)["services"][0]["running"] for line in done.stdout.splitlines()] == [2, 2]


@pytest.mark.parametrize(("words", "ended"), [(("--watch",), 0), ((), 1)])
def test_ctrl_c_ends_watching_quietly(
    words: tuple[str, ...], ended: int, inventory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ctrl_c(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(status, "collect_statuses", ctrl_c)
    done = run(str(inventory), "--limit", "mini-01", *words)
    assert (done.exit_code, "Aborted!" in done.output) == (ended, not words)
