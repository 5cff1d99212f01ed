"""Secrets of every kind are planted, marked, and looked for in all that a run says and leaves behind."""

from __future__ import annotations

import base64
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ojai.facts.report import Report
from ojai.preflight import secrets
from ojai.settings import parse
from ojai.settings.secrets import LOOKING, TIMEOUT, SecretError, Source
from tests.operation_names import NAMES

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent / "inventories"

MARK = "pLaNtEd"
SECRETS = {
    "token": f"hf_{MARK}tokentokentoken",
    "other": f"{MARK}other/other+other=",
    "password": f"ghp_{MARK}passwordpassword",
    "key": f"ojai-{MARK}{'k' * 32}",
}


@pytest.fixture
def planted(tmp_path):
    """A folder to run in, with the secrets in it, and the environment with the one that is there."""
    for name in ("ojai", "templates", "profiles"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "deploy.py").symlink_to(ROOT / "deploy.py")
    folder = tmp_path / "planted"
    folder.mkdir(mode=0o700)
    for name, text in SECRETS.items():
        (folder / name).write_text(f"ada:{text}\n" if name == "password" else f"{text}\n")
        (folder / name).chmod(0o600)
    kept = tmp_path / "kept"
    kept.mkdir()
    return tmp_path, {
        **{name: value for name, value in os.environ.items() if name not in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")},
        "PLANTED_OTHER": SECRETS["other"],
        "PYTHONPATH": str(ROOT),
        "HOME": str(kept),
        "XDG_CACHE_HOME": str(kept / "cache"),
        "XDG_STATE_HOME": str(kept / "state"),
        "XDG_DATA_HOME": str(kept / "data"),
    }


def _forms(text):
    """A text as it is, as it may be hidden in base64 (at each of the three places of a triple), and in hexadecimal."""
    data = text.encode()
    yield text
    yield data.hex()
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + data).decode()
        yield whole[(0, 2, 3)[before] : -4]


def _found(text):
    return sorted(name for name, secret in SECRETS.items() if any(form in text for form in _forms(secret)))


def _done(planted, *words):
    folder, environment = planted
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _run(planted, *words, status=0):
    done = _done(planted, *words)
    assert done.returncode == status, done.stderr + done.stdout
    return done.stdout + done.stderr


def test_the_search_finds_what_is_planted():
    """A test of the test: each form is found, wherever it begins."""
    for name, secret in SECRETS.items():
        for before in ("", "a", "ab", "ada:"):
            assert _found(base64.b64encode(f"{before}{secret}".encode()).decode()) == [name]
        assert _found(f"x{secret}y") == _found(secret.encode().hex()) == [name]
    assert _found("nothing") == []


@pytest.mark.parametrize(
    "options",
    [
        ["--dry", "--diff", "-vvv", "--debug-facts", "--debug"],
        ["--dry", "--debug-operations", "-vv"],
        ["--json"],
        ["-y", "-vvv", "--diff", "--debug"],
    ],
    ids=" ".join,
)
def test_no_run_says_one_and_none_is_left_on_this_machine(planted, options):
    said = _run(planted, "pyinfra", *options, str(HERE / "secret.py"), "deploy.py")
    for name in ("vllm-env", "gateway-keys", "vllm-image"):
        assert NAMES[name] in said, "the operation that has the secret did not run"
    assert "write the secret HF_TOKEN" in said
    assert _found(said) == []
    kept = [file for file in (planted[0] / "kept").rglob("*") if file.is_file()]
    assert [str(file) for file in kept if _found(file.read_text(errors="replace"))] == []


#: Fails in the step that has just got the secrets, as a fault of ours would.
BROKEN = """
import runpy
from pyinfra.api import StringCommand
from ojai.operations import files

def fails(script, _stdin):
    raise RuntimeError("broken on purpose")

files.StringCommand = fails
runpy.run_path("deploy.py")
"""


def test_a_traceback_has_none(planted):
    folder, _ = planted
    (folder / "broken.py").write_text(BROKEN)
    said = _run(planted, "pyinfra", "-y", "-vvv", "--debug", str(HERE / "secret.py"), "broken.py", status=1)
    assert "Traceback" in said and "broken on purpose" in said and "values" in said
    logs = [file for file in folder.iterdir() if file.is_file() and file.name != "deploy.py"]
    assert _found("".join([said, *(file.read_text() for file in logs)])) == []


@pytest.mark.parametrize(
    "words",
    [
        ["pyinfra", "debug-inventory"],
        ["ojai", "plan", "--json"],
        ["ojai", "plan"],
        ["ojai", "open", "--json"],
        ["ojai", "open"],
    ],
    ids=" ".join,
)
def test_no_command_says_one(planted, words):
    module, *rest = words
    inventory = str(HERE / "secret.py")
    order = [inventory, *rest] if module == "pyinfra" else [rest[0], inventory, *rest[1:]]
    done = _done(planted, module, *order)
    assert "Traceback" not in done.stderr, done.stderr
    assert "secret" in done.stdout + done.stderr
    assert _found(done.stdout + done.stderr) == []


