"""Adopted caches that are renamed into the data directory, and back: on real files, cut off after each step."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

import pytest

from ojai.facts.report import FUNCTIONS
from ojai.facts.report import folders as report
from ojai.operations import adoption, ledger
from tests.roles.real_host import CutOff, RealHost


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (adoption, ledger):
        monkeypatch.setattr(module, "ADDED_DIR", str(tmp_path / "added"))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """The owner's cache, with a file."""
    cache = tmp_path / "home of ada" / "huggingface"
    cache.mkdir(parents=True, mode=0o700)
    (cache / "weights").write_text("15 GB\n")
    (tmp_path / "srv").mkdir()
    return cache


def move(host: RealHost, cache: Path, srv: Path) -> bool:
    return host.apply(adoption.caches_moved, folders={"huggingface": str(cache)}, data_directory=str(srv))


def test_renamed_with_a_link_twice_and_back(tmp_path, cache):
    host, moved = RealHost(), tmp_path / "srv" / "huggingface"
    before = (cache.stat(), (cache / "weights").stat().st_ino)
    move(host, cache, tmp_path / "srv")
    assert cache.is_symlink() and not moved.is_symlink()
    assert (moved.stat().st_ino, (cache / "weights").stat().st_ino) == (before[0].st_ino, before[1])
    move(host, cache, tmp_path / "srv")
    assert host.noop_description == "each is in its place"
    (moved / "new").write_text("since\n")
    host.apply(adoption.caches_moved_back)
    after = cache.stat()
    assert (after.st_ino, after.st_mode, after.st_uid) == (before[0].st_ino, before[0].st_mode, before[0].st_uid)
    assert not cache.is_symlink() and not os.path.lexists(moved) and (cache / "new").exists()
    host.apply(adoption.caches_moved_back)
    assert host.noop_description == "none was moved"


@pytest.mark.parametrize("there", ["nothing", "an empty folder", "our own link, as a cut leaves it"])
@pytest.mark.parametrize("cut", [1, 2])
def test_cut_off_after_a_step(tmp_path, cache, there, cut):
    host, moved = RealHost(), tmp_path / "srv" / "huggingface"
    if there == "an empty folder":
        moved.mkdir()
    elif there != "nothing":
        moved.symlink_to(moved)
    words = {"folders": {"huggingface": str(cache)}, "data_directory": str(tmp_path / "srv")}
    with contextlib.suppress(CutOff):
        host.apply(adoption.caches_moved, cut_off_after=cut, **words)
    assert (cache / "weights").read_text() == "15 GB\n"  # at its place at any time
    move(host, cache, tmp_path / "srv")
    assert cache.is_symlink() and (moved / "weights").exists()
    host.apply(adoption.caches_moved_back)
    assert not cache.is_symlink() and (cache / "weights").exists() and not os.path.lexists(moved)


def test_what_is_in_its_place_is_not_lost(tmp_path, cache):
    moved = tmp_path / "srv" / "huggingface"
    moved.mkdir()
    (moved / "ours").write_text("other\n")
    with pytest.raises(AssertionError, match="not empty"):
        move(RealHost(), cache, tmp_path / "srv")
    assert (cache / "weights").exists() and not cache.is_symlink() and (moved / "ours").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_across_file_systems_nothing_is_copied(tmp_path, cache):
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path / "srv"], check=True)
    try:
        with pytest.raises(AssertionError, match="cannot be renamed to"):
            move(RealHost(), cache, tmp_path / "srv")
        assert list((tmp_path / "srv").iterdir()) == []
    finally:
        subprocess.run(["umount", tmp_path / "srv"], check=True)
    assert (cache / "weights").exists() and not cache.is_symlink()


def test_the_owner_has_put_another_there_since(tmp_path, cache):
    host, moved = RealHost(), tmp_path / "srv" / "huggingface"
    move(host, cache, tmp_path / "srv")
    cache.unlink()
    cache.mkdir()
    host.apply(adoption.caches_moved_back)
    assert cache.is_dir() and not cache.is_symlink() and (moved / "weights").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
@pytest.mark.parametrize(
    ("there", "why"),
    [
        ("nothing", None),
        ("empty", None),
        ("moved", None),
        ("filled", "is not empty"),
        ("file", "is not empty"),
        ("disk", "on another file system than "),
        ("own", "a file system of its own"),
    ],
)
def test_what_keeps_one_from_being_moved_is_said_before(tmp_path, cache, there, why):
    moved, mounted = tmp_path / "srv" / "huggingface", None
    match there:
        case "empty" | "filled":
            moved.mkdir()
            if there == "filled":
                (moved / "x").touch()
        case "file":
            moved.touch()
        case "moved":
            move(RealHost(), cache, tmp_path / "srv")
        case "disk" | "own":
            mounted = tmp_path / "srv" if there == "disk" else cache
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", mounted], check=True)
    script = FUNCTIONS + report.SCRIPT
    script = script.replace("%FOLDERS%", f"'{tmp_path}/srv'").replace("%CACHES%", f"'huggingface={cache}'")
    try:
        lines = RealHost().sh(script).stdout.splitlines()
    finally:
        if mounted:
            subprocess.run(["umount", mounted], check=True)
    every: dict[str, list[str]] = {}
    for line in lines:
        key, _, value = line.partition("\t")
        every.setdefault(key, []).append(value)
    found = report.read(every).cannot_move
    assert found.keys() == ({str(cache)} if why else set())
    assert not why or why in found[str(cache)]
