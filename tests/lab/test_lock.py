"""Two hosts from one lock, the second after everything outside has moved on: the same, file by file, but for a few.

Containers of the lab, one after the other under one name. Packages of ROCm, image and branch move; Docker's packages
are the suite's own and stay as they are.
"""

from __future__ import annotations

import base64
import json
import os
import re
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ojai.lab import archive, serve, state, upstreams, vm
from ojai.lab.shell import run
from ojai.settings import lock as locks
from tests.lab.contained import KERNEL, Serving, serving
from tests.lab.cutting import must, using
from tests.lab.machine import ROOT, Deploy
from tests.lab.manifest import EXPLAINED, Explanation, differences, take
from tests.operation_names import NAMES

IMAGE, MODEL = "vllm/vllm-openai-rocm:v0.20.1", "google/gemma-4-E4B-it"
NEWER = "70200-44~24.04"

#: Beside what removal leaves: what is made on each host by itself.
OF_EACH_HOST = (
    *EXPLAINED,
    Explanation(r"/etc/ssh/ssh_host_.*", "the host's own keys", "made at its first boot"),
    Explanation(
        r"/var/lib/(docker|containerd)(/.*)?|/etc/docker/key\.json",
        "Docker's own state",
        "names of layers and containers are drawn by lot; the images are compared by their digests",
    ),
    Explanation(r"/var/lib/ojai/releases/(healthy|previous)/release\.json", "the saved release", "it has the time"),
    Explanation(r"/var/lib/apt/lists/.*", "package lists", "the archives have moved on: what is installed is compared"),
    Explanation(r"/etc/ld\.so\.cache|/var/cache/.*", "caches", "made anew on each host"),
    Explanation(
        r"/etc/ojai/gateway/((ca|server)\.(key|crt)|keys/[^/]+\.(key|map))",
        "the gateway's keys and certificates",
        "drawn by lot on the host: a secret that two hosts share is none",
    ),
    Explanation(r"/var/lib/ojai/weights/line", "what the host's line gave", "a rate that was measured, and its time"),
)


@dataclass(frozen=True)
class Archive:
    """A stand-in for AMD's archive that can move on: an address of its own, and the key that signs it."""

    top: Path
    port: int
    fingerprint: str
    gnupg: Path

    def move_on(self) -> None:
        """Every package of ROCm in a newer version, beside the one that was there."""
        repository = self.top / archive.ROCM_SUITE
        for package in archive.ROCM_PACKAGES:
            version = package.version.replace(archive.BUILD, NEWER)
            archive.build_package(
                replace(package, version=version), repository / "pool" / "main", self.gnupg.parent / "newer"
            )
        archive.publish(repository, archive.ORIGIN, "main", self.gnupg)


@pytest.fixture(scope="module")
def amd(tmp_path_factory) -> Iterator[Archive]:
    top, work = tmp_path_factory.mktemp("archive"), tmp_path_factory.mktemp("work")
    gnupg = work / "gnupg"
    fingerprint = archive.make_key(gnupg)
    archive.build_suite(top, archive.ROCM_SUITE, archive.ROCM_PACKAGES, gnupg, work / "first")
    archive.build_suite(top, archive.GRAPHICS_SUITE, archive.GRAPHICS_PACKAGES, gnupg, work / "graphics")
    key = run(["gpg", "--batch", "--homedir", gnupg, "--armor", "--export", fingerprint], what="exporting the key")
    (top / archive.KEY_PATH).write_text(key)
    port = vm.free_port()
    process = upstreams.launch([sys.executable, Path(serve.__file__), top, str(port)], work / "log")
    upstreams.wait_for("archive", process, f"http://127.0.0.1:{port}/{archive.KEY_PATH}", work / "log")
    yield Archive(top, port, fingerprint, gnupg)
    process.stop()
    run(["gpgconf", "--homedir", gnupg, "--kill", "all"], what="stopping gpg-agent")


