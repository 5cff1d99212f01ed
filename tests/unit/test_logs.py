"""`ojai logs`: two sources of one service as one."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ojai.cli import main
from ojai.cmdline.logs import Stream, parsed
from ojai.facts import logs

#: What a container says, as its own log and as the journal of its unit has it; and what systemd says.
OWN = "2026-11-27T10:00:0{}.123456789Z INFO: line {}"
COPY = "1795773600.{}00000 mini docker[7]: INFO: line {}"
UNIT = "1795773599.000000 mini systemd[1]: Started vllm.service"


def test_times_and_texts() -> None:
    assert parsed("journal", COPY.format(5, 5)) == (1795773600.5, "INFO: line 5")
    when, text = parsed("container", OWN.format(1, 1))
    assert text == "INFO: line 1" and when == pytest.approx(1795773601.123456)
    assert parsed("journal", "no time") == (0.0, "no time") == parsed("container", "no time")


def shown(lines: list[tuple[str, str]], most: int | None = None) -> list[str]:
    said: list[str] = []
    stream = Stream(said.append, most)
    for source, line in lines:
        stream.take(source, line)
    return [line.split(" ", 2)[2] for line in said]


def test_the_past_is_sorted_and_has_one_of_two_copies() -> None:
    past = [
        *[("journal", COPY.format(n, n)) for n in (1, 2)],
        ("journal", UNIT),
        *[("container", OWN.format(0, n)) for n in (1, 2, 3)],
    ]
    assert shown(past) == [], "nothing before its end"
    found = shown([*past, ("end", "")])
    assert found == ["Started vllm.service", "INFO: line 1", "INFO: line 2", "INFO: line 3"]
    assert shown([*past, ("end", "")], 2) == found[-2:]


def test_what_comes_is_shown_once_whichever_source_is_first_and_what_is_said_twice_is_shown_twice() -> None:
    copy, own = ("journal", COPY.format(9, 9)), ("container", OWN.format(9, 9))
    assert shown([("end", ""), copy, own, own, copy]) == ["INFO: line 9"] * 2
    assert shown([("end", ""), copy, copy, own, own]) == ["INFO: line 9"] * 2
    assert shown([("end", ""), own]) == ["INFO: line 9"], "the journal has lost it"


def test_no_more_is_remembered_than_is_needed() -> None:
    stream = Stream(lambda _: None, None)
    stream.take("end", "")
    for number in range(6000):
        stream.take("journal", f"1.0 mini docker[7]: {number}")
    assert len(stream.order) == len(stream.waiting["journal"]) == 5000


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for the programs that the script calls."""
    (tmp_path / "journalctl").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\necho "{UNIT}"\n')
    (tmp_path / "docker").write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\necho "{OWN.format(1, 1)}"\necho "Error response" >&2\n'
    )
    for name in ("journalctl", "docker"):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def ran(script: str) -> list[list[str]]:
    done = subprocess.run(["sh", "-c", script], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return [line.split("\t") for line in done.stdout.splitlines()]


def test_the_script_prints_both_sources_and_their_end(programs: Path) -> None:
    services = {"it's": "it's.service"}
    assert ran(logs.command(services, 7, None, False)) == [
        [logs.MARK, "it's", "journal", UNIT],
        [logs.MARK, "it's", "container", OWN.format(1, 1)],
        [logs.MARK, "it's", "end"],
    ]
    asked = (programs / "asked").read_text()
    assert "-u it's.service -n 7" in asked and "--tail 7" in asked and "--since" not in asked
    (programs / "asked").unlink()
    ran(logs.command(services, None, "2026-11-27 10:00 UTC", False))
    assert "--since @1795773600" in (programs / "asked").read_text()


def test_the_script_says_of_a_time_that_it_is_none(programs: Path) -> None:
    assert ran(logs.command({"a": "a.service"}, None, "soonish", False)) == [
        [logs.MARK, "", "error", "", "found no time that `date` understands"]
    ]


def test_following_ends_with_its_input(programs: Path) -> None:
    script = logs.command({"a": "a.service"}, 1, None, True)
    with subprocess.Popen(
        ["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as run:
        assert run.stdin is not None and run.stdout is not None
        lines = [run.stdout.readline() for _ in range(4)]
        run.stdin.close()
        run.wait(20)
    assert [line.split("\t")[2].strip() for line in lines][:3] == ["journal", "container", "end"]


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["logs", *words])


@pytest.fixture
def fleet(tmp_path: Path) -> str:
    file = tmp_path / "hosts.py"
    share = {"gpu_memory_utilization": 0.4}
    two = [
        {"profile": "gemma-4-e2b", "name": "small", **share},
        {"profile": "gemma-4-e4b", "name": "large", "port": 8001, **share},
    ]
    file.write_text(f"hosts = [('a', {json.dumps({'services': two})}), ('b', {{'services': []}})]\n")
    return str(file)


def test_the_command_reads_through_pyinfra(programs: Path, tmp_path: Path) -> None:
    """This machine as the host, with the stand-ins."""
    file = tmp_path / "hosts.py"
    data = {"services": [{"profile": "gemma-4-e4b"}], "_sudo": False}
    file.write_text(f"hosts = [('@local', {data!r})]\n")
    done = run(str(file), "--no-follow")
    assert done.exit_code == 0, done.output
    assert [line.split(" ", 2)[2] for line in done.output.splitlines()] == ["Started vllm.service", "INFO: line 1"]
    faulty = run(str(file), "--no-follow", "--since", "soonish")
    assert faulty.exit_code == 2 and "--since soonish: found no time" in faulty.output


def test_what_is_not_there_is_named_with_what_is(fleet: str) -> None:
    for which in ("c", "b", "a/none"):
        done = run(fleet, which)
        assert done.exit_code == 2 and f"found no service {which}" in " ".join(done.output.split())
