"""`ojai adopt`: what it prints, what it asks, what it runs."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from ojai.cli import main
from ojai.cmdline import adopt
from ojai.facts.report import Report
from ojai.facts.report.owner import Container, Owner
from ojai.pyinfra_runs.collect import Answer
from ojai.settings import parse
from ojai.sizes import GIB

ROOT = Path(__file__).resolve().parents[2]
GUIDE = "tests/unit/data/guide-26b.sh"
OWN = "docker run -p 9000:8000 -e HF_TOKEN=hf_one --gpus all vllm/vllm-openai-rocm:v0.20.1 google/gemma-4-E4B-it\n"


@pytest.fixture(autouse=True)
def _at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def run(*words: str, given: str | None = None) -> Result:
    done = CliRunner().invoke(main, ["adopt", *words], input=given)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    assert "Traceback" not in done.output
    return done


def test_what_is_printed_is_yaml_and_its_comments_say_what_would_change() -> None:
    done = run("--from", GUIDE)
    assert done.exit_code == 0
    assert yaml.safe_load(done.stdout) == {"services": [{"profile": "gemma-4-26b-a4b", "tunableop": "tune"}]}
    comments = [line for line in done.stdout.splitlines() if line.startswith("#")]
    assert len(comments) + 3 == len(done.stdout.splitlines())
    assert any(re.match(r"# removed +--disable-log-requests +vLLM 0.20.1 ends with", line) for line in comments)
    assert "# Secrets, not shown: HF_TOKEN. They go into /etc/ojai/vllm-gemma4.env on the host." in comments
    assert "\x1b" not in done.stdout


def test_the_same_in_python() -> None:
    done = run("--from", GUIDE, "--python")
    assert ast.literal_eval(done.stdout) == yaml.safe_load(run("--from", GUIDE).stdout)


def test_the_same_in_json_from_standard_input() -> None:
    done = run("--from", "-", "--json", given=OWN)
    assert done.exit_code == 0 and "hf_one" not in done.output
    told = json.loads(done.stdout)
    parse("mini", told["data"])
    assert told["data"] == {
        "services": [
            {
                "profile": "gemma-4-e4b",
                "dtype": "auto",
                "gpu_memory_utilization": 0.92,
                "tool_calling": False,
                "port": 9000,
            }
        ]
    }
    (server,) = told["servers"]
    assert (server["secrets"], server["env_file"]) == (["HF_TOKEN"], "/etc/ojai/vllm-gemma4.env")
    assert [(change["what"], change["kind"]) for change in server["changes"] if change["lost"]] == [
        ("--gpus all", "removed")
    ]
    assert "What no setting can express, and is lost:" in run("--from", "-", given=OWN).stdout


def test_a_published_port_is_kept_and_not_called_lost() -> None:
    line = "docker run -p 127.0.0.1:8080:8000 vllm/vllm-openai-rocm:v0.20.1 google/gemma-4-E4B-it --port 8000"
    told = json.loads(run("--from", "-", "--json", given=line).stdout)
    assert (told["data"]["services"][0]["host"], told["data"]["services"][0]["port"]) == ("127.0.0.1", 8080)
    changes = {change["what"]: change["lost"] for change in told["servers"][0]["changes"]}
    assert changes["--port"] is False and not any(changes.values())


@pytest.mark.parametrize(
    ("words", "given", "status", "text"),
    [
        (["--from", "-"], "echo hello\n", 1, "Error: <stdin>: found no docker run; expected its line"),
        (["--from", "-"], '{"a"', 1, "Error: <stdin>: found broken JSON"),
        (["--from", "-"], "docker run nginx\n", 1, "whose command names no model"),
        (["--from", "/no/such/file"], None, 2, "No such file"),
        (["--from", GUIDE, "inventory/fake.py"], None, 2, "leave INVENTORY and --from-host out"),
        (["--from", GUIDE, "--accelerator", "gfx1"], None, 2, "accelerator"),
        ([], None, 2, "name an INVENTORY"),
        (["inventory/fak.py"], None, 2, "did you mean inventory/fake.py?"),
    ],
)
def test_what_cannot_be_read_ends_with_a_sentence(words, given, status, text) -> None:
    done = run(*words, given=given)
    assert done.exit_code == status and text in done.output


def found(**owned: Any) -> Answer:
    return Answer(
        Report(
            user="root",
            machine="x86_64",
            os_id="ubuntu",
            os_version="24.04",
            gpus={"0000:c5:00.0": "0x1002:0x150e"},
            gfx_versions=(110500,),
            vram_total=64 * GIB,
            memory_total=62 * GIB,
            disks={"/var/lib/docker": (900 * GIB, "/"), "/srv/ojai": (900 * GIB, "/")},
            owner=Owner(**owned),
        )
    )


SERVER = Container(
    id="abc",
    name="vllm-gemma4",
    image="vllm/vllm-openai-rocm:v0.20.1",
    argv=("google/gemma-4-E4B-it", "--port", "8000"),
    network="host",
    removes=True,
    status="running",
)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The hosts of each deploy that was run; host ``mini-00`` has a server, ``mini-01`` one of another model."""
    other = Container(**{**vars(SERVER), "argv": ("google/gemma-4-E4B-it", "--port", "8000")})
    answers = {
        "@fake/mini-00": found(containers=(SERVER,)),
        "@fake/mini-01": found(containers=(other,)),  # the inventory says 26B
        "@fake/mini-02": found(),
        "@fake/mini-03": found(containers=(SERVER,)),  # is to be removed
    }
    deployed: list[list[str]] = []
    monkeypatch.setattr(adopt, "collect_facts", lambda inventory, names, *_: {name: answers[name] for name in names})
    monkeypatch.setattr(adopt, "_deploy", lambda inventory, names: deployed.append(list(names)) or 0)
    return deployed


