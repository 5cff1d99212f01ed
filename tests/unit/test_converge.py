"""What came of a run of pyinfra: read from its document and, where it prints none, from its progress."""

import json
import subprocess
import sys

from ojai.pyinfra_runs.converge import Changed, changes, failures, outcome

CONNECTED = ["--> Connecting to hosts...", "    [one] Connected", "    [two] Connected"]
READY = ["--> Preparing operation files...", "    Loading: d.py", "    [one] Ready: d.py", "    [two] Ready: d.py"]
RUN = [
    *CONNECTED,
    *READY,
    "    [one] the profile wants 20 GiB, there are 60",
    "--> Starting operation: Docker | Install Docker Engine ",
    "    [one] Success",
    "    [two] E: Unable to locate package docker.io",
    "    [two] Error: executed 1 commands",
    "--> Starting serial operation: Caches | Create cache directories ",
    "    [one] No changes",
]


def document(*operations, failed=()):
    entries = [{"name": name, "success": hosts, "error": [], "no_change": []} for name, hosts in operations]
    return json.dumps({"plan": [], "results": {"operations": entries, "totals": {}, "failed_hosts": list(failed)}})


def lines(*texts):
    return [f"{text}\n" for text in texts]


def test_a_failed_operation_has_its_name_its_host_and_what_was_said():
    (found,) = failures(lines(*RUN))
    assert (found.operation, found.host) == ("Docker | Install Docker Engine", "two")
    assert found.output == ["E: Unable to locate package docker.io", "Error: executed 1 commands"]


def test_every_host_that_fails_is_named_whatever_the_others_do():
    both = [*RUN, "    [one] a full disk", "    [one] Error: executed 0 commands"]
    assert [(one.operation.split(" |")[0], one.host) for one in failures(lines(*both))] == [
        ("Docker", "two"),
        ("Caches", "one"),
    ]


def test_an_error_that_the_operation_allows_is_none():
    assert failures(lines(*RUN[:8], "    [one] Error (ignored): executed 0 commands")) == []


def test_a_host_that_cannot_be_reached_is_one_of_the_failures():
    said = [
        "    [two] Could not connect (timed out)",
        *RUN[:2],
        *READY[:3],
        "--> Starting operation: X",
        "    [one] Success",
    ]
    (found,) = failures(lines(*said), ["two"])
    assert (found.operation, found.host, found.output) == ("", "two", ["Could not connect (timed out)"])


def test_a_host_that_was_refused_before_any_operation_is_known_by_the_document():
    said = [*CONNECTED, *READY, "    [two] preflight: found 16 GiB", "--> Starting operation: X", "    [one] Success"]
    (found,) = failures(lines(*said), ["two"])
    assert (found.host, found.output) == ("two", ["preflight: found 16 GiB"])


def test_changes_are_read_from_the_document():
    found = outcome(0, document(("Caches | Create cache directories ", ["one", "two"]), ("Docker", [])), [])
    assert (found.status, found.changed, found.message) == (
        0,
        [Changed("Caches | Create cache directories", ["one", "two"])],
        "",
    )


def test_what_a_run_changed_before_it_failed_is_read_from_its_progress():
    """pyinfra prints no document when its last host fails."""
    assert changes(lines(*RUN)) == [Changed("Docker | Install Docker Engine", ["one"])]
    assert changes(lines(*RUN[:9], "    [one] Success on retry 1")) == [
        Changed("Docker | Install Docker Engine", ["one"])
    ]
    assert outcome(1, "", lines(*RUN)).changed == [Changed("Docker | Install Docker Engine", ["one"])]


def test_a_run_over_no_host_has_failed_with_what_pyinfra_said():
    found = outcome(0, document(), lines("--> Loading inventory...", "    nope.py is neither an inventory file, …"))
    assert found.status == 1
    assert "no operation" in found.message and "nope.py is neither" in found.message


def test_when_all_hosts_fail_there_is_no_document_and_the_operation_is_named_all_the_same():
    found = outcome(1, "", lines(*RUN, "--> pyinfra error: No hosts remaining!"))
    assert (found.status, found.changed) == (1, [Changed("Docker | Install Docker Engine", ["one"])])
    assert found.message.splitlines()[:2] == ["pyinfra failed in:", "Docker | Install Docker Engine (on two)"]


def test_a_deploy_that_cannot_be_read_is_shown_by_its_last_lines():
    said = lines(*CONNECTED, "--> An exception occurred in: d.py:", "ModuleNotFoundError: No module named 'nope'")
    assert "No module named 'nope'" in outcome(1, "", said).message


def test_a_real_run_streams_its_progress_and_ends_with_one_document(tmp_path):
    (tmp_path / "d.py").write_text(
        "from pyinfra.operations import server\n"
        "server.shell(name='Work', commands=['true'])\n"
        "server.shell(name='Break', commands=['echo out of order >&2; false'])\n"
    )
    argv = [sys.executable, "-m", "ojai.pyinfra_runs.converge", "--log", "progress", "@local", "d.py"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert json.loads(done.stdout)["failed"][0]["operation"] == "Break"
    assert json.loads(done.stdout)["changed"] == [{"operation": "Work", "hosts": ["@local"]}]
    assert "out of order" in json.loads(done.stdout)["message"]
    assert (tmp_path / "progress").read_text() == done.stderr
    assert "Starting operation: Work" in done.stderr


def test_a_document_larger_than_a_pipe_does_not_stop_the_run(tmp_path):
    (tmp_path / "d.py").write_text(
        "from pyinfra.operations import server\n"
        "for number in range(200):\n"
        "    server.shell(name=f'{number} ' + 'x' * 400, commands=['true'])\n"
    )
    argv = [sys.executable, "-m", "ojai.pyinfra_runs.converge", "@local", "d.py"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0
    assert len(json.loads(done.stdout)["changed"]) == 200