@pytest.mark.parametrize(
    ("name", "spoil", "text"),
    [
        ("token", lambda file: file.write_text(f"{SECRETS['token']} {SECRETS['token']}\n"), "a line break, a blank"),
        ("token", lambda file: file.unlink(), "exit status 1 of the command cat"),
        ("password", lambda file: file.chmod(0o644), "with mode 0644; expected a file that only you can read"),
        ("password", lambda file: file.unlink(), "No such file or directory"),
        ("key", lambda file: file.write_text(f"{SECRETS['key'][:12]}\n"), "12 characters; expected 20 to 256"),
        ("key", lambda file: file.write_text(""), "nothing in what the file planted/key has"),
    ],
)
def test_one_that_cannot_be_had_is_refused_before_the_host_is_touched_and_is_not_said(planted, name, spoil, text):
    spoil(planted[0] / "planted" / name)
    said = _run(planted, "pyinfra", "--dry", "-vvv", str(HERE / "secret.py"), "deploy.py", status=1)
    assert "preflight: secret: found for " in said and text in said
    assert "Traceback" not in said and _found(said) == []
    assert "would change something" not in said or "0 of 0" in said or "REFUSED" in said


def test_a_variable_that_is_not_set_is_named():
    with pytest.raises(
        SecretError, match=r"nothing in the variable NOT_THERE of this environment; expected the secret"
    ):
        Source(env="NOT_THERE").read()


def test_a_command_is_run_once_and_one_that_hangs_is_given_up(tmp_path, monkeypatch):
    counter = tmp_path / "count"
    source = Source(command=["sh", "-c", f"echo x >> {counter}; echo word"])
    assert [source.read(), source.read()] == ["word", "word"]
    assert counter.read_text() == "x\n"
    monkeypatch.setattr("ojai.settings.secrets.TIMEOUT", 0.2)
    with pytest.raises(SecretError, match="no answer of the command sleep within"):
        Source(command=["sleep", "9"]).read()
    assert TIMEOUT > 30, "somebody may have to type"


def test_its_complaints_are_not_ours(capfd):
    source = Source(command=["sh", "-c", f"echo {SECRETS['other']} >&2; exit 3"])
    with pytest.raises(SecretError) as error:
        source.read()
    assert "exit status 3 of the command sh" in str(error.value)
    assert error.value.__cause__ is None and SECRETS["other"] not in error.value.found


def test_a_check_asks_for_none(monkeypatch, tmp_path):
    monkeypatch.setenv(LOOKING, "1")
    assert Source(command=["false"]).read() is None
    assert Source(file=str(tmp_path / "none")).read() is None
    assert Source(command=["false"]).login() is None


def test_a_run_that_only_fetches_asks_for_the_hub_s_token_alone_and_no_login_is_asked_for_in_vain():
    absent = {"env": "NOT_THERE"}
    data = {"service_secrets": {"HF_TOKEN": absent, "OTHER": absent}, "registry_credentials": {"docker.io": absent}}
    settings = parse("mini", data)
    image = settings.resolved[0].image

    def named(report=None):
        return [str(found).partition(": found for ")[2].split(":")[0] for found in secrets.failed(settings, report)]

    assert named() == ["HF_TOKEN"]
    assert named(Report(images=(image,))) == ["HF_TOKEN", "OTHER"]
    assert named(Report()) == ["HF_TOKEN", "OTHER", f"the login for {image.partition(':')[0]}"]


def test_a_closed_file_of_one_s_own_is_read(tmp_path):
    file = tmp_path / "secret"
    file.touch(mode=0o600)
    file.write_text("word\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert Source(file=str(file)).read() == "word"


@pytest.mark.parametrize(
    "data",
    [
        {"service_secrets": {"HF_TOKEN": SECRETS["token"]}},
        {"service_secrets": {"HF_TOKEN": {"env": f"{SECRETS['token']}-"}}},
        {"service_secrets": {"HF_TOKEN": {"text": SECRETS["token"]}}},
        {"service_secrets": {"HF_TOKEN": [SECRETS["token"]]}},
        {"services": [{"secrets": {"HF_TOKEN": SECRETS["token"]}}]},
        {"registry_credentials": {"ghcr.io": f"ada:{SECRETS['password']}"}},
        {"registry_credentials": {"ghcr.io": {"env": f"ada:{SECRETS['password']}"}}},
        {"gateway_keys": ["laptop"], "gateway_key_sources": {"laptop": SECRETS["key"]}},
    ],
)
def test_a_secret_in_the_inventory_is_refused_and_not_said(data):
    with pytest.raises(ValueError, match=r"expected|no such setting") as error:
        parse("mini", data)
    assert _found(str(error.value)) == []


def test_a_service_s_own_comes_before_the_host_s():
    found = parse(
        "mini",
        {
            "service_secrets": {"HF_TOKEN": {"env": "A"}, "OTHER": {"env": "B"}},
            "services": [{"secrets": {"HF_TOKEN": {"env": "C"}}}],
        },
    )
    named = found.secrets_of("vllm-gemma4")
    assert {name: source.env for name, source in named.items()} == {"HF_TOKEN": "C", "OTHER": "B"}
    assert found.resolved[0].secrets == ("HF_TOKEN", "OTHER")


def test_a_token_is_a_file_in_the_container_and_nothing_of_it_is_in_the_unit():
    from ojai.roles.vllm import render_unit

    service = parse("mini", {"service_secrets": {"HF_TOKEN": {"env": "A"}}}).resolved[0]
    unit = render_unit(service.on_host({"video": 44, "render": 992}, None))
    assert "-e HF_TOKEN_PATH=/run/secrets/ojai/HF_TOKEN" in unit
    assert "type=bind,src=/etc/ojai/vllm-gemma4.secrets,dst=/run/secrets/ojai,readonly" in unit
    assert "ExecStartPre=+/usr/bin/install -d -m 700 /etc/ojai/vllm-gemma4.secrets" in unit
    assert "HF_TOKEN=" not in unit
    plain = parse("mini", {}).resolved[0]
    assert "secrets" not in render_unit(plain.on_host({"video": 44, "render": 992}, None))
