"""The apt archive that stands for repo.radeon.com: signed, indexed, and its rocminfo reads the topology."""

import hashlib
import os
import subprocess

import pytest

from ojai.lab import archive, packages

TOOLS = ("apt-ftparchive", "dpkg-deb", "gpg", "gpgv")
pytestmark = pytest.mark.skipif(
    any(packages.find(tool) is None for tool in TOOLS), reason=f"needs {', '.join(TOOLS)} (`ojai lab up` installs them)"
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    top = tmp_path_factory.mktemp("archive")
    return top, archive.build(top)


@pytest.fixture(scope="module")
def keyring(built, tmp_path_factory):
    target = tmp_path_factory.mktemp("keyring") / "rocm.gpg"
    key = built[0] / archive.KEY_PATH
    subprocess.run(["gpg", "--batch", "--dearmor", "-o", target, key], check=True, capture_output=True)
    return target


@pytest.mark.parametrize("suite", [archive.ROCM_SUITE, archive.GRAPHICS_SUITE])
def test_release_is_signed_by_the_key_that_is_published(built, keyring, suite):
    top, fingerprint = built
    dist = top / suite / "dists" / "noble"
    for what in ([dist / "InRelease"], [dist / "Release.gpg", dist / "Release"]):
        done = subprocess.run(
            ["gpgv", "--status-fd", "1", "--keyring", keyring, *what], capture_output=True, text=True, check=True
        )
        assert f"VALIDSIG {fingerprint}" in done.stdout


def test_changed_release_is_refused(built, keyring, tmp_path):
    release = built[0] / archive.ROCM_SUITE / "dists" / "noble" / "InRelease"
    forged = tmp_path / "InRelease"
    forged.write_text(release.read_text().replace("Suite: noble", "Suite: jammy"))
    done = subprocess.run(["gpgv", "--keyring", keyring, forged], capture_output=True)
    assert done.returncode != 0


def test_release_has_the_origin_of_the_pin_and_the_hash_of_the_index(built):
    repository = built[0] / archive.ROCM_SUITE
    release = (repository / "dists/noble/Release").read_text()
    index = (repository / "dists/noble/main/binary-amd64/Packages").read_bytes()
    assert "Origin: repo.radeon.com" in release.splitlines()
    assert "Codename: noble" in release.splitlines()
    assert hashlib.sha256(index).hexdigest() in release


def test_every_dependency_is_in_the_archive_or_in_ubuntu(built):
    names = {package.name for package in archive.ROCM_PACKAGES + archive.GRAPHICS_PACKAGES}
    for package in archive.ROCM_PACKAGES + archive.GRAPHICS_PACKAGES:
        for word in filter(None, (part.strip() for part in package.depends.split(","))):
            assert word in names | {"kmod"}, f"{package.name} needs {word}"


def test_private_key_is_not_kept(built):
    top, _ = built
    assert not [item for item in top.rglob("*") if "gnupg" in item.name or "private-keys" in item.name]
    assert "PRIVATE KEY" not in (top / archive.KEY_PATH).read_text()


def test_package_says_what_it_is(built):
    (deb,) = (built[0] / archive.ROCM_SUITE / "pool/main").glob("rocminfo_*.deb")
    fields = subprocess.run(["dpkg-deb", "-f", deb], capture_output=True, text=True, check=True).stdout
    assert "Version: 1.0.0.70200-43~24.04" in fields
    assert "stand-in" in fields


@pytest.fixture
def rocminfo(built, tmp_path):
    (deb,) = (built[0] / archive.ROCM_SUITE / "pool/main").glob("rocminfo_*.deb")
    subprocess.run(["dpkg-deb", "-x", deb, tmp_path / "x"], check=True)
    nodes = tmp_path / "nodes"
    for name, text in (
        ("0", "simd_count 0\ngfx_target_version 0\n"),
        ("1", "simd_count 32\ngfx_target_version 110500\ndevice_id 5390\n"),
    ):
        (nodes / name).mkdir(parents=True)
        (nodes / name / "properties").write_text(text)
    device = tmp_path / "kfd"
    device.touch()

    def call(**changes):
        env = {**os.environ, "OJAI_KFD_NODES": str(nodes), "OJAI_KFD_DEVICE": str(device), **changes}
        return subprocess.run([tmp_path / "x/opt/rocm-7.2.0/bin/rocminfo"], env=env, capture_output=True, text=True)

    return call


def test_rocminfo_lists_the_cpu_and_the_gpu(rocminfo):
    done = rocminfo()
    assert done.returncode == 0
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert [line.split()[-1] for line in lines if line.startswith("Device Type:")] == ["CPU", "GPU"]
    assert "Name:                    gfx1150" in lines


def test_rocminfo_fails_as_the_real_one_without_driver_or_device(rocminfo, tmp_path):
    no_driver = rocminfo(OJAI_KFD_NODES=str(tmp_path / "none"))
    assert no_driver.returncode == 1
    assert "NOT loaded" in no_driver.stdout
    no_device = rocminfo(OJAI_KFD_DEVICE=str(tmp_path / "none" / "kfd"))
    assert no_device.returncode == 1
    assert "Unable to open" in no_device.stdout


def test_index_names_files_relative_to_the_archive(built):
    text = (built[0] / archive.ROCM_SUITE / "dists/noble/main/binary-amd64/Packages").read_text()
    assert all(line.split()[1].startswith("pool/main/") for line in text.splitlines() if line.startswith("Filename:"))
