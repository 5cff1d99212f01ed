"""A root of its own for the machine's apt and dpkg: real archives and packages; nothing of the machine's is touched."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from real_host import RealHost
from test_facts_for_real import rooted

NEEDED = ("apt-get", "apt-ftparchive", "dpkg-deb")
pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or not all(map(shutil.which, NEEDED)), reason="installs packages with apt, as root, in a folder"
)


class AptRoot(RealHost):
    """A host whose packages, sources and ledger are in ``root``. Its own apt and dpkg do what they are told."""

    def __init__(self, root: Path, archives: Path) -> None:
        self.root, self.archives = root, archives
        for folder in ("etc/apt/sources.list.d", "etc/apt/preferences.d", "var/lib/apt/lists/partial", "tmp", "run"):
            (root / folder).mkdir(parents=True)
        for folder in ("var/lib/dpkg/updates", "var/lib/dpkg/info", "var/cache/apt/archives/partial", "var/log/apt"):
            (root / folder).mkdir(parents=True)
        (root / "var/lib/dpkg/status").write_text("")
        (root / "var/lib/dpkg/available").write_text("")
        config = root / "apt.conf"
        config.write_text(
            f'Dir "{root}";\nDir::State::status "{root}/var/lib/dpkg/status";\n'
            'Dir::Bin::Methods "/usr/lib/apt/methods/";\n'
            f'DPkg::Options {{ "--root={root}"; "--log=/dev/null"; }};\nAPT::Architecture "amd64";\n'
            f'APT::Architectures {{ "amd64"; }};\nAPT::Sandbox::User "root";\nAcquire::Retries "0";\n'
            'Dir::Etc::parts "/dev/null";\n'
            "#clear DPkg::Pre-Install-Pkgs;\n#clear DPkg::Post-Invoke;\n#clear APT::Update::Post-Invoke;\n"
            "#clear APT::Update::Post-Invoke-Success;\n#clear DPkg::Pre-Invoke;\n"
        )
        super().__init__(
            {
                "APT_CONFIG": str(config),
                "DPKG_ADMINDIR": str(root / "var/lib/dpkg"),
                "DPKG_ROOT": str(root),
                "LC_ALL": "C",
            }
        )

    def sh(self, command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        self.ran = [*getattr(self, "ran", []), command]
        return super().sh(rooted(command, self.root, "/var/lib/", "/etc/apt/", "/opt/", "/run/"), stdin)

    def ok(self, command: str) -> str:
        done = self.sh(command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def deb(self, folder: Path, name: str, version: str, **control: str) -> Path:
        """Build a package with one file that has its version in it. ``postinst`` is a script, the rest are fields."""
        work = self.root / "tmp" / f"{name}_{version}".replace("~", "-").replace(":", "-")
        (work / "DEBIAN").mkdir(parents=True, exist_ok=True)
        (work / f"opt/of/{name}").mkdir(parents=True, exist_ok=True)
        (work / f"opt/of/{name}/version").write_text(f"{version}\n")
        postinst = control.pop("postinst", "")
        if postinst:
            script = work / "DEBIAN/postinst"
            script.write_text(f"#!/bin/sh\n{postinst}\n")
            script.chmod(0o755)
        fields = {"Package": name, "Version": version, "Architecture": "amd64", "Maintainer": "a <a@b.invalid>"}
        fields |= {key.replace("_", "-"): value for key, value in control.items()} | {"Description": "of a test"}
        (work / "DEBIAN/control").write_text("".join(f"{key}: {value}\n" for key, value in fields.items()))
        folder.mkdir(parents=True, exist_ok=True)
        deb = folder / f"{work.name}_amd64.deb"
        subprocess.run(["dpkg-deb", "-Znone", "--root-owner-group", "-b", work, deb], check=True, capture_output=True)
        shutil.rmtree(work)
        return deb

    def archive(self, path: str, origin: str, *, component: str = "main") -> str:
        """Index what is in the archive ``path`` and return its URI."""
        top = self.archives / path
        binary = top / f"dists/noble/{component}/binary-amd64"
        binary.mkdir(parents=True, exist_ok=True)
        (top / "pool").mkdir(exist_ok=True)
        run = {"check": True, "capture_output": True, "text": True}
        index = subprocess.run(["apt-ftparchive", "packages", "pool"], cwd=top, **run).stdout
        (binary / "Packages").write_text(index)
        words = {"Origin": origin, "Suite": "noble", "Codename": "noble", "Components": component}
        options = [f"-oAPT::FTPArchive::Release::{key}={value}" for key, value in words.items()]
        (top / "dists/noble/Release").unlink(missing_ok=True)
        release = subprocess.run(["apt-ftparchive", *options, "release", "."], cwd=top / "dists/noble", **run).stdout
        (top / "dists/noble/Release").write_text(release)
        return f"file:{top}"

    def pool(self, path: str) -> Path:
        return self.archives / path / "pool"

    def source(self, name: str, text: str) -> Path:
        file = self.root / "etc/apt/sources.list.d" / name
        file.write_text(text)
        return file

    def versions(self) -> dict[str, str]:
        """Name -> version of what is fully installed."""
        shown = self.ok("dpkg-query -W -f '${db:Status-Status} ${Package} ${Version}\\n' || true")
        return dict(re.findall(r"^installed (\S+) (\S+)$", shown, re.MULTILINE))

    def noted(self, kind: str) -> list[str]:
        file = self.root / "var/lib/ojai/added" / kind
        return file.read_text().split("\n")[:-1] if file.exists() else []