@pytest.fixture(scope="module")
def host(amd, tmp_path_factory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("inventory")
    inventory = folder / "fleet.py"
    inventory.write_text(
        f"import runpy\nlab = runpy.run_path({str(ROOT / 'tests/lab/inventories/contained.py')!r})['lab']\n"
    )
    found = serving(ROOT / ".lab-lock", "overlay2")
    mirror = {"rocm_mirror": f"http://10.0.2.2:{amd.port}", "rocm_key_fingerprint": amd.fingerprint}
    found = replace(found, lab=replace(found.lab, inventory=str(inventory))).with_data(**mirror)
    found.renew()
    yield found
    found.stop()


def another(host: Serving) -> None:
    """A fresh host in the same surroundings: addresses, registry and hub stay as they are."""
    host.lab.ojai("lab", "ssh", "lab", "--", "sudo sh -c 'docker kill $(docker ps -q) >/dev/null 2>&1'")
    must(host.lab.ojai("lab", "down", "lab", "--destroy"))
    must(host.lab.ojai("lab", "container", "lab"))
    host.guest.root(KERNEL)


def outside(host: Serving) -> state.Upstreams:
    with using(host.lab):
        found = state.view(state.read())
    assert found
    return found.upstreams


def retag(host: Serving, tag: str) -> None:
    """Have the image's tag name what another tag of the registry names."""
    place = f"docker://{outside(host).registry_local}/{IMAGE}"
    run(
        ["skopeo", "--insecure-policy", "copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false",
         "--preserve-digests", f"{place.rpartition(':')[0]}:{tag}", place],
        what="moving the tag", env={**os.environ, "no_proxy": "*", "NO_PROXY": "*"},
    )  # fmt: skip


def move_on(host: Serving, amd: Archive) -> None:
    """Newer packages, another image under the tag, a branch that has moved."""
    amd.move_on()
    retag(host, "v0.20.1-next")
    where = outside(host)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{where.hub_local}/lab/commit", json.dumps(MODEL).encode()) as answer:
        assert answer.status == 200


def ends_well(done: Deploy) -> None:
    assert done.status == 0 and "Traceback" not in done.output, done.output[-6000:]


def digests(host: Serving) -> list[str]:
    shown = host.guest.root("docker image ls --digests --no-trunc --format '{{.Repository}} {{.Digest}} {{.ID}}'")
    return sorted(line for line in shown.splitlines() if "<none>" not in line.split()[1])


def installed(host: Serving) -> str:
    """Every package with its version: the files of dpkg and apt that say it are among those that may differ."""
    return host.guest.root("dpkg-query -W")


@pytest.mark.whole
def test_two_hosts_from_one_lock_are_equal_though_everything_has_moved_on(host, amd, tmp_path):
    ends_well(host.deploy())
    made = host.lab.ojai("lock", host.lab.inventory)
    assert made.returncode == 0, made.stderr
    file = Path(host.lab.inventory).with_suffix(".lock")
    text = file.read_text()
    lock = locks.read(file)
    assert lock and lock.packages["rocm 7.2"].versions["rocminfo"] == f"1.0.0.{archive.BUILD}"
    assert {"docker.io", "containerd", "runc"} <= lock.packages["docker"].versions.keys(), text
    assert re.fullmatch("[0-9a-f]{40}", lock.models[f"{MODEL}@main"].commit)

    another(host)
    ends_well(done := host.deploy())
    assert NAMES["versions-pins"] in done.changed
    found = host.verify()
    assert found.ok, (found.error, found.failed)
    # A lock asks nothing more of a host that is as it should be: two commands, as without one.
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    ends_well(host.lab.deploy(env=cache))
    commands, again = host.guest.counted(lambda: host.lab.deploy(env=cache))
    ends_well(again)
    assert again.changed == [] and commands <= 2, (again.changed, commands)
    first, first_images, first_packages = take(host.guest), digests(host), installed(host)

    another(host)
    move_on(host, amd)
    ends_well(done := host.deploy())
    assert "lock: newer in the archives" in done.output and f"rocminfo 1.0.0.{NEWER}" in done.output
    for place, name in (("registry", IMAGE), ("hub", f"{MODEL}@main")):
        assert f"lock: newer at the {place}: {name} " in done.output, done.output[:6000]
    found = host.verify()
    assert found.ok, (found.error, found.failed)
    second = take(host.guest)
    left = [
        one for one in differences(first, second) if not any(re.fullmatch(e.pattern, one.path) for e in OF_EACH_HOST)
    ]
    assert left == [], [(one, first.get(one.path), second.get(one.path)) for one in left][:20]
    assert (digests(host), installed(host)) == (first_images, first_packages)
    assert host.lab.ojai("lock", host.lab.inventory).returncode == 0 and file.read_text() == text


def served(host: Serving) -> str:
    """What serves: the container's image, and the unit, which names image and commit."""
    return host.guest.root(
        "docker inspect --format '{{.Image}} {{.State.Running}}' vllm-gemma4; "
        "cat /etc/systemd/system/vllm-gemma4.service"
    )


@pytest.mark.whole
def test_an_upgrade_that_fails_goes_back_and_says_how_packages_would(host):
    """After the test above; the newer image does not start."""
    file = Path(host.lab.inventory).with_suffix(".lock")
    text, before, packages = file.read_text(), served(host), installed(host)
    retag(host, "broken")
    assert host.lab.ojai("lock", "--upgrade", host.lab.inventory).returncode == 0
    failed = host.deploy()
    assert failed.status == 1 and "was rolled back" in failed.output, failed.output[-4000:]
    assert served(host) == before and " true" in before
    assert f"rocminfo\t1.0.0.{NEWER}" in installed(host)
    (command,) = re.findall(r"by: (sudo apt-get install --allow-downgrades(?: [^ =]+=\S+)+)", failed.output)
    host.guest.root(f"yes | {command}")
    assert installed(host) == packages
    file.write_text(text)
    retag(host, "v0.20.1-next")
    ends_well(host.deploy())
    found = host.verify()
    assert found.ok, (found.error, found.failed)
    # What was not to be: `verify` says it by name, and the deploy puts it right.
    host.guest.root(f"apt-get -q -y install rocminfo=1.0.0.{NEWER} rocm-core=7.2.0.{NEWER}")
    found = host.verify()
    assert not found.ok and f"rocminfo 1.0.0.{NEWER}, 1.0.0.{archive.BUILD} expected" in str(found.failed), found
    ends_well(host.deploy())
    assert installed(host) == packages
    # What the failed upgrade brought is nobody's now.
    image, model = unused(host)
    assert (image["kind"], model["kind"]) == ("image", "model") and model["what"].startswith(f"{MODEL} at ")
    prune(host)
    assert served(host) == before


def unused(host: Serving) -> list[dict[str, str]]:
    listed = json.loads(host.lab.ojai("prune", host.lab.inventory, "--json").stdout)["hosts"][0]
    assert listed["ok"]
    return sorted(listed["unused"], key=lambda one: one["kind"])


def prune(host: Serving) -> None:
    """Remove what is unused, and see that it is gone, and that all is well."""
    pruned = host.lab.ojai("prune", host.lab.inventory, "--yes")
    assert pruned.returncode == 0, pruned.stderr
    found = host.verify()
    assert found.ok, (found.error, found.failed)
    assert unused(host) == []


#: The owner's own model, in the same cache.
OWNERS = """
hub=/srv/ojai/huggingface/hub
mkdir -p $hub/models--owner--own/snapshots/{commit} $hub/models--owner--own/refs
echo {{}} > $hub/models--owner--own/snapshots/{commit}/config.json
printf {commit} > $hub/models--owner--own/refs/main
"""


@pytest.mark.whole
def test_upgrade_moves_the_host_and_what_is_left_over_is_pruned(host):
    """After the test above: everything outside has moved on."""
    moved = host.lab.ojai("lock", "--upgrade", host.lab.inventory)
    assert moved.returncode == 0, moved.stderr
    for words in (f"1.0.0.{archive.BUILD}", f"1.0.0.{NEWER}", IMAGE, f"{MODEL}@main"):
        assert words in moved.stdout.replace("\n", ""), moved.stdout
    ends_well(host.deploy())
    found = host.verify()
    assert found.ok, (found.error, found.failed)
    # The release of before is still there to roll back to, so nothing is unused.
    assert unused(host) == []
    host.guest.root(OWNERS.format(commit="7" * 40))
    host.guest.root("rm -rf /var/lib/ojai/releases/previous; docker image rm ojai-release:vllm-gemma4-previous")
    image, model = unused(host)
    assert (image["kind"], model["kind"]) == ("image", "model")
    assert model["what"].startswith(f"{MODEL} at ")
    # What the owner gave a name, or reads, is nobody else's.
    host.guest.root(f"docker tag {image['what']} owner/own:1")
    assert [one["kind"] for one in unused(host)] == ["model"]
    mine = f"/srv/ojai/huggingface/hub/models--{MODEL.replace('/', '--')}"
    host.guest.root(f"docker create --name owners -v {mine}:/models owner/own:1")
    assert unused(host) == []
    host.guest.root("docker rm owners; docker image rm owner/own:1")
    assert unused(host) == [image, model]
    before = digests(host)
    prune(host)
    assert len(digests(host)) < len(before)
    assert host.guest.root(f"cat /srv/ojai/huggingface/hub/models--owner--own/snapshots/{'7' * 40}/config.json") == "{}"


#: When the stand-in for Ubuntu's archive still had what a lock says.
TAKEN = "20261101T000000Z"
SNAPSHOTS = "snapshot"


@dataclass(frozen=True)
class Moved:
    """A stand-in for Ubuntu's archive that has moved on from a version of runc, with a snapshot of before."""

    archive: Archive
    before: str
    now: str

    @property
    def log(self) -> str:
        return (self.archive.gnupg.parent / "log").read_text()


def repacked(deb: Path, version: str, pool: Path, work: Path) -> None:
    """The same package by another version."""
    pool.mkdir(parents=True)
    run(["dpkg-deb", "-R", deb, work], what="unpacking runc")
    control = work / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^Version: .*$", f"Version: {version}", control.read_text()))
    run(["dpkg-deb", "--root-owner-group", "-Znone", "-b", work, pool], what="packing runc")


def ubuntu(amd: Archive, deb: Path, found: str, work: Path) -> Moved:
    """Beside AMD's, signed with the same key. Its snapshot is made, and put away."""
    moved = Moved(amd, f"{found}+lab1", f"{found}+lab2")
    for where, version in (("ubuntu", moved.now), (f"away/{TAKEN}", moved.before)):
        repository = amd.top / where
        repacked(deb, version, repository / "pool/main", work / version)
        archive.publish(
            repository, "Ubuntu", "main", amd.gnupg, f"http://10.0.2.2:{amd.port}/{SNAPSHOTS}/@SNAPSHOTID@/"
        )
    return moved


#: The host has that archive; and Debian's, which stands for the rest of Ubuntu's, has no snapshots here.
ADDED = """
install -d /etc/apt/keyrings
base64 -d > /etc/apt/keyrings/lab-ubuntu.asc <<'end'
{key}
end
cat > /etc/apt/sources.list.d/lab-ubuntu.sources <<'end'
Types: deb
URIs: http://10.0.2.2:{port}/ubuntu
Suites: noble
Components: main
Architectures: amd64
Signed-By: /etc/apt/keyrings/lab-ubuntu.asc
end
cat > /etc/apt/apt.conf.d/99lab <<'end'
Acquire::Snapshots::URI {{ Origin::Debian "no"; Override::Label::Debian-Security "no"; }};
end
apt-get -q update
"""


@pytest.mark.whole
def test_what_has_left_the_archive_comes_from_its_snapshot_or_is_told(host, amd, tmp_path):
    """After the tests above. Ubuntu's archive keeps the newest of a package, and snapshots of what it had."""
    another(host)
    packed = host.guest.root("base64 -w 0 /var/cache/apt/archives/runc_*.deb")
    deb = tmp_path / "runc.deb"
    deb.write_bytes(base64.b64decode(packed))
    version = run(["dpkg-deb", "-f", deb, "Version"], what="reading runc's version").strip()
    moved = ubuntu(amd, deb, version, tmp_path)
    key = base64.b64encode((amd.top / archive.KEY_PATH).read_bytes()).decode()
    host.guest.root(ADDED.format(key=key, port=amd.port))
    file = Path(host.lab.inventory).with_suffix(".lock")
    text, lock = file.read_text(), locks.read(file)
    assert lock and lock.packages["docker"].versions["runc"] == version
    file.write_text(
        text.replace(f"runc: {version}", f"runc: {moved.before}").replace(lock.packages["docker"].taken, TAKEN)
    )

    # No snapshot yet: refused while looking, by the names of package and archives, and why.
    refused, here = host.deploy(), f"http://10.0.2.2:{amd.port}"
    assert refused.status == 1 and refused.changed == []
    for words in (
        "locked package: found runc ",
        moved.now,
        f"{here}/ubuntu",
        f"expected runc {moved.before}",
        f"no snapshot of {TAKEN} that has the locked one (The repository '{here}/{SNAPSHOTS}/{TAKEN} noble Release'",
        "`ojai lock --upgrade INVENTORY runc`",
    ):
        assert words in refused.output, (words, refused.output[-3000:])

    (amd.top / "away").rename(amd.top / SNAPSHOTS)
    ends_well(host.deploy())
    assert f"runc\t{moved.before}" in installed(host)
    assert f"/{SNAPSHOTS}/{TAKEN}/pool/main/runc_" in moved.log
    # The host's own lists stay as they were: the snapshot was read beside them.
    assert "snapshot" not in host.guest.root("ls /var/lib/apt/lists")
    found = host.verify()
    assert found.ok, (found.error, found.failed)
    asked = moved.log
    ends_well(done := host.deploy())
    assert done.changed == [] and moved.log.removeprefix(asked).count(SNAPSHOTS) == 0
    file.write_text(text)
