"""Verdicts: what pytest's report says of a host, and that no host can pass by not being checked."""

import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from click.testing import CliRunner

from ojai.cmdline.verify import command
from ojai.pyinfra_runs import verification
from ojai.pyinfra_runs.verification import Verdict, _joined, merge_junit, read_junit
from ojai.settings import parse
from ojai.settings.inventory import Entry

REPORT = """<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite name="pytest" tests="3">
<testcase classname="tests.host.test_sysctl" name="test_parameters_are_in_force[mini]" time="0.5">
<failure message="AssertionError: vm.overcommit_memory&#10;assert '0' == '1'">trace</failure></testcase>
<testcase classname="tests.host.test_vllm" name="test_it_is_healthy[mini]" time="1.25"/>
<testcase classname="tests.host.test_vllm" name="test_it_comes_back[mini]" time="0">
<skipped message="not asked"/></testcase>
</testsuite></testsuites>"""
GOOD = REPORT.replace(
    "<failure message=\"AssertionError: vm.overcommit_memory&#10;assert '0' == '1'\">trace</failure>", ""
)


def test_a_report_is_read_as_areas_names_and_outcomes():
    verdict = read_junit("mini", REPORT)
    assert [(check.area, check.name, check.outcome) for check in verdict.checks] == [
        ("sysctl", "parameters are in force", "failed"),
        ("vllm", "it is healthy", "passed"),
        ("vllm", "it comes back", "skipped"),
    ]
    assert verdict.checks[0].message == "vm.overcommit_memory\nassert '0' == '1'"
    assert not verdict.ok


def test_a_long_reason_is_told_in_full():
    """pytest shortens the attribute; the text of a failure without a traceback has all."""
    words = "; ".join(f"operation {number}" for number in range(99))
    failure = (
        f'<failure message="Failed: {words[:500]}...&#10;[truncated; full report in element text]">{words}</failure>'
    )
    text = REPORT.replace(REPORT[REPORT.index("<failure") : REPORT.index("</testcase>")], failure)
    assert read_junit("mini", text).checks[0].message == words


def test_a_host_is_good_only_if_something_passed_and_nothing_failed():
    assert read_junit("mini", GOOD).ok
    assert not Verdict(host="mini", checks=(), junit="").ok
    assert not Verdict(host="mini", checks=read_junit("mini", GOOD).checks, junit=GOOD, error="no answer").ok


def test_trouble_in_one_half_is_trouble_of_the_host():
    half = read_junit("mini", GOOD)
    assert not _joined(half, Verdict(host="mini", checks=(), junit="", error="pytest died")).ok
    assert _joined(half, half).count("passed") == 4


def test_the_merged_document_has_a_suite_a_host_and_an_error_for_the_one_not_checked():
    merged = merge_junit([read_junit("one", GOOD), Verdict(host="two", checks=(), junit="", error="unreachable")])
    suites = {suite.get("name"): suite for suite in ElementTree.fromstring(merged).iter("testsuite")}
    assert set(suites) == {"one", "two"}
    assert suites["two"].find("testcase/error") is not None


@pytest.fixture
def hosts(monkeypatch, tmp_path):
    """Two hosts, ``ok`` and ``gone``, as if pytest had been run over them."""
    entries = [Entry(name, (), {}, parse(name, {})) for name in ("good", "gone")]
    verdicts = {"good": read_junit("good", GOOD), "gone": Verdict("gone", (), "", error="Connection refused")}
    monkeypatch.setattr(
        "ojai.parameters.read", lambda inventory, limit: [e for e in entries if not limit or e.name in limit]
    )
    monkeypatch.setattr(verification, "verify_host", lambda inventory, host, *_: verdicts[host])
    inventory = tmp_path / "two.py"
    inventory.write_text("")
    return str(inventory)


def test_one_unreachable_host_neither_hides_the_other_nor_passes(hosts):
    done = CliRunner().invoke(command, [hosts])
    assert done.exit_code == 1
    assert "Connection refused" in done.output and "it is healthy" in done.output


def test_nagios_is_one_line_with_the_status_that_monitoring_expects(hosts):
    bad = CliRunner().invoke(command, [hosts, "--nagios"])
    assert bad.exit_code == 2
    assert bad.output.splitlines() == [bad.output.strip()] and bad.output.startswith("OJAI CRITICAL - 2 hosts")
    ok = CliRunner().invoke(command, [hosts, "--nagios", "--limit", "good"])
    assert (ok.exit_code, ok.output.split(" - ")[0]) == (0, "OJAI OK")


def test_what_goes_wrong_on_this_machine_for_one_host_does_not_hide_the_others(monkeypatch):
    def run(argv, **words):
        if "--host=bad" in argv:
            raise OSError("No space left on device")
        if "--host=slow" in argv:
            raise subprocess.TimeoutExpired(argv, words["timeout"])
        report = argv[argv.index("--junitxml") + 1]
        Path(report).write_text(GOOD)
        return subprocess.CompletedProcess(argv, 0, "", "")

    monkeypatch.setattr(verification.subprocess, "run", run)
    found = {
        verdict.host: verdict for verdict in verification.verify("i.py", ["bad", "good", "slow"], timeout_seconds=7)
    }
    assert found["good"].ok
    assert "No space left" in found["bad"].error and "within 7 s" in found["slow"].error


def test_what_pytest_says_can_stand_in_xml(monkeypatch):
    said = subprocess.CompletedProcess([], 3, "", "\x1b[31mbroken\x1b[0m")
    monkeypatch.setattr(verification.subprocess, "run", lambda *_, **__: said)
    verdict = verification.verify_host("i.py", "one")
    assert verdict.error == "[31mbroken[0m"
    ElementTree.fromstring(merge_junit([verdict]))


def test_junit_is_written_where_it_is_asked_for(hosts, tmp_path):
    report = tmp_path / "out.xml"
    CliRunner().invoke(command, [hosts, "--junit", str(report)])
    assert {suite.get("name") for suite in ElementTree.parse(report).iter("testsuite")} == {"good", "gone"}


def test_without_ssh_it_is_asked_for_by_name(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    (verdict,) = verification.verify("inventory/fleet.py", ["mini-01"])
    assert not verdict.ok and "apt install openssh-client" in verdict.error


def test_without_ssh_this_computer_can_still_be_checked(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(verification, "_run", lambda *_: read_junit("@local", GOOD))
    assert next(verification.verify("inventory/fleet.py", ["@local"])).ok
