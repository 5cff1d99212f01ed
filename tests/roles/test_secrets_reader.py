"""Cases of a reader who had the issue and the documentation alone: where secrets are read, and what goes wrong there.

Each was written down before the code was read; the number is the one in that list.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ojai.facts.report import Report
from ojai.preflight import secrets
from ojai.settings import parse
from ojai.settings.secrets import SecretError, Source

ROOT = Path(__file__).resolve().parents[2]
SECRET = "SEKRETsekretSEKRETsekret"


def why(read: Callable[[], object]) -> str:
    with pytest.raises(SecretError) as found:
        read()
    assert SECRET not in str(found.value) and "\n" not in str(found.value)
    assert str(found.value).startswith("found ") and "; expected " in str(found.value)
    return str(found.value)


def kept(place: Path, data: bytes, mode: int = 0o600) -> Source:
    place.write_bytes(data)
    place.chmod(mode)
    return Source(file=str(place))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "nothing in what"),
        (b"\n", "nothing in what"),
        (f"{SECRET}\n{SECRET}\n".encode(), "a line break"),
        (f"{SECRET} \n".encode(), "a blank"),
        (f"{SECRET}\0".encode(), "another character"),
        (SECRET.encode() + b"\xf6\n", "not UTF-8"),
        (f"{SECRET}é".encode(), "another character"),
        (f"\ufeff{SECRET}".encode(), "another character"),
        (f"'{SECRET}'".encode(), "a quote"),
        (SECRET.encode() * 3000, "no plain file, or one of more than 65536 bytes"),
    ],
)
def test_38_a_file_with_something_else(tmp_path: Path, data: bytes, text: str) -> None:
    assert text in why(kept(tmp_path / "one", data).read)


def test_38_ends_of_lines_are_no_part_of_it(tmp_path: Path) -> None:
    for data in (b"word", b"word\n", b"word\r\n"):
        assert kept(tmp_path / "one", data).read() == "word"
    (tmp_path / "link").symlink_to(tmp_path / "one")
    assert Source(file=str(tmp_path / "link")).read() == "word", "the file that it leads to is closed"


def test_38_a_file_that_is_none(tmp_path: Path) -> None:
    for mode in (0o644, 0o640, 0o604, 0o660):
        assert f"mode {mode:04o}" in why(kept(tmp_path / "open", b"word", mode).read)
    (tmp_path / "link").symlink_to(tmp_path / "open")
    assert "mode 0660" in why(Source(file=str(tmp_path / "link")).read)
    (tmp_path / "nowhere").symlink_to(tmp_path / "none")
    for name in ("none", "nowhere", "open/x"):
        assert "; expected a file with the secret" in why(Source(file=str(tmp_path / name)).read)
    assert "Is a directory" in why(Source(file=str(tmp_path)).read)
    assert "write the whole path" in why(Source(file="~no-such-account/x").read)


def test_38_a_pipe_in_which_nobody_writes(tmp_path: Path) -> None:
    """It waited for ever."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert "no plain file" in why(Source(file=str(tmp_path / "pipe")).read)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_38_a_file_of_somebody_else(tmp_path: Path) -> None:
    source = kept(tmp_path / "one", b"word")
    os.chown(tmp_path / "one", 1234, 1234)
    assert "of user 1234" in why(source.read)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["no-such-program-x"], "No such file"),
        (["/tmp"], "Permission denied"),
        (["false"], "exit status 1"),
        (["sh", "-c", "cat; exit 3"], "exit status 3"),
        (["sh", "-c", "kill -9 $$"], "exit status -9"),
        (["true"], "nothing in what the command true has"),
        (["echo"], "nothing in what the command echo has"),
        (["printf", "a\\nb\\n"], "a line break"),
        (["printf", "a\\000b"], "another character"),
        (["printf", "w\\366rd"], "not UTF-8"),
    ],
)
def test_38_a_command_that_gives_none(words: list[str], text: str) -> None:
    assert text in why(Source(command=words).read)


