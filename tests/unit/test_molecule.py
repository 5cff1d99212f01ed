"""Molecule's own run of a scenario names pyinfra's operations: the one that failed, the one that changes every time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]

DEPLOY = """
from pyinfra.operations import files, server

files.file(name="Have a file", path="{folder}/there")
server.shell(name="{name}", commands=["{command}"])
"""


def molecule(folder: Path, name: str, command: str, *sequence: str) -> subprocess.CompletedProcess[str]:
    """A scenario whose guest is this machine, with the playbooks and settings of all scenarios here."""
    scenario = folder / "molecule" / "mine"
    scenario.mkdir(parents=True)
    (folder / "molecule" / "shared").symlink_to(ROOT / "molecule" / "shared")
    (folder / "inventory.py").write_text("hosts = ['@local']\n")
    (folder / "deploy.py").write_text(DEPLOY.format(folder=folder, name=name, command=command))
    environment = {"OJAI_LAB_DIR": str(folder), "OJAI_INVENTORY": "inventory.py", "OJAI_DEPLOY": "deploy.py"}
    written = {"ansible": {"env": environment}, "scenario": {"test_sequence": list(sequence)}}
    (scenario / "molecule.yml").write_text(yaml.safe_dump(written))
    return subprocess.run(
        [
            *(sys.executable, "-m", "molecule", "--base-config", str(ROOT / ".config" / "molecule" / "config.yml")),
            *("test", "--no-command-borders", "--scenario-name", "mine"),
        ],
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "MOLECULE_EPHEMERAL_DIRECTORY": str(folder / "ephemeral"),
            "ANSIBLE_HOME": str(folder / "ansible"),
            "NO_COLOR": "1",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
def test_an_operation_that_fails_is_named_with_what_it_said(tmp_path):
    done = molecule(tmp_path, "Break | on purpose", "echo out of order >&2; exit 3", "converge")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "TASK [Failed: Break | on purpose]" in said
    assert "Break | on purpose (on @local)" in said
    assert "out of order" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_an_operation_that_changes_every_time_is_named_by_the_idempotence_step(tmp_path):
    done = molecule(tmp_path, "Never | the same", "true", "converge", "idempotence")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    reported = said.split("Idempotence test failed because of the following tasks:", 1)[1].splitlines()[:3]
    assert [line for line in reported if line.endswith("=> pyinfra: Never | the same (@local)")]
    # The one that is idempotent changed only the first time.
    assert not [line for line in reported if "Have a file" in line]
