"""Forty cases of a reader who had seen the issue and the guide only: locks, weights, settings, what is left over."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from huggingface_hub import constants
from pyinfra.api.exceptions import DeployError

from ojai.facts.prune import SomeContainer
from ojai.facts.report import HostReport
from ojai.facts.report.space import Space
from ojai.lab.hub.faults import Fault
from ojai.operations.weights import TIMEOUT
from ojai.preflight import local
from ojai.preflight import lock as packages
from ojai.preflight import space as room
from ojai.roles import network
from ojai.settings import lock as locks
from ojai.settings import parse, secrets
from ojai.settings.host import SettingsError
from ojai.settings.lock import Lock, LockError
from ojai.weights import pack, program
from tests.unit.test_fetching import MODEL, SHARDED, TWO, WEIGHTS, WEIGHTS_PATTERN, World, told
from tests.unit.test_preflight import GOOD, LOCK
from tests.unit.test_prune import KEPT, left
from tests.unit.test_version_lock import COMMIT, FILES, IMAGE, MOVED, OLD, UPSTREAM, answers, ojai, whole, write

real_sleep = time.sleep
ROOT = Path(__file__).resolve().parents[2]
TEXT = whole().text()
PEM = ROOT / "tests" / "roles" / "inventories" / "authority.pem"


def pyinfra(inventory: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "pyinfra", "--dry", str(inventory), "deploy.py", *words],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def one_line(text: str, *said: str) -> None:
    """An error for a person: no traceback, and each of these words."""
    assert "Traceback" not in text, text
    for word in said:
        assert word in text, text


# The lock as people leave it.


def test_01_the_marks_of_a_merge_stop_every_command(tmp_path):
    inventory = write(tmp_path, ("one", answers()))
    (tmp_path / "hosts.lock").write_text(
        TEXT.replace(
            f"    digest: {OLD}\n", f"<<<<<<< HEAD\n    digest: {OLD}\n=======\n    digest: {MOVED}\n>>>>>>> their\n"
        )
    )
    for command in ("plan", "lock", "fetch", "verify", "prune", "open", "status", "rollback"):
        done = ojai(command, inventory)
        assert done.returncode == 2, (command, done)
        one_line(done.stderr, "hosts.lock:", "git checkout")
    done = pyinfra(inventory)
    assert done.returncode == 1
    one_line(done.stderr, "hosts.lock:", "no host was connected to")


def test_02_a_lock_of_no_byte_is_no_lock_that_may_be_passed_over(tmp_path):
    inventory = write(tmp_path, ("one", answers()))
    for text in ("\n", "# only the header\n", "---\n", ""):
        (tmp_path / "hosts.lock").write_text(text)
        with pytest.raises(LockError, match="expected a lock"):
            locks.read(tmp_path / "hosts.lock")
    done = ojai("plan", inventory)
    assert done.returncode == 2
    one_line(done.stderr, "hosts.lock", "expected a lock")


@pytest.mark.parametrize("what", ["model", "section", "version", "digest"])
def test_03_a_merge_that_left_both_sides_is_refused(tmp_path, what):
    other = TEXT.replace(COMMIT, MOVED)
    text = {
        "model": TEXT.replace("models:\n", f"models:\n  {MODEL}@main:\n    commit: '{MOVED}'\n    files: &f\n"
                              f"      config.json: {{hash: {'3' * 40!r}, size: 1}}\n"),
        "section": TEXT + other[other.index("models:") : other.index("ojai:")],
        "version": TEXT.replace("      docker.io: 26.1.5-1\n", "      docker.io: 26.1.5-1\n      docker.io: 27.0-1\n"),
        "digest": TEXT.replace(f"    digest: {OLD}\n", f"    digest: {OLD}\n    digest: sha256:{'c' * 64}\n"),
    }[what]  # fmt: skip
    assert text != TEXT
    (tmp_path / "x.lock").write_text(text)
    with pytest.raises(LockError, match="twice"):
        locks.read(tmp_path / "x.lock")


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        (OLD, OLD[:-1], "digest"),
        (OLD, OLD.upper(), "digest"),
        (OLD, "latest", "digest"),
        (f"'{COMMIT}'", COMMIT[:12], "commit"),
        (f"'{COMMIT}'", "HEAD", "commit"),
        ("size: 1", "size: -1", "size"),
        ("size: 1", "size: 15 GB", "size"),
        ("26.1.5-1", "'26.1.5-1; reboot'", "docker.io"),
        ("26.1.5-1", "'*'", "docker.io"),
        ("26.1.5-1", "", "docker.io"),
        ("20261101T000000Z", "2026-11-01", "taken"),
        ("      docker.io:", "      -o=Dir::Etc=/tmp:", "-o=Dir"),
        ("      docker.io:", "      docker.io/sid:", "docker.io/sid"),
    ],
)
def test_04_what_was_edited_into_something_else_is_refused_with_its_place(tmp_path, old, new, place):
    text = TEXT.replace(old, new)
    assert text != TEXT, TEXT
    (tmp_path / "x.lock").write_text(text)
    with pytest.raises(LockError) as raised:
        locks.read(tmp_path / "x.lock")
    assert place in str(raised.value) and "expected" in str(raised.value) and "\n" not in str(raised.value)


def test_05_a_lock_of_a_newer_ojai_says_so(tmp_path):
    inventory = write(tmp_path, ("one", answers()))
    (tmp_path / "hosts.lock").write_text(TEXT.replace("format: 1", "format: 99").replace("0.9.0", "7.1.0"))
    for command in ("plan", "lock", "prune"):
        done = ojai(command, inventory)
        assert done.returncode == 2, (command, done.stderr)
        one_line(done.stderr, "format 99", "7.1.0")
    assert "format: 99" in (tmp_path / "hosts.lock").read_text()


def test_06_what_the_inventory_gained_is_named_with_the_command_that_adds_it(tmp_path):
    inventory = write(tmp_path, ("one", answers()))
    (tmp_path / "hosts.lock").write_text(TEXT)
    assert ojai("plan", inventory).returncode == 0
    for data in ({"profile": "gemma-4-26b-a4b"}, {"model": "my/finetune"}, {"image": "vllm/vllm-openai-rocm:v0.28.0"}):
        write(tmp_path, ("one", {}))
        text = inventory.read_text().replace("host('one', {})", f"host('one', {{}}, services=[{data!r}])")
        inventory.write_text(text)
        done = ojai("plan", inventory)
        assert done.returncode == 2, done
        wanted = {"profile": "gemma-4-26b-a4b"}.get("profile") if "profile" in data else next(iter(data.values()))
        one_line(done.stderr, "hosts.lock", str(wanted), "ojai lock")


def test_07_a_revision_or_digest_of_the_inventory_that_is_not_the_locked_one_is_said():
    with pytest.raises(LockError, match=MOVED):
        parse("mini", {"services": [{"revision": MOVED}]}).locked(whole())
    other = f"sha256:{'c' * 64}"
    (service,) = parse("mini", {"services": [{"image_digest": other}]}).locked(whole()).resolved
    assert service.image == f"{IMAGE}@{other}"  # the inventory's own word, which everybody reads


def test_08_line_ends_and_marks_of_windows_change_nothing(tmp_path):
    file = tmp_path / "x.lock"
    for data in (TEXT.replace("\n", "\r\n").encode(), b"\xef\xbb\xbf" + TEXT.encode()):
        file.write_bytes(data)
        assert locks.read(file) == whole()
    file.write_bytes(TEXT.encode("utf-16"))
    with pytest.raises(LockError) as raised:
        locks.read(file)
    assert "\n" not in str(raised.value)


def test_09_locked_again_with_nothing_moved_is_the_same_byte_for_byte(tmp_path):
    inventory = write(tmp_path, ("one", answers()), ("two", answers()))
    assert ojai("lock", inventory).returncode == 0
    before = (tmp_path / "hosts.lock").read_bytes(), (tmp_path / "hosts.lock").stat().st_ino
    done = ojai("lock", inventory)
    assert done.returncode == 0 and "nothing to change" in done.stdout
    assert ((tmp_path / "hosts.lock").read_bytes(), (tmp_path / "hosts.lock").stat().st_ino) == before
    # Hosts in another order get the same lock.
    write(tmp_path, ("two", answers()), ("one", answers()))
    assert ojai("lock", inventory).returncode == 0
    assert (tmp_path / "hosts.lock").read_bytes() == before[0]


def test_10_what_is_not_in_the_lock_cannot_be_moved(tmp_path):
    inventory = write(tmp_path, ("one", answers(upstream=UPSTREAM)))
    done = ojai("lock", "--upgrade", inventory, "rocm")  # before there is a lock
    assert done.returncode == 2 and not (tmp_path / "hosts.lock").exists(), done
    assert ojai("lock", inventory).returncode == 0
    before = (tmp_path / "hosts.lock").read_bytes()
    for words in (["--upgrade", "nonsense"], ["--upgrade", "docker", "nonsense"], ["docker"], ["--upgrade", ""]):
        done = ojai("lock", inventory, *words)
        assert done.returncode == 2, (words, done)
        one_line(done.stderr)
    assert (tmp_path / "hosts.lock").read_bytes() == before


def test_11_a_host_that_is_away_leaves_the_lock_whole(tmp_path):
    inventory = write(tmp_path, ("one", answers()))
    assert ojai("lock", inventory).returncode == 0
    before = (tmp_path / "hosts.lock").read_bytes()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        text = inventory.read_text()
        away = f"('127.0.0.1', {{'ssh_port': {port}, 'ssh_user': 'ada'}})"
        inventory.write_text(f"{text[: text.rindex(']')]}, {away}]")
        done = ojai("lock", inventory)
    assert done.returncode == 1, done
    one_line(done.stderr, "127.0.0.1: found no answer")
    assert (tmp_path / "hosts.lock").read_bytes() == before and len(list(tmp_path.glob("*.lock*"))) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_12_a_folder_that_cannot_be_written_is_said(tmp_path):
    cannot_be_written(tmp_path, lambda: tmp_path.chmod(0o555), lambda: tmp_path.chmod(0o755))


def test_12_a_place_that_is_taken_is_said(tmp_path):
    cannot_be_written(tmp_path, (tmp_path / "hosts.lock.new").mkdir, (tmp_path / "hosts.lock.new").rmdir)


def cannot_be_written(folder: Path, spoil, mend) -> None:
    inventory = write(folder, ("one", answers()))
    assert ojai("lock", inventory).returncode == 0
    before = (folder / "hosts.lock").read_bytes()
    write(folder, ("one", answers(upstream=UPSTREAM)))
    spoil()
    try:
        done = ojai("lock", "--upgrade", inventory)
    finally:
        mend()
    assert done.returncode == 1, done
    one_line(done.stderr, "hosts.lock")
    assert (folder / "hosts.lock").read_bytes() == before


def test_13_odd_names_have_their_lock_beside_them(tmp_path):
    folder = tmp_path / "Meine Kästchen's"
    folder.mkdir()
    inventory = write(folder, ("one", answers()))
    dotted = folder / "my.fleet.v2.py"
    inventory.rename(dotted)
    done = ojai("lock", dotted)
    assert done.returncode == 0, done.stderr
    assert (folder / "my.fleet.v2.lock").exists()
    assert f"{IMAGE}@{OLD}" in ojai("plan", dotted).stdout
    link = tmp_path / "link.py"
    link.symlink_to(dotted)
    assert f"{IMAGE}@{OLD}" in ojai("plan", link).stdout
    relative = subprocess.run(
        [sys.executable, "-P", "-m", "ojai", "plan", "my.fleet.v2.py"],
        cwd=folder, env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert f"{IMAGE}@{OLD}" in relative.stdout, relative
    assert f"{IMAGE}@{OLD}" in pyinfra(dotted, "--diff").stderr


@pytest.mark.parametrize("kind", ["folder", "dangling link", "loop", "binary", "pipe"])
def test_14_what_stands_in_the_place_of_a_lock_is_said(tmp_path, kind):
    inventory, place = write(tmp_path, ("one", answers())), tmp_path / "hosts.lock"
    {
        "folder": place.mkdir,
        "dangling link": lambda: place.symlink_to(tmp_path / "elsewhere" / "fleet.lock"),
        "loop": lambda: place.symlink_to(place),
        "binary": lambda: place.write_bytes(bytes(range(256))),
        "pipe": lambda: os.mkfifo(place),
    }[kind]()
    with pytest.raises(LockError, match="found"):
        locks.read(place)
    done = ojai("lock", inventory)
    assert done.returncode == 2, done
    one_line(done.stderr, "hosts.lock", "found")


def test_15_the_fleet_file_is_read_by_its_inventory(tmp_path):
    shutil.copy(ROOT / "inventory" / "fleet.yaml", tmp_path)
    shutil.copy(ROOT / "inventory" / "fleet.py", tmp_path)
    done = ojai("lock", tmp_path / "fleet.yaml")
    assert done.returncode == 1 and list(tmp_path.glob("*.lock")) == [], done
    assert "no host answered" in done.stderr and "fleet.lock was not written" in done.stderr


@pytest.mark.parametrize("version", ["1.10", "1e3", "012", "1:30", "0x1F-1", "0o17", "190:20:30", "1.", "26"])
def test_16_a_value_that_yaml_reads_otherwise_comes_back_as_it_was(tmp_path, version):
    commit = "1" * 36 + "e123"
    lock = whole(
        images={IMAGE: {"digest": f"sha256:{'0' * 64}", "engine": "1.0", "contract": "1" * 64}},
        models={
            "x/1e3@1.0": {
                "commit": commit,
                "files": {
                    name: {"size": 1, "hash": "7" * 40} for name in ("yes", "null.json", "a b: #c.json", "ü.json")
                },
            }
        },
        packages={"kernel x": {"taken": "20261101T000000Z", "versions": {"no": version, "on": "1~rc1+b2"}}},
    )
    (tmp_path / "x.lock").write_text(lock.text(), encoding="utf-8")
    assert locks.read(tmp_path / "x.lock") == lock


def test_17_a_model_that_moves_is_only_its_lines_in_the_diff(tmp_path):
    inventory = write(tmp_path, ("one", answers()))
    assert ojai("lock", inventory).returncode == 0
    before = (tmp_path / "hosts.lock").read_text().splitlines()
    moved = {
        "images": {},
        "models": {f"{MODEL}@main": {"commit": MOVED, "files": {**FILES, "config.json": [9, "9" * 40]}}},
    }
    write(tmp_path, ("one", answers(upstream=moved)))
    done = ojai("lock", "--upgrade", inventory, MODEL)
    assert done.returncode == 0, done.stderr
    after = (tmp_path / "hosts.lock").read_text().splitlines()
    changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert sorted(a.strip().partition(":")[0] for a, _ in changed) == ["commit", "hash", "size"]
    assert all(len(line) < 120 for line in after)


def test_18_a_profile_that_says_something_else_is_named(tmp_path):
    inventory = write(tmp_path, ("one", answers()))
    assert ojai("lock", inventory).returncode == 0
    file = tmp_path / "hosts.lock"
    document = yaml.safe_load(file.read_text())
    document["profiles"] = {"gemma-4-e4b": "a" * 64}
    file.write_text(Lock.model_validate(document).text())
    for command in ("plan", "prune", "fetch"):
        done = ojai(command, inventory)
        assert done.returncode == 2, done
        one_line(done.stderr, "gemma-4-e4b", "ojai lock --upgrade")
    done = ojai("lock", "--upgrade", inventory, "gemma-4-e4b")
    assert done.returncode == 0 and "profile gemma-4-e4b" in done.stdout, done
    assert ojai("plan", inventory).returncode == 0


# Settings and secrets.

SECRET = "s3cr3t-W0rt"


def refused(data: dict) -> str:
    with pytest.raises(SettingsError) as raised:
        parse("mini", data)
    text = str(raised.value)
    assert SECRET not in text and ("expected" in text or "no such setting" in text), text
    return text


@pytest.mark.parametrize(
    ("value", "sent"),
    [("hf_abc\n", "hf_abc"), (" hf_abc ", "hf_abc"), ("hf_abc\r\n", "hf_abc"), ("", None), ("  ", None), ("\n", None)],
)
def test_19_a_token_with_what_a_copy_adds_is_taken_without_it(monkeypatch, value, sent):
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    monkeypatch.setenv("HF_TOKEN", value)
    found = secrets.token_of_environment()
    assert (found["HF_TOKEN"].read() if found else None) == sent


def test_19_what_is_no_token_is_refused_unseen(tmp_path, monkeypatch):
    for value in (f"'{SECRET}'", f"hf_{SECRET} x", f"Bearer {SECRET}", f"{SECRET}…"):
        monkeypatch.setenv("HF_TOKEN", value)
        with pytest.raises(secrets.SecretError) as raised:
            secrets.token_of_environment()["HF_TOKEN"].read()
        assert SECRET not in str(raised.value)
    inventory = write(tmp_path, ("one", answers()))
    done = pyinfra(inventory, HF_TOKEN=f'"{SECRET}"')
    assert done.returncode == 1
    one_line(done.stderr + done.stdout, "HF_TOKEN", "not shown")
    assert SECRET not in done.stderr + done.stdout


@pytest.mark.parametrize("key", ["http_proxy", "https_proxy"])
def test_20_a_proxy_with_a_password_is_refused_and_the_desktops_form_is_taken(key):
    for value in (
        f"http://ada:{SECRET}@proxy:3128",
        f"http://:{SECRET}@proxy:3128",
        f"http://{SECRET}@proxy",
        f"ada:{SECRET}@proxy:3128",
    ):
        assert key in refused({key: value})
    assert "http://" in refused({key: "proxy.lan:3128"}) and "http" in refused({key: "socks5://proxy.lan:1080"})
    assert parse("mini", {key: "http://proxy.lan:3128/"}).proxies[key] == "http://proxy.lan:3128"
    assert parse("mini", {key: "http://[2001:db8::1]:3128"}).proxies[key] == "http://[2001:db8::1]:3128"


def test_21_hosts_without_a_proxy_are_a_list():
    assert "list" in refused({"http_proxy": "http://proxy:1", "no_proxy": "a.lan,b.lan"})
    assert "no_proxy" in refused({"http_proxy": "http://proxy:1", "no_proxy": ["a.lan,b.lan"]})
    assert parse("mini", {"no_proxy": ["10.0.0.0/8", "*.lan", ".lan", "host:8080", "[::1]"]})


def test_22_what_is_no_certificate_stops_before_a_host_is_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    key = "-----BEGIN RSA PRIVATE KEY-----\n" + SECRET + "\n-----END RSA PRIVATE KEY-----\n"
    files = {
        "empty.pem": b"", "der.crt": b"\x30\x82\x01\xff", "both.pem": PEM.read_bytes() + key.encode(),
        "keyonly.pem": key.encode(), "cut.pem": PEM.read_bytes()[:-40], "utf16.pem": PEM.read_text().encode("utf-16"),
        "text.pem": b"-----BEGIN CERTIFICATE-----\nnot base64 at all!\n-----END CERTIFICATE-----\n",
    }  # fmt: skip
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    for name in (*files, "none.pem", ""):
        with pytest.raises(DeployError) as raised:
            network.certificates(parse("mini", {"ca_certificates": [f"~/{name}"]}))
        text = str(raised.value)
        assert SECRET not in text and "\n" not in text and "What to do" in text, (name, text)
    crlf = tmp_path / "crlf.pem"
    crlf.write_bytes(PEM.read_bytes().replace(b"\n", b"\r\n"))
    assert network.certificates(parse("mini", {"ca_certificates": ["~/crlf.pem"]})) == [PEM.read_text()]


@pytest.mark.parametrize("name", ["both.pem", "none.pem"])
def test_22_no_host_is_connected_to_for_a_file_that_cannot_be_used(tmp_path, name):
    (tmp_path / "both.pem").write_text(f"{PEM.read_text()}-----BEGIN PRIVATE KEY-----\n{SECRET}\n")
    inventory = write(tmp_path, ("one", answers()))
    text = inventory.read_text()
    inventory.write_text(text.replace(")]", f", ca_certificates=[{str(tmp_path / name)!r}])]"))
    done = pyinfra(inventory)
    assert done.returncode == 1
    one_line(done.stderr, "ca_certificates", name)
    assert SECRET not in done.stderr


def test_23_a_login_is_never_shown_whatever_is_wrong_with_it(tmp_path, monkeypatch):
    for value in (f"ada:{SECRET}", [f"ada:{SECRET}"], {f"https://ada:{SECRET}@registry.lan": {"env": "X"}}):
        refused({"registry_credentials": value})
    one = (
        f"ada:{SECRET}",
        [SECRET],
        {"user": "ada", "password": SECRET},
        {"env": f"ada:{SECRET}"},
        {"env": "A", "file": SECRET},
    )
    for value in one:
        assert "registry.lan" in refused({"registry_credentials": {"registry.lan": value}})
    for value in (
        f"hf_{SECRET}",
        [f"HF_TOKEN=hf_{SECRET}"],
        {"HF_TOKEN": f"hf_{SECRET}"},
        {"HF_TOKEN": {"value": SECRET}},
    ):
        assert "secrets" in refused({"services": [{"secrets": value}]})
    file = tmp_path / "login"
    file.write_text(f"ada:{SECRET}\n")
    file.chmod(0o644)
    script = tmp_path / "fails"
    script.write_text(f"#!/bin/sh\necho ada:{SECRET}; exit 3\n")
    script.chmod(0o755)
    monkeypatch.setenv("TWO_LINES", f"ada:{SECRET}\nmore")
    monkeypatch.setenv("NO_COLON", SECRET)
    monkeypatch.delenv("UNSET", raising=False)
    sources = [
        ({"env": "UNSET"}, "UNSET"), ({"env": "TWO_LINES"}, "TWO_LINES"), ({"env": "NO_COLON"}, "user:password"),
        ({"file": str(file)}, "chmod 600"), ({"file": str(tmp_path)}, str(tmp_path)),
        ({"file": f"{tmp_path}/none"}, "none"),
        ({"command": [str(script)]}, "status 3"), ({"command": ["no-such-program"]}, "no-such-program"),
    ]  # fmt: skip
    for source, said in sources:
        with pytest.raises(secrets.SecretError) as raised:
            secrets.Source(**source).login()
        text = str(raised.value)
        assert said in text and SECRET not in text and "\n" not in text, text
    file.chmod(0o600)
    assert secrets.Source(file=str(file)).login() == {"username": "ada", "password": SECRET}
    file.write_bytes(f"ada:{SECRET}\r\n".encode())  # written on Windows
    assert secrets.Source(file=str(file)).login() == {"username": "ada", "password": SECRET}


@pytest.mark.parametrize("key", ["hf_endpoint", "rocm_mirror", "docker_mirror"])
def test_24_an_address_holds_no_login(key):
    for login in (f"ada:{SECRET}", SECRET, f":{SECRET}"):
        assert key in refused({key: f"https://{login}@hub.lan"})
    for value in ("hub.lan", "ftp://hub.lan", "https://", "//hub.lan"):
        assert "http" in refused({key: value})
    assert parse("mini", {key: "https://hub.lan:8443/api/hf"})
    assert "slash" in refused({key: "https://hub.lan/"})


@pytest.mark.parametrize(
    "model",
    [
        "https://huggingface.co/google/gemma-4-E4B-it", "huggingface.co/google/gemma-4-E4B-it", "~/models/gemma",
        "./models/gemma", "../gemma", "models/google/gemma", "google/gemma-4-E4B-it/", " google/gemma-4-E4B-it",
        "google/gemma-4-E4B-it@main", "google/gemma 4", "/", "C:\\models\\gemma", "file:///mnt/usb/gemma",
        "google/gemma-4-E4B-it:latest", "/mnt/usb/../../etc", "google/..", "--help",
    ],
)  # fmt: skip
def test_25_what_is_neither_an_id_nor_a_folder_is_refused_while_the_inventory_is_read(model):
    text = refused({"services": [{"model": model}]})
    assert "google/gemma-4-E4B-it" in text and "model" in text


def test_25_ids_and_folders_are_taken():
    for model in ("google/gemma-4-E4B-it", "my.org/Gemma_4-x", "/mnt/usb/gemma-4-E4B-it", "/media/ada/USB DISK/gemma"):
        (service,) = parse("mini", {"services": [{"model": model}]}).resolved
        assert service.model == model
    # A shell that completed the name leaves a slash behind a folder.
    (service,) = parse("mini", {"services": [{"model": "/mnt/usb/gemma/"}]}).resolved
    assert service.model == "/mnt/usb/gemma"


# Fetching, by the real client.


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", TIMEOUT)
    monkeypatch.setattr(program.time, "sleep", lambda seconds: None)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    found = World(tmp_path / "world")
    yield found
    found.running.stop()


def without_links(world: World) -> None:
    """As a disk without links, or `cp -rL`, leaves a cache: each file in the snapshot, no blob."""
    place = world.snapshot()
    for path in [path for path in place.rglob("*") if path.is_symlink()]:
        blob = path.resolve()
        path.unlink()
        shutil.copy(blob, path)
    shutil.rmtree(world.cache / "hub" / program.folder_name(MODEL) / "blobs")


def forget(world: World) -> None:
    shutil.rmtree(world.folder / "state")
    world.hub.counts.forget()


def test_26_a_cache_that_lost_its_links_on_the_way_is_taken_as_it_is(world):
    world.fetch()
    without_links(world)
    forget(world)
    (result,) = world.fetch()
    assert result["bytes_fetched"] == 0 and world.hub.counts.bytes == {}
    # And what is damaged in it is found.
    forget(world)
    damage(world.snapshot() / WEIGHTS)
    world.fetch()
    assert list(world.hub.counts.bytes) == [f"{MODEL} {WEIGHTS}"]


def test_26_and_where_no_hub_may_be_asked_the_reason_is_said(world):
    """Without links nobody says what the files should be: unknown is not whole."""
    world.fetch()
    without_links(world)
    forget(world)
    found = world.fails(local_only=True)
    text = told(found, world)
    assert found.code.startswith("local-only") and "link" in text, text


@pytest.mark.parametrize("asked", ["a commit", "a branch"])
def test_26_a_copied_cache_serves_without_the_hub_whatever_names_the_commit(world, asked):
    """By a lock, or by `revision`; and again after a run that was killed while it verified."""
    (first,) = world.fetch()
    forget(world)
    revision = first["revision"] if asked == "a commit" else None
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(program, "measured", lambda *_: os.kill(os.getpid(), 0) or 1 / 0)  # ends while it verifies
        assert world.fails((MODEL, revision), local_only=True).code == "unknown"
    (result,) = world.fetch((MODEL, revision), local_only=True)
    assert result["revision"] == first["revision"] and world.hub.counts.requests == {}
    forget(world)
    (world.snapshot() / WEIGHTS).resolve().unlink()
    assert world.fails((MODEL, revision), local_only=True).code == "local-only"


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_27_one_damaged_file_is_the_only_one_that_is_fetched(world):
    world.fetch((SHARDED, None))
    forget(world)
    damage(next(iter(world.snapshot(SHARDED).glob("model-00002*"))).resolve())
    world.fetch((SHARDED, None))
    assert [name.split()[1] for name in world.hub.counts.bytes] == ["model-00002-of-00002.safetensors"]


def test_28_links_whose_files_somebody_cleaned_away_are_fetched_and_no_others(world):
    world.fetch((SHARDED, None))
    forget(world)
    gone = [world.snapshot(SHARDED) / name for name in ("model-00001-of-00002.safetensors", "tokenizer.json")]
    for path in gone:
        path.resolve().unlink()
    world.fetch((SHARDED, None))
    assert sorted(name.split()[1] for name in world.hub.counts.bytes) == sorted(path.name for path in gone)
    assert all(path.exists() for path in gone)


def test_29_three_cuts_cost_nothing_that_was_complete(world, tmp_path):
    """The program killed, the hub killed, the program killed; then it is done."""
    (first, second), client = TWO, tmp_path / "client.pyz"
    client.write_bytes(pack.packed())
    world.hub.faults.put([Fault("slow", f"*{second}", rate=1_500_000)])
    for cut in range(3):
        asked = {name: value for name, value in vars(world.request((SHARDED, None))).items() if name != "token"}
        words = json.dumps({**asked, "state": str(asked["state"]), "status": str(asked["status"])})
        with subprocess.Popen(
            [sys.executable, "-I", client, words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        ) as working:
            before, until = world.sent(second, SHARDED), time.monotonic() + 60
            while world.sent(second, SHARDED) < before + 700_000 and time.monotonic() < until:
                real_sleep(0.02)
            if cut == 1:
                world.running.stop()
                world.open()
                world.hub.faults.put([Fault("slow", f"*{second}", rate=1_500_000)])
            working.kill()
    world.hub.faults.put([])
    world.fetch((SHARDED, None))
    size = (world.snapshot(SHARDED) / first).stat().st_size
    assert world.sent(first, SHARDED) == size and world.hub.counts.requests[f"{SHARDED} {first}"] == 1
    # Of the other, what was on its way at a cut.
    assert size <= world.sent(second, SHARDED) <= size + 3 * (program.PIECE + (1 << 19))


def test_30_a_login_page_that_begins_in_the_middle_is_no_weights(world):
    world.hub.faults.put([Fault("page", WEIGHTS_PATTERN)])
    found = world.fails()
    assert found.code in ("not-a-hub", "size", "checksum", "cut-off"), found.code
    text = told(found, world)
    assert "login page" in text or "proxy" in text, text
    left = [path for path in (world.cache / "hub").rglob("*") if path.is_file() and b"<html>" in path.read_bytes()[:99]]
    assert left == []
    world.hub.faults.put([])
    assert world.fetch()[0]["files"] == 7


def test_31_a_busy_hub_is_waited_for_as_long_as_it_says_and_not_for_ever(world, monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr(program.time, "sleep", slept.append)
    world.hub.faults.put([Fault("status", "api", status=429, times=2)])
    assert world.fetch()[0]["files"] == 7 and slept and max(slept) <= 30
    shutil.rmtree(world.cache)
    shutil.rmtree(world.folder / "state")
    slept.clear()
    world.hub.faults.put([Fault("status", "*", status=429)])
    assert "429" in told(world.fails(patience=5), world) and sum(slept) < 300


def test_32_a_hub_that_falls_silent_ends_in_time_and_what_came_is_kept(world, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
    silent = Fault("stall", WEIGHTS_PATTERN, after=2 * program.PIECE, seconds=60, times=1)
    world.hub.faults.put([silent, Fault("stall", WEIGHTS_PATTERN, after=1000, seconds=60)])
    began = time.monotonic()
    found = world.fails()
    assert found.code == "hub-dead" and time.monotonic() - began < 60
    assert "continues where it stopped" in told(found, world)
    (part,) = (world.cache / "hub").rglob("*.incomplete")
    kept = part.stat().st_size
    assert kept >= program.PIECE
    world.hub.faults.put([])
    before = world.sent()
    world.fetch()
    assert world.sent() - before == (world.snapshot() / WEIGHTS).stat().st_size - kept


class _Below(BaseHTTPRequestHandler):
    """A mirror that has the hub below a path, as those of companies do; it passes on what it is asked."""

    target, seen = "", []

    def do_GET(self):
        self.seen.append((self.command, self.path, self.headers.get("Authorization")))
        if not self.path.startswith("/api/huggingface/"):
            self.send_error(404)
            return
        place = urlsplit(self.target)
        ask = http.client.HTTPConnection(place.netloc)
        kept = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        ask.request(self.command, self.path.removeprefix("/api/huggingface"), headers=kept)
        answer = ask.getresponse()
        body = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "date", "server"):
                below = name.lower() == "location" and value.startswith("/")
                self.send_header(name, f"/api/huggingface{value}" if below else value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *words):
        pass


def test_33_a_mirror_below_a_path_gets_the_token_and_nobody_else_does(world):
    handler = type("Below", (_Below,), {"target": world.running.url, "seen": []})
    mirror = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=mirror.serve_forever, daemon=True).start()
    try:
        endpoint = f"http://127.0.0.1:{mirror.server_address[1]}/api/huggingface"
        (result,) = world.fetch(endpoint=endpoint, token="hf_labAccepted")
    finally:
        mirror.shutdown()
        mirror.server_close()
    assert result["files"] == 7 and handler.seen
    assert all(path.startswith("/api/huggingface/") for _, path, _ in handler.seen), handler.seen
    assert all(token == "Bearer hf_labAccepted" for *_, token in handler.seen)
    assert world.hub.counts.tokens_led_astray == 0
    left = [path for path in world.folder.rglob("*") if path.is_file() and b"hf_labAccepted" in path.read_bytes()]
    assert left == []


def test_34_two_services_of_one_model_and_a_third_at_another_commit(world):
    first = world.fetch((MODEL, None), (MODEL, None))
    once = world.sent()
    moved = world.hub.store.add_commit(MODEL)
    found = world.fetch((MODEL, None), (MODEL, None), (MODEL, moved))
    assert [one["revision"] for one in found] == [first[0]["revision"]] * 2 + [moved]
    assert world.hub.counts.requests[f"{MODEL} {WEIGHTS}"] <= 2 and world.sent() <= 2 * once
    snapshots = world.cache / "hub" / program.folder_name(MODEL) / "snapshots"
    assert sorted(path.name for path in snapshots.iterdir()) == sorted({one["revision"] for one in found})
    again = world.fetch((MODEL, None), (MODEL, moved))
    assert [one["bytes_fetched"] for one in again] == [0, 0]


# A folder of the owner's, and room.


def folder_of(place: Path, *files: str, index: tuple[str, ...] = ()) -> Path:
    place.mkdir(parents=True)
    for name in files:
        (place / name).write_text("content")
    if index:
        weight_map = {f"layer.{number}": name for number, name in enumerate(index)}
        (place / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return place


def test_35_a_folder_that_the_engine_could_not_start_from_is_no_model(tmp_path):
    plain = ("config.json", "tokenizer.json", "tokenizer_config.json")
    folders = {
        "good": folder_of(tmp_path / "good", *plain, "model.safetensors"),
        "good in shards": folder_of(tmp_path / "shards", *plain, *TWO, index=tuple(TWO)),
        "good with a GGUF beside": folder_of(tmp_path / "both", *plain, "model.safetensors", "model-Q4_0.gguf"),
        "no config": folder_of(tmp_path / "no-config", "tokenizer.json", "model.safetensors"),
        "no tokenizer": folder_of(tmp_path / "no-tokenizer", "config.json", "model.safetensors"),
        "GGUF alone": folder_of(tmp_path / "gguf", *plain, "gemma-4-E4B-it-Q4_0.gguf"),
        "a shard missing": folder_of(tmp_path / "cut", *plain, next(iter(TWO)), index=tuple(TWO)),
        "no index": folder_of(tmp_path / "no-index", *plain, next(iter(TWO))),
        "empty": folder_of(tmp_path / "empty"),
        "not there": tmp_path / "none",
    }
    empty = folder_of(tmp_path / "zero", *plain, "model.safetensors")
    (empty / "model.safetensors").write_text("")
    folders["a file of no byte"] = empty
    places = tuple(map(str, folders.values()))
    done = subprocess.run(["bash", "-c", HostReport().command(models=places)], capture_output=True, text=True)
    report = HostReport().process(done.stdout.splitlines())
    whole_ones = [name for name, place in folders.items() if str(place) in report.models]
    assert whole_ones == ["good", "good in shards", "good with a GGUF beside"]
    for name, place in folders.items():
        settings = parse("mini", {"services": [{"model": str(place)}]})
        said = [str(one) for one in local.failed(settings, replace(GOOD, models=report.models))]
        assert bool(said) == (name not in whole_ones), (name, said)
        assert all(str(place) in one and "What to do" in one for one in said), said


def test_35_a_folder_below_the_models_that_is_not_there_is_refused_too():
    settings = parse("mini", {"services": [{"model": "/app/models/gemma-4-E4B-it"}]})
    (said,) = (str(one) for one in local.failed(settings, GOOD))
    assert "/srv/ojai/models/gemma-4-E4B-it" in said


def test_36_the_report_of_fetch_is_json_though_a_host_is_away(tmp_path):
    inventory = write(tmp_path, ("one", answers()))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        text = inventory.read_text()
        away = f"('127.0.0.1', {{'ssh_port': {taken.getsockname()[1]}, 'ssh_user': 'ada'}})"
        inventory.write_text(f"{text[: text.rindex(']')]}, {away}]")
        done = ojai("fetch", inventory, "--json")
    assert done.returncode == 1
    found = {host["host"]: host for host in json.loads(done.stdout)["hosts"]}
    assert found["127.0.0.1"]["ok"] is False and found["127.0.0.1"]["models"] == []
    one_line(done.stderr, "127.0.0.1")
    done = ojai("fetch", inventory, "--json", "--limit", "nobody")
    assert done.returncode == 2 and done.stdout == "" and "limit" in done.stderr


GIB = 1 << 30


@pytest.mark.parametrize(
    ("image", "weights_at", "store", "refused_at"),
    [
        (50, 50, "docker", "/"),  # 40 and 14 and what is to spare: each alone would fit
        (65, 65, "docker", None),
        (65, 65, "containerd", "/"),
        (50, 12, "docker", "/data"),
        (30, 50, "docker", "/"),
        (50, 50, None, "/"),
    ],
)
def test_37_what_shares_a_disk_is_counted_together(image, weights_at, store, refused_at):
    shared = image == weights_at
    stores = {store: f"/var/lib/{store}"} if store else {"docker": "/var/lib/docker"}
    place = next(iter(stores.values()))
    space = Space(rooms={place: (image * GIB, "/")}, stores=stores)
    report = replace(GOOD, disks={"/srv/ojai": (weights_at * GIB, "/" if shared else "/data")}, space=space)
    said = [str(one) for one in room.failed(parse("mini", {}), report)]
    assert [one.partition(" free on ")[2].partition(";")[0] for one in said] == ([refused_at] if refused_at else [])
    if shared and said:
        assert "image vllm" in said[0] and "weights of google" in said[0], said


# Packages, and what is left over.

HELD_BACK = """
linux-image-6.17.0-1012-oem linux-image-unsigned-6.17.0-1012-oem linux-headers-6.17.0-1012-oem linux-oem-6.17
linux-modules-6.17.0-1012-oem linux-modules-extra-6.14.0-27-generic linux-oem-6.17-headers-6.17.0-1012 linux-firmware
linux-generic-hwe-24.04 linux-image-generic-hwe-24.04 linux-headers-oem-6.17 linux-tools-6.17.0-1012-oem
docker.io docker-ce docker-ce-cli docker-ce-rootless-extras docker-buildx-plugin docker-compose-plugin containerd
containerd.io runc rocminfo rocm rocm-core rocm-smi-lib amd-smi-lib hsa-rocr hip-runtime-amd hipblas hipcc migraphx
comgr rocprofiler-register rocblas rocfft rocrand rocsolver rocsparse rccl miopen-hip roctracer openmp-extras-runtime
rocprim-dev rocthrust-dev rocwmma-dev rocalution composablekernel-dev libdrm2-amdgpu libdrm-amdgpu-amdgpu1
libdrm-amdgpu-common
"""
GO_ON = """
linux-libc-dev linux-base linux-sound-base openssl libssl3t64 libdrm2 libdrm-amdgpu1 libdrm-common amd64-microcode
intel-microcode firmware-sof-signed docker-registry podman runc-doc hippo-sim rocs rocksdb-tools librocksdb8.9 rpm
curl nginx python3.12 libc6 mesa-vulkan-drivers xserver-xorg-video-amdgpu haproxy hidapi containernetworking-plugins
"""


def test_38_what_stays_for_the_deploy_and_what_goes_on():
    def held(name: str) -> bool:
        return any(re.match(pattern, name) for names in locks.protected().values() for pattern in names)

    assert [name for name in HELD_BACK.split() if not held(name)] == []
    assert [name for name in GO_ON.split() if held(name)] == []


def test_39_a_host_that_never_had_a_deploy_has_nothing_to_prune(tmp_path):
    inventory = write(tmp_path, ("one", {}))
    for words in (["--json"], ["--yes", "--json"]):
        done = ojai("prune", inventory, *words)
        assert done.returncode == 0, done
        (host,) = json.loads(done.stdout)["hosts"]
        assert host["unused"] == []
        one_line(done.stderr)


def test_39_nothing_of_the_owner_s_is_listed():
    assert left(KEPT)  # something of ours is
    owner = SomeContainer("open-webui", "sha256:9", ("/srv/ojai/huggingface/hub",))
    theirs = {
        "their own image of the same repository": replace(KEPT, images=()),
        "a stopped container on the image, and the cache in another": replace(
            KEPT, containers=(*KEPT.containers, SomeContainer("old", "sha256:1"), owner)
        ),
    }
    for name, found in theirs.items():
        said = left(found)
        assert not any(one.endswith(":v0.19.0") for one in said), name
        assert not any(MODEL in one for one in said) or name.startswith("their own"), name


def test_40_a_version_that_is_gone_or_newer_is_named_with_both_and_the_command():
    settings = parse("mini", {}).locked(LOCK)
    docker = LOCK.packages["docker"].versions["docker.io"]
    lost = replace(GOOD, apt=replace(GOOD.apt, versions={"docker.io": ("30.0.1-1",)}))
    (said,) = (str(one) for one in packages.failed(settings, lost))
    assert f"docker.io {docker}" in said and "30.0.1-1" in said and "ojai lock --upgrade" in said
    there = replace(GOOD, apt=replace(GOOD.apt, versions={"docker.io": ("30.0.1-1", docker)}))
    assert list(packages.failed(settings, there)) == []
    assert any("30.0.1-1" in one for one in packages.remarks(settings, there))
    snapshot = replace(lost, apt=replace(lost.apt, snapshot={"docker.io": (docker,)}))
    assert list(packages.failed(settings, snapshot)) == []
    newer = replace(GOOD, apt=replace(GOOD.apt, installed={"docker.io": "30.0.1-1"}))
    (said,) = (str(one) for one in packages.failed(settings, newer))
    assert f"--allow-downgrades docker.io={docker}" in said and "30.0.1-1" in said
