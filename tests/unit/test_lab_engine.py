"""The lab's hosts with a newer Docker: whose packages, from where; and a host keeps the engine it was made with."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from ojai.lab import cli, image
from ojai.lab.errors import LabError
from ojai.lab.state import ContainerRecord

SOURCES = {
    "deb http://mirror.example/debian trixie main\ndeb http://mirror.example/debian trixie-updates main\n": (
        "deb [check-valid-until=no] http://mirror.example/debian forky main"
    ),
    "deb [signed-by=/k.gpg arch=amd64] http://mirror.example/debian trixie main contrib\n": (
        "deb [signed-by=/k.gpg arch=amd64 check-valid-until=no] http://mirror.example/debian forky main"
    ),
}


def built(root: Path, sources: str) -> subprocess.CompletedProcess[str]:
    """What the image build does to ``root`` for the engine."""
    (root / "etc/apt/sources.list.d").mkdir(parents=True)
    (root / "etc/apt/preferences.d").mkdir()
    (root / "etc/apt/sources.list").write_text(sources)
    (root / "etc/apt/sources.list").rename(root / "etc/apt/guest.list")
    settings = {**image.engine_settings("containerd"), "ROOT": str(root), "GUEST": str(image.GUEST)}
    words = {"LAB_PRESEED_PACKAGES": "x", "PATH": os.environ["PATH"], **settings}
    script = f". {image.GUEST}/common.sh; engine"
    return subprocess.run(["sh", "-eu", "-c", script], env=words, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("sources", "line"), SOURCES.items())
def test_the_newer_suite_is_on_the_guest_s_own_mirror(tmp_path, sources, line):
    done = built(tmp_path, sources)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "etc/apt/sources.list.d/ojai-lab-engine.list").read_text() == f"{line}\n"


def test_nothing_but_the_engine_is_taken_from_it(tmp_path):
    assert built(tmp_path, next(iter(SOURCES))).returncode == 0
    pins = (tmp_path / "etc/apt/preferences.d/ojai-lab-engine").read_text().split("\n\n")
    assert "Package: *\n" in pins[0] and "Pin-Priority: 100" in pins[0]
    assert "docker.io" in pins[1] and "Pin-Priority: 600" in pins[1] and "libc6" not in pins[1]
    daemon = json.loads((tmp_path / "etc/docker/daemon.json").read_text())
    assert daemon == {"features": {"containerd-snapshotter": True}}


def test_a_guest_without_a_source_of_its_suite_is_no_guest(tmp_path):
    done = built(tmp_path, "deb http://mirror.example/debian bookworm main\n")
    assert done.returncode == 1 and "no source of trixie to go by" in done.stdout


def test_the_usual_guest_is_as_it_was():
    assert image.engine_settings("overlay2")["LAB_ENGINE_SUITE"] == ""


def test_a_host_keeps_the_engine_that_it_was_made_with():
    guest = ContainerRecord(name="one", port=1, engine="containerd")
    cli._engine(guest, None)
    cli._engine(guest, "containerd")
    with pytest.raises(LabError, match=r"one was made with the engine containerd.*down one --destroy"):
        cli._engine(guest, "overlay2")
