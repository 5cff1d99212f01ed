"""An archive that stands for Docker's own: Debian's engine and client in one package of Docker's name, signed."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ojai.lab import archive, upstreams, vm
from ojai.lab.shell import run
from tests.lab.machine import ROOT, Lab

INVENTORY = "tests/lab/inventories/own_docker.py"

#: Where apt has kept them on the guest.
_DEBS = ("docker.io", "docker-cli")


def _package(lab: Lab, work: Path, pool: Path) -> None:
    """``docker-ce``, made of the packages that the guest has in its cache."""
    pool.mkdir(parents=True)
    root = work / "root"
    for name in _DEBS:
        run(
            ["scp", "-q", "-F", lab.folder / "ssh_config", f"lab:/var/cache/apt/archives/{name}_*.deb", work],
            what=f"fetching {name} from the guest",
        )
    engine, client = (next(work.glob(f"{name}_*.deb")) for name in _DEBS)
    run(["dpkg-deb", "-R", engine, root], what="unpacking the engine")
    run(["dpkg-deb", "-x", client, root], what="unpacking the client")
    control = root / "DEBIAN" / "control"
    fields = re.split(r"\n(?=\S)", control.read_text().strip())
    other = re.compile("(Package|Source|Recommends|Suggests|Breaks|Replaces|Conflicts|Provides):")
    kept = [text for text in fields if not other.match(text)]
    given = ["Package: docker-ce", f"Conflicts: {', '.join(_DEBS)}", f"Replaces: {', '.join(_DEBS)}"]
    control.write_text("\n".join([*given, *kept]) + "\n")
    version = next(text.split(": ", 1)[1] for text in kept if text.startswith("Version:"))
    deb = pool / f"docker-ce_{version}_amd64.deb"
    run(["dpkg-deb", "-Zgzip", "-z1", "--root-owner-group", "-b", root, deb], what="building docker-ce")


def build(lab: Lab, top: Path) -> None:
    """The archive in the new folder ``top``: suite noble, component stable, as Docker's, and its key as ``gpg``."""
    work = top / "work"
    work.mkdir(parents=True)
    _package(lab, work, top / "pool" / "stable")
    binary = top / "dists" / "noble" / "stable" / "binary-amd64"
    binary.mkdir(parents=True)
    index = run(["apt-ftparchive", "packages", "pool/stable"], what="indexing", cwd=top)
    (binary / "Packages").write_text(index)
    (binary / "Packages.gz").write_bytes(gzip.compress(index.encode(), mtime=0))
    words = {"Origin": "Docker", "Suite": "noble", "Codename": "noble", "Architectures": "amd64"}
    options = [f"-oAPT::FTPArchive::Release::{key}={value}" for key, value in {**words, "Components": "stable"}.items()]
    dist = top / "dists" / "noble"
    (dist / "Release").write_text(run(["apt-ftparchive", *options, "release", "."], what="writing Release", cwd=dist))
    gnupg = work / "gnupg"
    fingerprint = archive.make_key(gnupg)
    sign: list[str | Path] = ["gpg", "--batch", "--yes", "--homedir", gnupg]
    try:
        run([*sign, "--clearsign", "-o", dist / "InRelease", dist / "Release"], what="signing")
        (top / "gpg").write_text(run([*sign, "--armor", "--export", fingerprint], what="exporting the key"))
    finally:
        run(["gpgconf", "--homedir", gnupg, "--kill", "all"], what="stopping gpg-agent")
    shutil.rmtree(work)
    # Last: an archive with its description is whole. The guest's source has the port, so it stays the same.
    about = {"fingerprint": fingerprint, "port": vm.free_port()}
    (top / "about.json").write_text(json.dumps(about))


@contextmanager
def served(lab: Lab) -> Iterator[dict[str, str]]:
    """The archive, served on loopback while the context lasts; yields the environment that :data:`INVENTORY` wants."""
    top = lab.folder / "own-docker"
    if not (top / "about.json").exists():
        shutil.rmtree(top, ignore_errors=True)
        build(lab, top)
    about = json.loads((top / "about.json").read_text())
    log = lab.folder / "logs" / "own-docker.log"
    process = upstreams.launch([sys.executable, ROOT / "lab" / "serve.py", top, str(about["port"])], log)
    try:
        upstreams.wait_for("archive of docker-ce", process, f"http://127.0.0.1:{about['port']}/gpg", log)
        data = {
            "docker_source": "docker",
            "docker_mirror": f"http://10.0.2.2:{about['port']}",
            "docker_key_fingerprint": about["fingerprint"],
            "docker_packages": ["docker-ce"],
        }
        yield {"OJAI_OWN_DOCKER": json.dumps(data)}
    finally:
        process.stop()