def test_38_a_command_that_fails_is_run_once_too(tmp_path: Path) -> None:
    """Each host asked it again, a passphrase for each, or two minutes for one that hangs."""
    source = Source(command=["sh", "-c", f"echo x >> {tmp_path}/count; exit 1"])
    assert {why(source.read) for _ in range(3)} and (tmp_path / "count").read_text() == "x\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [("SEKRET", "no user:password"), ("ada:", "no user:password"), (f":{SECRET}", "no user:password"),
     (f"ada:{SECRET}\nx", "a line break"), ("", "no user:password")],
)  # fmt: skip
def test_39_a_login_that_is_none(tmp_path: Path, text: str, found: str) -> None:
    assert found in why(kept(tmp_path / "one", text.encode()).login)


def test_39_a_login_with_any_sign(tmp_path: Path) -> None:
    source = kept(tmp_path / "one", "ada:pä:ss wörd\n".encode())
    assert source.login() == {"username": "ada", "password": "pä:ss wörd"}
    assert "not UTF-8" in why(kept(tmp_path / "two", b"ada:w\xf6rd\n").login)


def test_39_an_empty_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("", " ", "\n"):
        monkeypatch.setenv("HELD", value)
        assert "nothing in the variable HELD" in why(Source(env="HELD").read)
    monkeypatch.setenv("HELD", f" {SECRET}\n")
    assert Source(env="HELD").read() == SECRET


def checks(**data: object) -> list[str]:
    settings = parse("mini", data)
    return [str(one) for one in secrets.failed(settings, Report(images=(settings.resolved[0].image,)))]


@pytest.mark.parametrize("text", ["abc", "", " ", f"{SECRET}\nx", f"{SECRET} x", "ключ" * 8, f"{SECRET}é"])
def test_12_an_own_key_that_no_client_could_send(tmp_path: Path, text: str) -> None:
    kept(tmp_path / "key", text.encode())
    (found,) = checks(gateway_key_sources={"default": {"file": f"{tmp_path}/key"}})
    assert "for the key default" in found and SECRET not in found


def test_13_two_names_with_one_key(tmp_path: Path) -> None:
    """nginx takes no sum twice: the gateway did not start with it."""
    kept(tmp_path / "one", SECRET.encode())
    kept(tmp_path / "two", SECRET.encode())
    sources = {"a": {"file": f"{tmp_path}/one"}, "b": {"file": f"{tmp_path}/two"}}
    (found,) = checks(gateway_keys=["a", "b"], gateway_key_sources=sources)
    assert "for the key b: the key that a has; expected one of its own" in found and SECRET not in found
    assert not checks(gateway_keys=["a"], gateway_key_sources={"a": {"file": f"{tmp_path}/one"}})


def test_39_a_key_that_no_gateway_uses_is_not_asked_for() -> None:
    sources = {"default": {"env": "NOT_THERE"}}
    assert checks(gateway_key_sources=sources)
    for exposure in ("loopback", "open"):
        assert not checks(exposure=exposure, gateway_key_sources=sources)


INVENTORY = """
import runpy
_data = runpy.run_path({serving!r})["serving"][0][1]
hosts = [("@fake/h%d" % number, {{**_data, {data}}}) for number in range({count})]
"""


def dry(folder: Path, data: str, count: int = 1) -> tuple[int, str]:
    for name in ("ojai", "templates", "profiles", "deploy.py"):
        (folder / name).symlink_to(ROOT / name)
    serving = str(Path(__file__).parent / "inventories/serving.py")
    (folder / "hosts.py").write_text(INVENTORY.format(serving=serving, data=data, count=count))
    done = subprocess.run(
        [sys.executable, "-m", "pyinfra", "--dry", "hosts.py", "deploy.py"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("end", ["echo hf_word", "exit 1"])
def test_38_one_run_for_three_hosts(tmp_path: Path, end: str) -> None:
    """They are prepared side by side, and each asked for the passphrase."""
    words = f'"service_secrets": {{"HF_TOKEN": {{"command": ["sh", "-c", "echo x >> count; sleep 0.3; {end}"]}}}}'
    status, said = dry(tmp_path, words, 3)
    assert status == ("exit" in end), said
    assert (tmp_path / "count").read_text() == "x\n"


def test_40_a_removal_needs_no_secret(tmp_path: Path) -> None:
    gone = (
        '"removed": True, "service_secrets": {"HF_TOKEN": {"command": ["false"]}}, '
        '"gateway_key_sources": {"default": {"file": "/none"}}, "registry_credentials": {"docker.io": {"env": "NONE"}}'
    )
    status, said = dry(tmp_path, gone)
    assert status == 0 and "Remove the gateway's files" in said
