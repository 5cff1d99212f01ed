"""Forty cases of a reader who had seen the issue and the guide only: locks, weights, settings, what is left over."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants
from pyinfra.api.exceptions import DeployError

from ojai import credentials
from ojai.lab.hub.faults import Fault
from ojai.operations import weights
from ojai.operations.weights import TIMEOUT
from ojai.roles import network
from ojai.settings import lock as locks
from ojai.settings import parse
from ojai.settings.host import SettingsError
from ojai.settings.lock import Lock, LockError
from ojai.weights import program
from tests.unit.test_fetching import MODEL, SHARDED, SIZE, TWO, WEIGHTS, WEIGHTS_PATTERN, World, told
from tests.unit.test_version_lock import COMMIT, FILES, IMAGE, MOVED, OLD, UPSTREAM, answers, ojai, whole, write

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
    for text in ("", "\n", "# only the header\n", "---\n"):
        (tmp_path / "hosts.lock").write_text(text)
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
        for words in ([], ["--upgrade"]):
            done = ojai("lock", inventory, *words)
            assert done.returncode == 1, done
            one_line(done.stderr, "127.0.0.1", "not changed")
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
    for command in ("plan", "lock"):
        done = ojai(command, inventory)
        assert done.returncode == 2, (command, done)
        one_line(done.stderr, "hosts.lock", "found")


def test_15_the_fleet_file_is_read_by_its_inventory(tmp_path):
    shutil.copy(ROOT / "inventory" / "fleet.yaml", tmp_path)
    shutil.copy(ROOT / "inventory" / "fleet.py", tmp_path)
    done = ojai("lock", tmp_path / "fleet.yaml")
    assert done.returncode == 2 and list(tmp_path.glob("*.lock")) == [], done
    one_line(done.stderr, "fleet.py")


@pytest.mark.parametrize("version", ["1.10", "1e3", "012", "1:30", "0x1F-1", "0o17", "190:20:30", "1.", "26"])
def test_16_a_value_that_yaml_reads_otherwise_comes_back_as_it_was(tmp_path, version):
    commit = "1" * 36 + "e123"
    lock = whole(
        images={IMAGE: {"digest": f"sha256:{'0' * 64}", "engine": "1.0", "contract": "1" * 64}},
        models={
            "x/1e3@1.0": {
                "commit": commit,
                "files": {name: {"size": 1, "hash": "7" * 40} for name in ("yes", "null.json", "a b: #c.json", "ü.json")},
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
    moved = {"images": {}, "models": {f"{MODEL}@main": {"commit": MOVED, "files": {**FILES, "config.json": [9, "9" * 40]}}}}
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
