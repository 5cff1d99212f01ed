"""An archive that stands for Docker's own: its packages by their names, made of Debian's, and signed."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ojai.lab import archive, upstreams, vm
from ojai.lab.shell import run
from tests.lab.machine import ROOT, Lab

INVENTORY = "tests/lab/inventories/own_docker.py"


@dataclass(frozen=True)
class _Made:
    """A package of Docker's: Debian's that it is made ``of``, and its relations as Docker has them."""

    name: str
    of: tuple[str, ...]
    depends: str
    excludes: str
    provides: str = ""
    scripts: tuple[tuple[str, str], ...] = ()


#: As Docker's own: it is enabled and started, and its data stay when it is purged.
_ENGINE = (
    ("postinst", "getent group docker >/dev/null || groupadd --system docker; %STARTS% docker.socket docker.service"),
    ("prerm", '[ "$1" = upgrade ] || systemctl stop docker.service docker.socket || true'),
    ("postrm", 'systemctl daemon-reload; [ "$1" != purge ] || deb-systemd-helper purge docker.service docker.socket'),
)
_CONTAINERD = (
    ("postinst", "%STARTS% containerd.service"),
    ("prerm", '[ "$1" = upgrade ] || systemctl stop containerd.service || true'),
    ("postrm", 'systemctl daemon-reload; [ "$1" != purge ] || deb-systemd-helper purge containerd.service'),
)
_STARTS = (
    '[ "$1" != configure ] || { systemctl daemon-reload; deb-systemd-helper enable %UNITS%; systemctl start %UNITS%; }'
)

PACKAGES = (
    _Made(
        "docker-ce",
        ("docker.io", "tini", "tini-static"),
        "containerd.io, docker-ce-cli, iptables, libc6, libsystemd0",
        "docker, docker-engine, docker.io",
        scripts=_ENGINE,
    ),
    _Made("docker-ce-cli", ("docker-cli",), "libc6", "docker, docker-engine, docker.io, docker-cli"),
    _Made("containerd.io", ("containerd", "runc"), "libc6", "containerd, runc", "containerd, runc", _CONTAINERD),
    _Made("docker-buildx-plugin", (), "docker-ce-cli", "docker-buildx"),
    _Made("docker-compose-plugin", (), "docker-ce-cli", "docker-compose-v2"),
)


def _package(made: _Made, debs: Path, work: Path, pool: Path) -> None:
    """One package, of the files of Debian's."""
    root = work / made.name
    control = root / "DEBIAN"
    control.mkdir(parents=True)
    found = [deb for name in made.of for deb in debs.glob(f"{name}_*.deb")]
    for deb in found:
        run(["dpkg-deb", "-x", deb, root], what=f"unpacking {deb.name}")
    engine = next(debs.glob("docker.io_*.deb"))
    version = re.sub(r"[+~-].*", "", engine.name.split("_")[1]) if found else "1.0.0"
    fields = {
        "Package": made.name,
        "Version": f"5:{version}-1~ubuntu.24.04~noble",
        "Architecture": "amd64",
        "Maintainer": "ojai lab <lab@ojai.invalid>",
        "Section": "admin",
        "Priority": "optional",
        "Depends": made.depends,
        "Conflicts": made.excludes,
        "Replaces": made.excludes,
        "Provides": made.provides,
        "Description": "Lab stand-in of ojai: Docker's name and relations, Debian's programs or none",
    }
    (control / "control").write_text("".join(f"{key}: {value}\n" for key, value in fields.items() if value))
    configuration = [f"/{path.relative_to(root)}\n" for path in sorted((root / "etc").rglob("*")) if path.is_file()]
    (control / "conffiles").write_text("".join(configuration))
    for name, text in made.scripts:
        head, mark, units = text.partition("%STARTS% ")
        script = head + _STARTS.replace("%UNITS%", units) if mark else text
        (control / name).write_text(f"#!/bin/sh\nset -e\n{script}\n")
        (control / name).chmod(0o755)
    deb = pool / f"{made.name}_{version}_amd64.deb"
    run(["dpkg-deb", "-Zgzip", "-z1", "--root-owner-group", "-b", root, deb], what=f"building {made.name}")


def fetch(lab: Lab, into: Path) -> None:
    """Copy the packages that those of Docker's are made of from the guest, which has them in its cache."""
    into.mkdir(parents=True, exist_ok=True)
    for name in dict.fromkeys(name for made in PACKAGES for name in made.of if not name.startswith("tini")):
        place = f"lab:/var/cache/apt/archives/{name}_*.deb"
        run(["scp", "-q", "-F", lab.folder / "ssh_config", place, into], what=f"fetching {name} from the guest")


def sign(top: Path) -> str:
    """Sign the archive with a new key, as ``gpg``; returns its fingerprint."""
    # The agent takes its sockets away as it ends, which may be while the folder is removed.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        gnupg = Path(folder) / "gnupg"
        fingerprint = archive.make_key(gnupg)
        try:
            archive.publish(top, "Docker", "stable", gnupg)
            key = ["gpg", "--batch", "--homedir", gnupg, "--armor", "--export", fingerprint]
            (top / "gpg").write_text(run(key, what="exporting the key"))
        finally:
            run(["gpgconf", "--homedir", gnupg, "--kill", "all"], what="stopping gpg-agent")
    return fingerprint


def build(lab: Lab, top: Path) -> None:
    """The archive in the new folder ``top``: suite noble, component stable, as Docker's, and its key as ``gpg``."""
    work, pool = top / "work", top / "pool" / "stable"
    pool.mkdir(parents=True)
    fetch(lab, work / "debs")
    for made in PACKAGES:
        _package(made, work / "debs", work, pool)
    shutil.rmtree(work)
    # Last: an archive with its description is whole. The guest's source has the port, so it stays the same.
    about = {"fingerprint": sign(top), "port": vm.free_port()}
    (top / "about.json").write_text(json.dumps(about))


@contextmanager
def served(lab: Lab) -> Iterator[dict[str, object]]:
    """The archive, served on loopback while the context lasts; yields the settings of a host that uses it."""
    top = lab.folder / "own-docker"
    if not (top / "about.json").exists():
        shutil.rmtree(top, ignore_errors=True)
        build(lab, top)
    about = json.loads((top / "about.json").read_text())
    log = lab.folder / "logs" / "own-docker.log"
    process = upstreams.launch([sys.executable, ROOT / "lab" / "serve.py", top, str(about["port"])], log)
    try:
        upstreams.wait_for("archive of docker-ce", process, f"http://127.0.0.1:{about['port']}/gpg", log)
        yield {
            "docker_source": "docker",
            "docker_mirror": f"http://10.0.2.2:{about['port']}",
            "docker_key_fingerprint": about["fingerprint"],
            "docker_packages": None,
        }
    finally:
        process.stop()
