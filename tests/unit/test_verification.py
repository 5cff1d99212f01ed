"""Verdicts: what pytest's report says of a host, and that no host can pass by not being checked."""

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from ojai.checks import ssh_options
from ojai.cli import main
from ojai.cmdline.verify import command
from ojai.parameters import find_deploy
from ojai.pyinfra_runs import drift, telling, verification
from ojai.pyinfra_runs.verification import Plan, areas, failed, merge_junit, read_junit
from ojai.resources import DEPLOY
from ojai.settings import parse
from ojai.settings.inventory import Entry

ROOT = Path(__file__).resolve().parents[2]
REPORT = """<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite name="pytest" tests="3" failures="1" \
time="2.5"><testcase classname="tests.host.test_sysctl" name="test_parameters_are_in_force[mini]" time="0.5">
<failure message="AssertionError: vm.overcommit_memory&#10;assert '0' == '1'">trace</failure></testcase>
<testcase classname="tests.host.test_vllm" name="test_it_is_healthy[mini]" time="1.25"/>
<testcase classname="tests.host.test_vllm" name="test_it_comes_back[mini]" time="0">
<skipped message="not asked"/></testcase>
</testsuite></testsuites>"""
FAILURE = REPORT[REPORT.index("<failure") : REPORT.index("</testcase>")]
GOOD = REPORT.replace(FAILURE, "").replace('failures="1"', 'failures="0"')
FILES = (Path("test_x.py"),)

#: Three hosts of which none listens; the address is this machine's own.
CLOSED = """
hosts = [(name, {"ssh_hostname": "127.0.0.1", "ssh_port": 1, "_sudo_password": "S3CRET"}) for name in ("a", "b", "c")]
"""


def entry(name, **data):
    return Entry(name, ("minis",), data, parse(name, data))


def test_a_report_is_read_as_areas_names_and_outcomes():
    verdict = read_junit("mini", REPORT)
    assert [(check.area, check.name, check.outcome) for check in verdict.checks] == [
        ("sysctl", "parameters are in force", "failed"),
        ("vllm", "it is healthy", "passed"),
        ("vllm", "it comes back", "skipped"),
    ]
    assert verdict.checks[0].message == "vm.overcommit_memory\nassert '0' == '1'"
    assert not verdict.ok and verdict.state == "failed"


def test_a_long_reason_is_told_in_full():
    """pytest shortens the attribute; the text of a failure without a traceback has all."""
    words = "; ".join(f"operation {number}" for number in range(99))
    failure = (
        f'<failure message="Failed: {words[:500]}...&#10;[truncated; full report in element text]">{words}</failure>'
    )
    assert read_junit("mini", REPORT.replace(FAILURE, failure)).checks[0].message == words


def test_a_host_is_ok_only_if_something_passed_and_nothing_failed():
    assert read_junit("mini", GOOD).ok
    assert not read_junit("mini", "<testsuites><testsuite/></testsuites>").ok
    assert not failed("mini", "no answer", "unreachable").ok


def test_a_host_of_which_every_check_was_skipped_is_not_checked_and_says_why():
    skipped = '<testsuite><testcase classname="a" name="b" time="0"><skipped message="removed"/></testcase></testsuite>'
    verdict = read_junit("mini", f"<testsuites>{skipped}</testsuites>")
    assert (verdict.ok, verdict.state) == (False, "not checked") and "removed" in verdict.error


def test_the_document_has_a_suite_a_host_and_one_error_for_the_one_not_checked():
    merged = merge_junit([read_junit("one", GOOD), failed("two", "unreachable")])
    suites = {suite.get("name"): suite for suite in ElementTree.fromstring(merged).iter("testsuite")}
    assert list(suites) == ["one", "two"]
    assert len(suites["two"].findall("testcase/error")) == len(suites["two"].findall("testcase")) == 1
    assert len(suites["one"].findall("testcase")) == 3


