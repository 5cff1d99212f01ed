"""One round trip for what a run reads, counted by a real sshd; and the same results as without, whatever happens."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import sshd

ROOT = Path(__file__).resolve().parents[2]

pytestmark = sshd.needed

DEPLOY = """
from pyinfra import host
from pyinfra.facts.server import Command
from pyinfra.operations import files, server
from ojai.connection import configure_connection
from ojai.operations import files as own

configure_connection(host)
place = host.data._place
for number in range(12):
    own.text_file(
        name=f"Write {number}", path=f"{place}/file {number}", text=f"text {number}\\n", user=host.data._uid,
        group=host.data._uid,
    )
changed = own.text_file(
    name="Write last", path=f"{place}/last", text="last\\n", user=host.data._uid, group=host.data._uid
)
server.shell(name="Restart", commands=[f"echo restarted >>{place}/log"], _if=changed.did_change)
own.folders(name="Folders", paths=[f"{place}/a b"], user=host.data._uid, group=host.data._uid, mode="750")
"""


class Box:
    """A host, the user's repository, and what sshd counted."""

    def __init__(self, folder: Path) -> None:
        (folder / "sshd").mkdir()
        self.sshd = sshd.Sshd(folder / "sshd")
        self.folder, self.place = folder / "repository", folder / "place"
        self.folder.mkdir()
        self.place.mkdir()
        (self.folder / "config.py").write_text(
            (ROOT / "examples/repository/config.py").read_text().replace("= True", "= False")
        )
        (self.folder / "deploy.py").write_text(DEPLOY)
        self.environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
        self.counted = 0

    def run(self, *words: str, **data: object) -> dict[str, str]:
        """Operation -> what became of it."""
        found = {**self.sshd.data, "_place": str(self.place), "_uid": self.sshd.data["ssh_user"], **data}
        (self.folder / "hosts.py").write_text(f"hosts = [('mini', {found!r})]\n")
        done = subprocess.run(
            [sys.executable, "-m", "pyinfra", "--json", *words, "hosts.py", "deploy.py"], cwd=self.folder,
            env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        log = self.sshd.log.read_text()
        sessions = len(re.findall("Starting session: command", log))
        self.counted, self.before = sessions - getattr(self, "before", 0), sessions
        told = json.loads(done.stdout)
        operations = told["results"]["operations"] if told["results"] else told["plan"]
        return {
            entry["name"]: next((word for word in ("success", "error", "no_change") if entry.get(word)), "plan")
            for entry in operations
        }

    def lists(self) -> list[Path]:
        return list(Path(self.environment["XDG_CACHE_HOME"]).glob("ojai/reads/*"))


@pytest.fixture
def box(tmp_path):
    found = Box(tmp_path)
    yield found
    found.sshd.stop()


def test_a_converged_run_is_one_command(box):
    assert set(box.run("-y").values()) == {"success"}
    first = box.counted
    counted = []
    for _ in range(3):
        assert "success" not in box.run("-y").values()
        counted.append(box.counted)
    assert (first > 20, counted) == (True, [1, 1, 1])
