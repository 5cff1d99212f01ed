"""`pipx install --include-deps .` gives `ojai` and `pyinfra`, which work together in a repository of one's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.test_installed import copy_sources

PIPX = "pipx==1.18.4"


@pytest.fixture(scope="module")
def commands(tmp_path_factory) -> Path:
    """The folder with the commands that pipx has installed."""
    top = tmp_path_factory.mktemp("pipx")
    subprocess.run([sys.executable, "-m", "venv", top / "venv"], check=True)
    python = top / "venv" / "bin" / "python"
    got = subprocess.run([python, "-m", "pip", "install", "--quiet", PIPX], capture_output=True, text=True, check=False)
    if got.returncode:
        pytest.skip(f"{PIPX} cannot be installed: {got.stderr.strip().splitlines()[-1]}")
    copy_sources(top / "clone")
    places = {f"PIPX_{name}": str(top / name.lower()) for name in ("HOME", "BIN_DIR", "MAN_DIR")}
    install = [python, "-m", "pipx", "install", "--include-deps", top / "clone"]
    done = subprocess.run(install, env={**os.environ, **places}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return top / "bin_dir"


def test_pipx_gives_ojai_and_pyinfra(commands, tmp_path):
    for words in (
        ("ojai", "--version"),
        ("ojai", "init", "mine"),
        ("pyinfra", "--chdir", "mine", "--dry", "inventory/fake.py", "deploy.py"),
        ("ojai", "plan", "mine/inventory/fleet.py"),
    ):
        argv = [commands / words[0], *words[1:]]
        done = subprocess.run(argv, cwd=tmp_path, env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}, check=False)
        assert done.returncode == 0, words
