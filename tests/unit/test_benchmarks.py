"""The benchmarks' own code: what a run takes is measured right, and no sample is lost, mixed up or invented."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import measure, page, plan, run, state
from benchmarks.plan import Case, Results, rounds
from tests.lab.cases import DRIFT, named

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20


def python(text: str, looks: bool = False) -> measure.Run:
    return measure.run([sys.executable, "-c", text], os.environ, ROOT, looks=looks)


def test_status_output_and_wall_clock_are_those_of_the_program():
    done = python("import sys, time; time.sleep(0.3); print('out'); print('err', file=sys.stderr); sys.exit(3)")
    assert done.status == 3 and sorted(done.output.split()) == ["err", "out"]
    assert 0.3 <= done.wall < 10 and done.cpu < done.wall and done.memory is None


BURN = "import sys, time\nwhile time.process_time() < 0.4: pass\nopen(sys.argv[1], 'w')\ntime.sleep(float(sys.argv[2]))"
START = """import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {burn!r}, {file!r}, "{rest}"], start_new_session=True)
while not os.path.exists({file!r}): time.sleep(0.01)
if {rest} == 0: child.wait()
"""


@pytest.mark.parametrize("rest", [0, 60])
def test_processor_time_of_children_counts_that_of_one_left_running_too(rest, tmp_path):
    began = time.monotonic()
    done = python(START.format(burn=BURN, file=str(tmp_path / "done"), rest=rest))
    assert 0.4 <= done.cpu < 5 and time.monotonic() - began < 30
    assert python("pass").cpu < 0.4


def test_a_child_that_was_there_before_is_left_alone():
    with subprocess.Popen(["sleep", "60"]) as other:
        python("pass")
        assert other.poll() is None
        other.kill()


def test_memory_is_the_sum_of_the_processes_and_counts_shared_pages_once():
    text = "import os, time\nx = b'x' * (60 << 20)\nchild = os.fork()\ntime.sleep(0.4)\nchild and os.wait()"
    shared = python(text, looks=True).memory
    assert shared and 60 * MIB < shared < 110 * MIB
    own = python(text.replace("\ntime.sleep", "\ny = b'y' * (40 << 20)\ntime.sleep"), looks=True).memory
    assert own and own > shared + 60 * MIB


MADE = {"commit": "a", "fleet": 24}


def test_a_run_goes_on_where_the_last_one_stopped_and_takes_one_of_each_first(tmp_path):
    file = tmp_path / "results.json"
    cases = [Case("ojai", "converged"), Case("ojai", "first")]
    results = Results(file, MADE)
    for number, (case, looks) in enumerate(rounds(results, cases, 2)):
        if number == 3:
            break
        results.add(case, {"memory": 1} if looks else {"wall": 1.0})
    assert {key: len(samples) for key, samples in results.samples.items()} == {cases[0].key: 2, cases[1].key: 1}
    again = Results(file, MADE)
    assert again.samples == results.samples
    for case, looks in rounds(again, cases, 2):
        again.add(case, {"memory": 1} if looks else {"wall": 1.0})
    assert [len(again.samples[case.key]) for case in cases] == [3, 2]
    assert sum("memory" in one for one in again.samples[cases[0].key]) == 1
    assert Results(file, MADE | {"commit": "b"}).samples == {}


def test_the_plan_is_that_of_the_issue():
    cases = plan.cases()
    assert len({case.key for case in cases}) == len(cases)
    for what in ("converged", "drifted"):
        places = {tool: {(c.hosts, c.rtt) for c in cases if (c.tool, c.what) == (tool, what)} for tool in run_tools()}
        assert places["ojai"] == {(hosts, rtt) for hosts in (1, 8, 24) for rtt in (0, 20, 100)}
        for peer in plan.PEERS:
            assert places[peer] == {(hosts, rtt) for hosts in (1, 24) for rtt in (0, 20)}
    assert {c.tool for c in cases if c.what == "first"} == {"ojai", "shell", "ansible", "mitogen"}
    assert plan.TIMES >= 5


def run_tools() -> tuple[str, ...]:
    return ("ojai", *plan.PEERS)


def test_a_median_is_of_timed_runs_and_there_is_none_of_nothing():
    samples = [{"wall": 1.0}, {"wall": 5.0}, {"wall": 2.0}, {"memory": 7, "wall": 100.0}]
    assert plan.median(samples, "wall") == 2.0 and plan.median(samples, "memory") == 7
    assert plan.median(samples, "commands") is None and plan.spread(samples) == (1.0, 5.0)
    assert plan.median([], "wall") is None and plan.spread([]) is None


def results(**walls: float) -> dict:
    cases = {
        Case("ojai", "converged").key: [{"wall": 1.0, "cpu": 0.5}, {"memory": 90 * MIB, "commands": 2}],
        Case("ojai", "converged", 24).key: [{"wall": 4.0}, {"memory": 205 * MIB}],
        Case("ansible", "converged").key: [{"wall": 11.0}],
        Case("ansible", "converged", 24).key: [{"wall": 80.0}],
        Case("floor", "ssh cold").key: [{"wall": 0.3}],
        Case("floor", "python").key: [{"wall": 0.1}],
    }
    by = {"commit": "abc", "clean": True, "fleet": 24, "suite": "trixie", "versions": {"ojai": {"python": "3.13.0"}}}
    machine = {"cores": 2, "processor": "Some", "memory_gib": 24, "kernel": "6.1"}
    checks = {"ansible": {"undone": ["one"], "drifts": 10, "differences": ["etc/x: a / b"]}}
    return {"made_by": {**by, "machine": machine}, "checks": checks, "cases": cases}


def test_goals_stand_beside_figures_and_what_was_not_measured_is_said_to_be():
    found = {text: (value, reached) for text, _, value, reached in page.goals(page.figures(results()), 24)}
    assert len(found) == 11
    assert found["one host, converged: Ansible's time over ours"] == (11.0, False)
    assert found["24 hosts, converged: Ansible's time over ours"] == (20.0, True)
    assert found["one host, converged: ours over the floor"] == (2.5, True)
    assert found["peak memory, each further host"] == (5.0, True)
    assert found["peak memory, one host"] == (90.0, True)
    assert found["20 ms of RTT add"] == (None, None)
    text = page.page(results())
    assert "| one host, converged: Ansible's time over ours | ≥ 12 × | 11.00 | no |" in text
    assert "| 20 ms of RTT add | ≤ 0.3 s | – | not measured |" in text
    assert "Ansible: 1 of 10 drifts undone; 1 differences" in text and "etc/x: a / b" in text
    assert "11.00 (11.00 to 11.00), **11.0 ×**" in text


def test_a_second_run_stands_beside_the_first_and_says_whether_it_is_within_its_spread():
    first, second = results(), results()
    first["cases"][Case("ansible", "converged").key] = [{"wall": wall} for wall in (10.0, 11.0, 12.0)]
    (one, other) = page.reproduced(first, second)
    assert (one[0].hosts, *one[1:]) == (1, 11.0, (10.0, 12.0), 11.0) and other[0].hosts == 24
    second["cases"][Case("ojai", "converged").key] = [{"wall": 0.5}]
    text = page.page(first, second)
    assert "| Ansible | converged | 1 | 0 | 11.0 | 10.0 to 12.0 | 22.0 | no |" in text
    assert "Reproduced" not in page.page(first)


def test_changes_are_read_from_what_each_tool_prints():
    ansible = "PLAY RECAP ***\na : ok=22   changed=2    unreachable=0\nb : ok=22   changed=0    unreachable=0\n"
    assert run.changes("ansible", ansible) == run.changes("mitogen", ansible) == 2
    recap = (
        "--> Recap:\n    a  ok  3 of 34 operations changed something\n    b  ok  0 of 34 operations changed something\n"
    )
    assert run.changes("ojai", recap) == run.changes("stock", recap) == 3


def test_the_words_of_our_recap_are_those_that_are_read():
    assert "operations changed something" in (ROOT / "ojai/connection/recap.py").read_text()


def test_the_ten_drifts_are_cases_of_the_lab_that_a_deploy_fixes():
    found = [named(DRIFT, name) for name in run.DRIFTS]
    assert len(found) == 10 == len(set(run.DRIFTS))
    assert all(case.operations and not case.refused for case in found)
    assert named(DRIFT, "the loader's drop-in is edited").inject.endswith(f"/{run.LOADER}")


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    status = "Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n"
    (tmp_path / "var/lib/dpkg/status").write_text(status)
    for folder in state.FOLDERS:
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "etc/group").write_text("video:x:44:b,a\nrender:x:990:\n")
    (tmp_path / "etc/file").write_text("x\n")
    (tmp_path / "etc/ld.so.cache").write_text("anything")
    return tmp_path


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda tree: (tree / "etc/file").write_text("y\n"), "etc/file"),
        (lambda tree: (tree / "etc/file").chmod(0o600), "etc/file"),
        (lambda tree: (tree / "etc/file").unlink(), "etc/file"),
        (lambda tree: (tree / "srv/new").mkdir(), "srv/new"),
        (lambda tree: (tree / "etc/link").symlink_to("/dev/null"), "etc/link"),
        (lambda tree: (tree / "etc/group").write_text("video:x:44:a\nrender:x:990:\n"), "etc/group"),
        (lambda tree: (tree / "var/lib/dpkg/status").write_text(""), "package a"),
    ],
)
def test_what_differs_between_two_hosts_is_named(tree, change, what):
    before = state.taken(tree)
    change(tree)
    (difference,) = state.differences(before, state.taken(tree))
    assert difference.startswith(f"{what}: ")


def test_what_says_nothing_of_a_deploy_is_no_difference(tree):
    before = state.taken(tree)
    (tree / "etc/ld.so.cache").write_text("something else")
    (tree / "etc/group").write_text("render:x:991:\nvideo:x:44:a,b\n")
    assert state.differences(before, state.taken(tree)) == []


def test_ansible_takes_the_playbook():
    playbook = ROOT / "benchmarks/playbook.yml"
    env = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "benchmarks/ansible.cfg")}
    argv = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        "--syntax-check",
        "-i",
        "localhost,",
        str(playbook),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr


def test_the_inventory_of_hosts_that_do_not_exist_has_as_many_as_are_asked_for():
    argv = [sys.executable, "-c", "from benchmarks.faked import faked; print(len(faked))"]
    env = {**os.environ, "OJAI_BENCH_FAKED": "7"}
    assert subprocess.run(argv, env=env, cwd=ROOT, capture_output=True, text=True, check=True).stdout == "7\n"


def test_pins_have_hashes_and_no_address():
    for file in (ROOT / "benchmarks").glob("requirements-*.txt"):
        text = file.read_text()
        assert "--hash=sha256:" in text and "://" not in text and "--index" not in text
    assert json.dumps(sorted(file.stem for file in (ROOT / "benchmarks").glob("requirements-*.txt"))) == json.dumps(
        ["requirements-ansible", "requirements-mitogen", "requirements-plots"]
    )