def answer(monkeypatch, junit=GOOD, plan=(), status=0, said=""):
    """As if pytest had reported ``junit`` and the dry run had found ``plan``; the command lines and their order."""
    calls = []

    def run(argv, **kwargs):
        calls.append((argv, kwargs))
        if "pytest" in argv:
            Path(argv[argv.index("--junitxml") + 1]).write_text(junit)
            return subprocess.CompletedProcess(argv, 0, "", "")
        plan_ = [{"name": name, "hosts_with_change": ["mini"]} for name in plan]
        return subprocess.CompletedProcess(argv, status, json.dumps({"plan": plan_}), f"    [mini] Connected\n{said}")

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def test_drift_is_one_more_check_of_the_same_suite(monkeypatch):
    answer(monkeypatch, plan=["Docker | Write daemon.json", "vLLM | Start"])
    verdict = verification.verify_host(entry("mini"), Plan(FILES, DEPLOY))
    assert [check.area for check in verdict.checks] == ["drift", "sysctl", "vllm", "vllm"]
    assert verdict.checks[0].message == "the next deploy would: Docker | Write daemon.json; vLLM | Start"
    assert (verdict.suite.get("tests"), verdict.suite.get("failures"), verdict.state) == ("4", "1", "failed")
    answer(monkeypatch)
    verdict = verification.verify_host(entry("mini"), Plan(FILES, DEPLOY))
    assert verdict.ok and verdict.count("passed") == 3


def test_drift_beside_a_deploy_says_that_one_is_running(monkeypatch):
    running = "a deploy is running here: ada on laptop, since 9:00 (`pyinfra a.py b.py`). What is found may differ."
    answer(monkeypatch, plan=["vLLM | Start"], said=f"    [mini] {running}\n    [mini] Ready: deploy.py\n")
    verdict = verification.verify_host(entry("mini"), Plan(FILES, DEPLOY))
    assert verdict.checks[0].message == f"the next deploy would: vLLM | Start ({running})"
    answer(monkeypatch, said=f"    [mini] {running}\n")
    assert verification.verify_host(entry("mini"), Plan(FILES, DEPLOY)).ok


def test_with_disruptive_the_dry_run_is_over_before_the_checks_begin(monkeypatch):
    calls = answer(monkeypatch)
    verification.verify_host(entry("mini"), Plan(FILES, DEPLOY, disruptive=True))
    assert ["pytest" in argv for argv, _ in calls] == [False, True]
    assert "--disruptive" in calls[1][0]


def test_the_dry_run_uses_sudo_where_there_is_no_config_beside_the_deploy(monkeypatch, tmp_path):
    calls = answer(monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deploy.py").write_text("")
    drift.find_drift(entry("mini", ssh_port=1), tmp_path / "deploy.py")
    (tmp_path / "config.py").write_text("")
    drift.find_drift(entry("mini", ssh_port=1), tmp_path / "deploy.py")
    given = [one for _, kwargs in calls for one in json.loads(kwargs["input"])]
    assert [one["data"].get("_sudo") for one in given] == [True, None]
    assert all((one["name"], one["groups"], one["data"]["ssh_port"]) == ("mini", ["minis"], 1) for one in given)


def test_only_drift_of_a_host_that_is_gone_is_no_drift(monkeypatch):
    monkeypatch.setattr(
        subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1, "", "    [mini] Could not connect (no)")
    )
    verdict = verification.verify_host(entry("mini"), Plan((), DEPLOY))
    assert verdict.state == "unreachable" and verdict.error is not None
    assert verdict.error.startswith("cannot be reached by pyinfra: Could not connect (no). Look in the inventory at ")
    assert "ssh_hostname (mini), ssh_port (22)" in verdict.error