def test_the_plan_is_shown_and_nothing_is_done_without_an_answer(runs) -> None:
    done = run("inventory/fake.py", "--limit", "@fake/mini-00")
    assert done.exit_code == 1 and runs == []
    assert re.search(r"container vllm-gemma4 .* yes +keeps its configuration, and stops", done.output), done.output
    assert "Adopt @fake/mini-00?" in done.output and "Aborted" in done.output


@pytest.mark.parametrize("words", [(["--yes"], None), ([], "y\n")])
def test_it_is_done_once_it_is_agreed_to(runs, words) -> None:
    done = run("inventory/fake.py", "--limit", "@fake/mini-00", *words[0], given=words[1])
    assert done.exit_code == 0, done.output
    assert runs == [["@fake/mini-00"]] and "Set `adopt: true` in the inventory" in done.output


def test_only_hosts_that_can_be_adopted_are(runs) -> None:
    done = run("inventory/fake.py", "--yes")
    assert done.exit_code == 1 and runs == [["@fake/mini-00"]]
    assert "Blocked by: preflight: set up by hand: " in done.output  # another model
    assert "Nothing was set up by hand: deploy to it as usual." in done.output
    assert "Blocked by: inventory: found removed: true" in done.output


def test_a_host_on_which_nothing_was_set_up_is_no_failure(runs) -> None:
    done = run("inventory/fake.py", "--limit", "@fake/mini-02", "--yes")
    assert (done.exit_code, runs) == (0, [])


def test_the_deploy_gets_the_setting_and_the_hosts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Any] = []

    class Done:
        returncode = 3

    monkeypatch.setattr(adopt.subprocess, "run", lambda argv, **options: seen.append((argv, options)) or Done())
    assert adopt._deploy(str(ROOT / "inventory" / "fake.py"), ["a", "b"]) == 3
    ((argv, options),) = seen
    assert argv[3:] == [
        "--yes", "--data", "adopt=true", str(ROOT / "inventory" / "fake.py"), str(ROOT / "deploy.py"),
        "--limit", "a", "--limit", "b",
    ]  # fmt: skip
    assert options["cwd"] == ROOT  # where config.py is


def test_from_host_prints_what_each_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"Image": "vllm/vllm-openai-rocm:v0.20.1", "Env": ["HF_TOKEN="], "Cmd": ["google/gemma-4-E2B-it"]}
    container = {"Name": "/x", "Image": "sha256:a", "Config": config, "HostConfig": {"NetworkMode": "host"}}
    image = {"Id": "sha256:a", "Config": {}, "RepoDigests": []}
    other = {**container, "Name": "/web", "Config": {"Image": "nginx:1", "Cmd": ["nginx"]}}
    answers = {"@fake/mini-00": [container, image, other, image], "@fake/mini-01": [other, image]}
    monkeypatch.setattr(
        adopt, "collect_containers", lambda inventory, names, limit: (answers, {"@fake/mini-02": "Could not connect"})
    )
    words = ["inventory/fake.py", "--limit", "@fake/mini-0[012]", "--from-host"]
    done = run(*words, "--json")
    assert done.exit_code == 1
    (host,) = json.loads(done.stdout)
    assert host["host"] == "@fake/mini-00"
    assert host["data"]["services"][0]["profile"] == "gemma-4-e2b" and host["data"]["services"][0]["name"] == "x"
    assert "@fake/mini-01: no container that serves a model runs there" in done.stderr
    assert "@fake/mini-02: Could not connect" in done.stderr
    assert yaml.safe_load(run(*words).stdout) == host["data"]


def test_the_fakes_are_really_asked(tmp_path: Path) -> None:
    done = run("inventory/fake.py", "--limit", "@fake/mini-00", "--yes")
    assert done.exit_code == 0 and "Nothing was set up by hand" in done.output
    done = run("inventory/fake.py", "--limit", "@fake/mini-00", "--from-host")
    assert done.exit_code == 1 and "no container that serves a model runs there" in done.stderr
