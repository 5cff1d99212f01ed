"""A host that e5f0d01 provisioned, the last ojai whose ledger has no version: converged, verified, removed by this one.

A container, so only the roles that it can hold. What e5f0d01 leaves on a whole host is kept as data (see
tests/roles/test_earlier_host.py).
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ojai.lab import state
from tests.lab import manifest
from tests.lab.machine import CHECKS, ROOT, TIMEOUT, Deploy, Guest, Lab
from tests.operation_names import NAMES

LAB = Lab(ROOT / ".lab-earlier")
EARLIER = "e5f0d01"
INVENTORY, DEPLOY = "molecule/default/inventory.py", "molecule/default/deploy.py"

#: molecule/default/inventory.py as e5f0d01 has it, with the lab's answers written out: how a lab keeps its state is
#: another matter.
EARLIER_INVENTORY = """
molecule = [
    (
        "lab",
        {{
            "ssh_hostname": {guest.address!r},
            "ssh_port": {guest.port},
            "ssh_user": {guest.user!r},
            "ssh_key": {key!r},
            "ssh_known_hosts_file": {known_hosts!r},
            "ssh_strict_host_key_checking": "yes",
            "gpu_users": [{guest.user!r}],
            "rocm_mirror": {upstreams.rocm_url!r},
            "rocm_key_fingerprint": {upstreams.rocm_fingerprint!r},
            "docker_registry_mirrors": [{upstreams.registry_mirror!r}],
            "docker_packages": ["docker.io", "docker-cli"],
            "services": [],
        }},
    )
]
"""

#: What a container can hold of deploy.py's removal.
REMOVAL = """
from pyinfra import host

from ojai.connection import configure_connection
from ojai.roles import caches, docker, groups, ledger, network, power, preflight, rocm, surface, versions, watch
from ojai.settings.inventory import settings_of

configure_connection(host)
settings = settings_of(host)
if preflight.can_read_ledger():
    surface.remove(settings=settings)
    watch.remove(settings=settings)
    caches.remove(settings=settings)
    docker.remove(settings=settings)
    rocm.remove(settings=settings)
    groups.remove(settings=settings)
    versions.remove(settings=settings)
    power.remove(settings=settings)
    network.remove(settings=settings)
    ledger.remove()
"""


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's tree as e5f0d01 has it."""
    packed = subprocess.run(["git", "archive", EARLIER], cwd=ROOT, capture_output=True, check=False)
    if packed.returncode != 0:
        pytest.skip(f"{EARLIER} is not in the history of this clone: {packed.stderr.decode().strip()}")
    tree = tmp_path_factory.mktemp(EARLIER)
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(tree, filter="data")
    return tree


@pytest.fixture(scope="module")
def guest(earlier: Path) -> Iterator[Guest]:
    """A container that nobody has deployed to."""
    LAB.ojai("lab", "down", "--destroy")
    up = LAB.ojai("lab", "container", "lab")
    assert up.returncode == 0, up.stderr
    yield Guest(LAB)
    down = LAB.ojai("lab", "down", "--destroy")
    assert down.returncode == 0, down.stderr


def deploy(*words: str, cwd: Path = ROOT) -> Deploy:
    """pyinfra with these words, and with the code that is in ``cwd``."""
    argv = [sys.executable, "-m", "pyinfra", "-y", "--json", *words]
    done = subprocess.run(
        argv, cwd=cwd, env=LAB.environment(), capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    return Deploy.of(done.returncode, done.stdout, done.stderr)


def test_a_host_of_an_earlier_ojai_is_converged_verified_and_removed(earlier, guest, tmp_path, monkeypatch):
    monkeypatch.setenv("OJAI_LAB_DIR", str(LAB.folder))
    lab = state.view(state.read())
    assert lab
    container = lab.containers[0]
    text = EARLIER_INVENTORY.format(
        guest=container, upstreams=lab.upstreams, key=str(container.key), known_hosts=str(container.known_hosts)
    )
    (tmp_path / "hosts.py").write_text(text)
    untouched = manifest.take(guest)
    first = deploy(str(tmp_path / "hosts.py"), DEPLOY, cwd=earlier)
    assert first.status == 0, first.output[-3000:]
    assert "ROCm | Install the ROCm packages" in first.changed and "Docker | Install Docker Engine" in first.changed
    assert guest.root("ls /var/lib/ojai/added") and guest.run("test -e /var/lib/ojai/schema").returncode != 0

    converged = deploy(INVENTORY, DEPLOY)
    # Since then, log settings are on our own `docker run`, and no longer the daemon's.
    changed = [NAMES["ledger-version"], NAMES["versions-drop-in"], NAMES["power"], NAMES["docker-config"]]
    changed += [NAMES[f"surface-{key}"] for key in ("aide", "program", "order", "record")]
    assert (converged.status, converged.changed) == (0, changed), converged.output
    again = deploy(INVENTORY, DEPLOY)
    assert (again.status, again.changed) == (0, []), again.output

    argv = [sys.executable, "-m", "pytest", str(CHECKS), "--rootdir", str(ROOT), "-q", "-p", "no:cacheprovider"]
    checked = LAB.run(*argv, f"--inventory={INVENTORY}", f"--deploy={DEPLOY}", "-m", "not silicon")
    assert checked.returncode == 0 and " passed" in checked.stdout, checked.stdout

    (tmp_path / "removal.py").write_text(REMOVAL)
    removal = ("--data", "removed=true", "--data", "removed_data=true", INVENTORY, str(tmp_path / "removal.py"))
    guest.root("echo 3 > /var/lib/ojai/schema")
    before = guest.fingerprint()
    refused = deploy(*removal)
    assert (refused.status, refused.changed) == (1, []), refused.output
    assert "format 3 in /var/lib/ojai" in refused.output and "use a newer ojai" in refused.output
    assert guest.fingerprint() == before
    guest.root("echo 2 > /var/lib/ojai/schema")

    removed = deploy(*removal)
    assert removed.status == 0, removed.output[-3000:]
    left = manifest.unexplained(manifest.differences(untouched, manifest.take(guest)))
    assert left == [], "\n".join(f"{one.what}: {one.path}" for one in left)
