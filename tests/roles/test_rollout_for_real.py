"""What a rollout keeps on a host, by this machine's own shell, on a made-up tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from real_host import RealHost

from ojai.connection import lock
from ojai.facts import rollout
from ojai.facts.rollout import SLACK, HostStanding, Record, Standing, note

pytestmark = pytest.mark.skipif(not shutil.which("flock"), reason="needs util-linux")

RECORD = Record("ab" * 32, False, "verify: it's `broken` $HOME", "2026-11-28T03:00:50+00:00", "ada on laptop", "0.1.0")


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "ojai").mkdir()
    monkeypatch.setattr(rollout, "ROLLOUT", str(tmp_path / "ojai" / "rollout"))
    monkeypatch.setattr(lock, "FILE", str(tmp_path / "lock"))
    monkeypatch.setattr(lock, "LOOK", lock.LOOK.replace("/run/ojai-deploy.lock", str(tmp_path / "lock")))
    return tmp_path


def keep(age: float = 60) -> int:
    return subprocess.run(["sh", "-c", note(RECORD, age)], check=False, stdout=subprocess.DEVNULL).returncode


def standing() -> HostStanding:
    found: HostStanding = RealHost().get_fact(Standing, models=("none@main",), packages=("dpkg", "no-such-package"))
    return found


def test_what_is_kept_is_read_back(top):
    assert standing().record is None
    assert keep() == 0 and standing().record == RECORD
    assert (top / "ojai" / "rollout").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (top / "ojai").iterdir()] == ["rollout"]


def test_nothing_is_kept_where_there_is_nothing_of_ojais(top):
    (top / "ojai").rmdir()
    assert keep() == 0 and list(top.iterdir()) == []


@pytest.mark.parametrize(("seconds", "kept"), [(60, True), (60 - SLACK, True), (30, False), (0, False)])
def test_not_where_another_deploy_has_run_meanwhile(top, seconds, kept):
    (top / "lock").touch()
    then = time.time() - seconds
    os.utime(top / "lock", (then, then))
    assert (keep(60) == 0, standing().record == RECORD) == (kept, kept)


def test_not_while_another_deploy_runs(top):
    (top / "lock").write_text("2026-11-28 03:00:50 UTC\tada on laptop\tojai rollout fleet.py\n")
    os.utime(top / "lock", (0, 0))
    with subprocess.Popen(["flock", str(top / "lock"), "sleep", "60"]) as other:
        try:
            while not standing().busy:
                time.sleep(0.1)
            assert standing().busy == "ada on laptop, since 2026-11-28 03:00:50 UTC (`ojai rollout fleet.py`)"
            assert keep() == 1 and standing().record is None
        finally:
            other.kill()


@pytest.mark.skipif(not shutil.which("dpkg-query"), reason="asks dpkg")
def test_packages_are_asked_of_dpkg(top):
    assert list(standing().packages) == ["dpkg"]