def test_the_inventory_is_read_once_and_a_host_takes_two_processes(tmp_path):
    """Every Python process that is started writes a line, whoever starts it."""
    started, inventory = tmp_path / "started", tmp_path / "closed.py"
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys\nwith open({str(started)!r}, 'a') as file:\n    print(*sys.orig_argv, file=file)\n"
    )
    read = tmp_path / "read"
    inventory.write_text(f"open({str(read)!r}, 'a').write('x')\n{CLOSED}")
    report = tmp_path / "junit.xml"
    done = subprocess.run(
        [sys.executable, "-m", "ojai", "verify", str(inventory), "--junit", str(report)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = started.read_text().splitlines()[1:]  # the first is ojai itself
    assert len(lines) == 2 * 3 + 1, lines
    assert sum(" pytest " in line for line in lines) == sum("given_host" in line for line in lines) == 3
    assert read.read_text() == "x"
    # A password in the data is on no command line.
    assert not any("S3CRET" in line for line in lines) and "S3CRET" not in done.stdout + done.stderr
    # One line a host, in the words of ssh, with the data to look at.
    assert done.returncode == 1
    shown = done.stdout.splitlines()
    assert len(shown) == 4, done.stdout
    for line in sorted(shown)[1:]:
        assert line[1:].startswith(": UNREACHABLE cannot be reached: ssh: connect to host 127.0.0.1 port 1:")
        assert "ssh_port (1)" in line and "object at" not in line
    suites = list(ElementTree.parse(report).iter("testsuite"))
    assert [suite.get("name") for suite in suites] == ["a", "b", "c"]
    assert all([child.tag for case in suite for child in case] == ["error"] for suite in suites)


def test_a_machine_that_is_none_is_not_checked(tmp_path):
    done = CliRunner().invoke(command, [str(ROOT / "inventory" / "fake.py"), "--limit", "@fake/mini-00", "--nagios"])
    assert (done.exit_code, done.output.count("\n")) == (3, 1)
    assert done.output.startswith("OJAI UNKNOWN - 1 hosts") and "not checked: @fake/mini-00" in done.output


@pytest.fixture
def hosts(monkeypatch, tmp_path):
    """Hosts in several states, as if pytest had been run over them."""
    verdicts = {
        "ok": read_junit("ok", GOOD),
        "gone": failed("gone", "cannot be reached: Connection refused", "unreachable"),
        "broken": read_junit("broken", REPORT),
        "slow": failed("slow", "did not end", "timed out"),
        "odd": failed("odd", "sudo: a password is required"),
    }
    monkeypatch.setattr(
        "ojai.parameters.read", lambda inventory, limit=(): [entry(n) for n in verdicts if not limit or n in limit]
    )
    monkeypatch.setattr(verification, "verify_host", lambda entry, plan: verdicts[entry.name])
    inventory = tmp_path / "two.py"
    inventory.write_text("")
    return str(inventory)


def limited(*names):
    return [word for name in names for word in ("--limit", name)]


def test_one_unreachable_host_neither_hides_the_other_nor_passes(hosts):
    done = CliRunner().invoke(command, [hosts, "--all", *limited("ok", "gone")])
    assert done.exit_code == 1
    assert "Connection refused" in done.output and "it is healthy" in done.output


def test_of_many_hosts_only_failures_are_shown_and_of_one_all(hosts):
    many = CliRunner().invoke(command, [hosts, *limited("ok", "broken")]).output
    assert "parameters are in force" in many and "it is healthy" not in many
    assert "ok: ok 2 passed" in many and "broken: FAILED 1 passed, 1 failed, 1 skipped" in many
    assert "it is healthy" in CliRunner().invoke(command, [hosts, *limited("ok")]).output
    assert "it is healthy" not in CliRunner().invoke(command, [hosts, "--failed-only", *limited("ok")]).output


def test_failed_checks_have_a_next_step(hosts):
    done = CliRunner().invoke(command, [hosts, *limited("broken")]).output
    assert f"Next: run the deploy again: pyinfra {hosts} {find_deploy(hosts)} --limit broken" in done
    assert "Next" not in CliRunner().invoke(command, [hosts, *limited("ok")]).output


@pytest.mark.parametrize(
    ("names", "status", "line"),
    [
        (["ok"], 0, "OJAI OK - 1 hosts, 2 passed, 0 failed in"),
        (["ok", "gone", "broken"], 2, "unreachable: gone; failed: broken (sysctl)"),
        (["ok", "slow"], 3, "OJAI UNKNOWN - 2 hosts, 2 passed, 0 failed in 0 seconds; timed out: slow"),
        (["odd"], 3, "not checked: odd"),
        (["slow", "gone"], 2, "OJAI CRITICAL - 2 hosts, 0 passed, 0 failed in 0 seconds; unreachable: gone; timed out"),
    ],
)
def test_nagios_is_one_line_with_the_status_that_monitoring_expects(hosts, names, status, line):
    done = CliRunner().invoke(command, [hosts, "--nagios", *limited(*names)])
    assert done.exit_code == status
    assert done.stdout.count("\n") == 1 and line in done.stdout


@pytest.mark.parametrize("inventory", ["not-there.py", "faulty.py"])
def test_monitoring_reads_of_a_faulty_inventory_on_standard_output(tmp_path, inventory):
    (tmp_path / "faulty.py").write_text("hosts = [('mini', {'kernel_reboot': 'sometimes'})]\n")
    argv = [sys.executable, "-m", "ojai", "verify", str(tmp_path / inventory)]
    done = subprocess.run([*argv, "--nagios"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.startswith("OJAI UNKNOWN - ") and done.stdout.count("\n") == 1
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--nagios", "--json"], "choose one"),
        (["--junit", "/proc/not-there/junit.xml"], "junit"),
        (["--only", "dockr"], "did you mean docker?"),
        (["--only", "xyz"], "known: apt, caches, docker, drift, firewall, gateway"),
        (["--use-sudo-password"], "terminal"),
    ],
)
def test_a_call_that_cannot_work_is_refused_before_the_checks(hosts, monkeypatch, options, words):
    monkeypatch.setattr(verification, "verify_host", lambda *_: pytest.fail("a host was checked"))
    done = CliRunner().invoke(command, [hosts, *options])
    status = 3 if "--nagios" in options else 2
    assert done.exit_code == status and words in done.output, done.output


def test_json_says_ok_error_and_state(hosts):
    document = json.loads(CliRunner().invoke(command, [hosts, "--json"]).stdout)
    assert document["ok"] is False
    shown = {host["host"]: (host["ok"], host["state"], host["error"]) for host in document["hosts"]}
    assert shown["ok"] == (True, "ok", None)
    assert shown["gone"] == (False, "unreachable", "cannot be reached: Connection refused")
    assert list(shown) == ["ok", "gone", "broken", "slow", "odd"]


def test_areas_can_be_chosen_and_own_checks_added(hosts, monkeypatch, tmp_path):
    (tmp_path / "test_webui.py").write_text("")
    plans = []
    monkeypatch.setattr(verification, "verify_host", lambda entry, plan: plans.append(plan) or read_junit("ok", GOOD))
    ask = ["--checks", str(tmp_path), *limited("ok")]
    CliRunner().invoke(command, [hosts, "--only", "docker", "--only", "webui", *ask])
    CliRunner().invoke(command, [hosts, "--only", "drift", *ask])
    CliRunner().invoke(command, [hosts, *ask])
    assert [path.name for path in plans[0].files] == ["test_docker.py", "test_webui.py"]
    assert (plans[0].deploy, plans[1].files) == (None, ())
    assert plans[1].deploy == find_deploy(hosts)
    assert len(plans[2].files) == 19 and set(areas()) - {"drift"} == {
        "apt", "caches", "docker", "firewall", "gateway", "groups", "kernel", "ledger", "lock", "network", "power",
        "releases", "rocm", "surface", "sysctl", "vllm", "watch", "weights",
    }  # fmt: skip


@pytest.mark.parametrize("options", [[], ["--only", "mine"], ["--nagios"]], ids=" ".join)
def test_own_checks_that_cannot_be_imported_are_no_hosts_fault(tmp_path, options):
    inventory = tmp_path / "closed.py"
    inventory.write_text(CLOSED)
    (tmp_path / "test_mine.py").write_text("import nowhere_at_all\n")
    (tmp_path / "test_two.py").write_text("x = (\n")
    found = CliRunner().invoke(command, [str(inventory), "--checks", str(tmp_path), *options])
    assert found.exit_code == (3 if "--nagios" in options else 2), found.output
    assert "test_mine.py: ModuleNotFoundError: No module named 'nowhere_at_all'" in found.output
    assert ("test_two.py: SyntaxError: '(' was never closed" in found.output) == ("--only" not in options)
    assert "NOT CHECKED" not in found.output and "Traceback" not in found.output


def test_own_checks_are_given_the_host(tmp_path):
    """With the fixtures of ours, and whatever settings of pytest their folder has."""
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    (tmp_path / "test_own.py").write_text("def test_the_port(entry):\n    assert entry.data['ssh_port'] == 22\n")
    found = entry("mini", ssh_port=23, _sudo_password="x")
    verdict = verification.verify_host(found, Plan((tmp_path / "test_own.py",), None))
    assert [(check.area, check.outcome) for check in verdict.checks] == [("own", "failed")], verdict
    assert "23 == 22" in verdict.checks[0].message


def test_without_services_what_is_about_serving_is_skipped(monkeypatch, tmp_path):
    (tmp_path / "test_own.py").write_text(
        "from types import SimpleNamespace\nimport pytest\nfrom ojai import checks\n\n\n"
        "@pytest.fixture(scope='session')\ndef mini(entry):\n"
        "    silent = SimpleNamespace(run=lambda *_: SimpleNamespace(stdout=''))\n"
        "    return checks.Mini(entry, silent)\n\n\n"
        "def test_it_serves(services):\n    pass\n\n\ndef test_it_is_there(mini):\n    pass\n"
    )
    plan = Plan((tmp_path / "test_own.py",), None)
    none, one = (verification.verify_host(entry("mini", **data), plan) for data in ({"services": []}, {}))
    assert [check.outcome for check in none.checks] == ["skipped", "passed"]
    assert none.checks[0].message == "the inventory names no service"
    assert [check.outcome for check in one.checks] == ["passed", "passed"]


def test_what_goes_wrong_on_this_machine_for_one_host_does_not_hide_the_others(monkeypatch):
    def run(argv, **kwargs):
        given = next(word for word in argv if word.startswith("--inventory="))
        host = json.loads(Path(given.partition("=")[2]).read_text())[0]["name"]
        if host == "bad":
            raise OSError("No space left on device")
        if host == "slow":
            raise subprocess.TimeoutExpired(argv, kwargs["timeout"])
        Path(argv[argv.index("--junitxml") + 1]).write_text(GOOD)
        return subprocess.CompletedProcess(argv, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    entries = [entry(name) for name in ("bad", "good", "slow")]
    found = {verdict.host: verdict for verdict in verification.verify(entries, Plan(FILES, None, timeout_seconds=7))}
    assert found["good"].ok
    assert "No space left" in found["bad"].error and "within 7 s" in found["slow"].error
    assert [found[name].state for name in ("bad", "slow")] == ["not checked", "timed out"]


def test_what_pytest_says_can_stand_in_xml(monkeypatch):
    died = subprocess.CompletedProcess([], 3, "", "\x1b[31mbroken\x1b[0m")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: died)
    verdict = verification.verify_host(entry("one"), Plan(FILES, None))
    assert verdict.error == "[31mbroken[0m"
    ElementTree.fromstring(merge_junit([verdict]))


def test_the_hosts_data_is_in_a_file_of_this_account_alone(monkeypatch):
    modes = []

    def run(argv, **_):
        given = Path(next(word for word in argv if word.startswith("--inventory=")).partition("=")[2])
        modes.append((given.stat().st_mode & 0o777, given.parent.stat().st_mode & 0o777))
        return subprocess.CompletedProcess(argv, 3, "", "died")

    monkeypatch.setattr(subprocess, "run", run)
    verification.verify_host(entry("one"), Plan(FILES, None))
    assert modes == [(0o600, 0o700)]


def test_junit_is_written_where_it_is_asked_for(hosts, tmp_path):
    report = tmp_path / "out.xml"
    CliRunner().invoke(command, [hosts, "--junit", str(report), *limited("ok", "gone")])
    assert [suite.get("name") for suite in ElementTree.parse(report).iter("testsuite")] == ["ok", "gone"]


def test_a_page_has_every_host_and_check_those_that_are_wrong_first(hosts, tmp_path):
    page = tmp_path / "out.html"
    done = CliRunner().invoke(command, [hosts, "--html", str(page), *limited("ok", "gone", "broken")])
    assert done.exit_code == 1
    text = page.read_text()
    assert "1 of 3 hosts are ok." in text
    titles = re.findall("<h2>(.*?)</h2>", text)
    assert titles == ["gone: unreachable", "broken: failed", "ok: ok"]
    assert "cannot be reached: Connection refused" in text and "it is healthy" in text
    broken = text[text.index("broken: failed") : text.index("ok: ok")]
    assert broken.index('class="bad">failed') < broken.index('class="ok">passed')
    assert f"pyinfra {hosts} {find_deploy(hosts)} --limit broken" in broken


def test_without_ssh_it_is_asked_for_by_name(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    (verdict,) = verification.verify([entry("mini-01")], Plan(FILES, None))
    assert not verdict.ok and "apt install openssh-client" in verdict.error


def test_without_ssh_this_computer_can_still_be_checked(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    answer(monkeypatch)
    assert next(verification.verify([entry("@local")], Plan(FILES, None))).ok


def test_ssh_is_told_what_pyinfra_reads_from_the_same_data(tmp_path):
    plain = ssh_options({}, tmp_path)
    # pyinfra's own default: a host that is not known yet is accepted, one whose key changed is not.
    assert "StrictHostKeyChecking=accept-new" in plain and "BatchMode=yes" in plain
    assert not any(option.startswith(("UserKnownHostsFile", "Port", "IdentitiesOnly")) for option in plain)
    own = ssh_options(
        {"ssh_strict_host_key_checking": "yes", "ssh_known_hosts_file": "/k", "ssh_port": 22, "ssh_password": "x"},
        tmp_path,
    )
    assert {"StrictHostKeyChecking=yes", "UserKnownHostsFile=/k", "Port=22"} <= set(own)
    assert "BatchMode=yes" not in own


def test_a_key_that_is_not_there_is_named(tmp_path):
    inventory = tmp_path / "keyless.py"
    inventory.write_text("hosts = [('a', {'ssh_hostname': '127.0.0.1', 'ssh_port': 1, 'ssh_key': '/not/there'})]\n")
    done = CliRunner().invoke(command, [str(inventory), "--only", "apt"])
    assert "ssh_key (/not/there): there is no such file" in done.output


def test_the_deploy_is_the_one_beside_or_above_the_inventory_or_here_or_our_own(tmp_path, monkeypatch):
    (tmp_path / "repository" / "inventory").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    inventory = tmp_path / "repository" / "inventory" / "fleet.py"
    inventory.write_text("")
    monkeypatch.chdir(tmp_path / "here")
    assert find_deploy(str(inventory)) == DEPLOY.resolve()
    for place in (tmp_path / "here", tmp_path / "repository", inventory.parent):
        (place / "deploy.py").write_text("")
        assert find_deploy(str(inventory)) == place / "deploy.py"


def test_names_and_groups_complete_limit_and_areas_complete_only(tmp_path):
    inventory = tmp_path / "fleet.py"
    inventory.write_text("edge = ['mini-01', 'mini-02']\noffice = ['desk']\n")

    def complete(words, incomplete):
        found = ShellComplete(main, {}, "ojai", "_OJAI_COMPLETE").get_completions(words, incomplete)
        return [item.value for item in found]

    assert complete(["verify", str(inventory), "--limit"], "mi") == ["mini-01", "mini-02"]
    assert complete(["rollback", str(inventory), "--limit"], "") == [
        "mini-01",
        "edge",
        "fleet",
        "mini-02",
        "desk",
        "office",
    ]
    assert complete(["verify", str(inventory), "--only"], "d") == ["docker", "drift"]


def test_the_verdict_is_handed_to_pyinfra_as_an_inventory_that_it_can_read(monkeypatch):
    runs, run = [], subprocess.run
    monkeypatch.setattr(telling.subprocess, "run", lambda argv, **words: runs.append(words) or run(["true"]))
    data = {"watch": "box"}
    entry = Entry("ok", ("minis",), data, parse("ok", data))
    assert telling.tell(entry, read_junit("ok", GOOD)) is None
    read = "from ojai.pyinfra_runs.given_host import inventory; print(inventory())"
    done = run([sys.executable, "-c", read], input=runs[0]["input"], capture_output=True, text=True, check=True)
    assert done.stdout == f"{ {'minis': [('ok', {'_sudo': True, **data})]} }\n"
