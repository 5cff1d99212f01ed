"""The host's own apt sources, as apt itself reads them on made-up trees, and what preflight says of them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from real_host import RealHost
from test_facts_for_real import rooted, write

from ojai.facts.report import HostReport, Report
from ojai.facts.report.apt import AptReport, Source
from ojai.preflight import packages
from ojai.settings import parse

pytestmark = pytest.mark.skipif(not shutil.which("apt-get"), reason="asks apt")

DOCKER = "https://download.docker.com/linux/ubuntu"
AMD = "https://repo.radeon.com/rocm/apt/7.2"
PARTS = "etc/apt/sources.list.d"


def deb822(uris: str, suites: str = "noble", components: str = "main", **more: str) -> str:
    fields = {"Types": "deb", "URIs": uris, "Suites": suites, "Components": components, **more}
    return "".join(f"{key.replace('_', '-')}: {value}\n" for key, value in fields.items())


@pytest.fixture
def look(tmp_path):
    """``look(path=text, …)`` writes these files, and reports the host that has them."""
    (tmp_path / PARTS).mkdir(parents=True)

    def report(**files: str) -> Report:
        write(tmp_path, **files)
        command = rooted(HostReport().command(), tmp_path, "/etc/apt/", "/var/lib/apt/", "/var/lib/ojai/", "/opt/")
        done = RealHost({"LC_ALL": "C"}).sh(command)
        assert (done.returncode, done.stderr) == (0, "")
        assert "geheim" not in done.stdout
        found = HostReport().process(done.stdout.replace(str(tmp_path), "").splitlines())
        assert found is not None
        return found

    return report


def names(found: AptReport) -> list[tuple[str, int, str, str]]:
    return [(source.file.rpartition("/")[2], source.entry, source.uri, source.suite) for source in found.sources]


def test_both_formats_are_read_by_apt_itself(look):
    found = look(
        **{
            "etc/apt/sources.list": "# deb https://repo.radeon.com/rocm/apt/6.4 noble main\n\n"
            f"deb [ arch=amd64,i386 signed-by=/etc/apt/keyrings/rocm.gpg ] {AMD}/ noble main proprietary\n",
            f"{PARTS}/off.sources": f"Enabled: no\n{deb822(AMD)}",
            f"{PARTS}/half.sources": f"# a comment\n\n{deb822(AMD, Enabled='no')}\n\n# another\n"
            f"{deb822(AMD, 'jammy noble', Signed_By='/a.gpg /b.gpg', Architectures='amd64')}",
            f"{PARTS}/old.list.save": f"deb {AMD} noble main\n",
            f"{PARTS}/no name.list": f"deb {AMD} noble main\n",
            f"{PARTS}/src.list": f"deb-src {DOCKER} noble stable\n",
        }
    ).apt
    assert names(found) == [
        ("sources.list", 3, AMD, "noble"),
        ("src.list", 1, DOCKER, "noble"),
        ("half.sources", 2, AMD, "jammy"),
        ("half.sources", 2, AMD, "noble"),
    ]
    listed, source_packages, stanza, _ = found.sources
    assert (listed.components, listed.architectures) == (("main", "proprietary"), ("amd64", "i386"))
    assert (listed.signed_by, stanza.signed_by) == ("/etc/apt/keyrings/rocm.gpg", "/a.gpg /b.gpg")
    assert source_packages.architectures == ("source",)
    assert [source.kind for source in found.sources] == ["rocm", "docker", "rocm", "rocm"]


def test_credentials_stay_on_the_host(look):
    found = look(
        **{
            f"{PARTS}/docker.list": "deb [signed-by=/b.gpg] https://ada:geheim@download.docker.com/linux/ubuntu noble "
            "stable\n",
            f"{PARTS}/more.list": "deb [signed-by=/a.gpg] https://ada:geheim@download.docker.com/linux/ubuntu noble "
            "stable\n",
        }
    ).apt
    assert names(found) == [("docker.list", 1, DOCKER, "noble"), ("more.list", 1, DOCKER, "noble")]
    assert found.conflict.startswith(f"Conflicting values set for option Signed-By regarding source {DOCKER}/ noble")


def test_a_file_that_apt_refuses_hides_no_other(look):
    found = look(
        **{
            f"{PARTS}/a.list": "deb https://ada:geheim@a.example noble\n",
            f"{PARTS}/b.list": f"deb {AMD} noble main\n",
            f"{PARTS}/c.sources": "Types: deb\nURIs: https://c.example\n",
        }
    )
    assert names(found.apt) == [("b.list", 1, AMD, "noble")]
    assert [file.rpartition("/")[2] for file in found.apt.unreadable] == ["a.list", "c.sources"]
    failed = [one for one in packages.failed(parse("mini", {}), found) if one.check == "apt sources"]
    assert len(failed) == 1 and "a.list: Malformed entry 1" in failed[0].found and "c.sources" in failed[0].found


def test_a_mirror_is_known_by_the_origin_that_its_release_file_names(look):
    site = "https://mirror.example.net/~ada/a_b"
    lists = "var/lib/apt/lists/mirror.example.net_%7eada_a%5fb_dists_noble_InRelease"
    source = {f"{PARTS}/m.list": f"deb {site} noble main\n"}
    assert [one.kind for one in look(**source).apt.sources] == ["other"]
    (found,) = look(**source, **{lists: "-----BEGIN PGP\n\nOrigin: repo.radeon.com\nLabel: x\n"}).apt.sources
    assert (found.origin, found.kind, found.uri) == ("repo.radeon.com", "rocm", site)


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("https://repo.radeon.com/rocm/apt/7.2", "rocm"),
        ("https://repo.radeon.com/amdgpu/30.30/ubuntu", "rocm"),
        ("https://repo.radeon.com/graphics/7.2/ubuntu", "rocm"),
        ("https://stable.repo.amd.com/rocm/core/packages/ubuntu2404", "rocm"),
        ("https://stable.repo.amd.com/rocm/packages/ubuntu2404", "rocm"),
        ("https://rocm.nightlies.amd.com/deb/20260211-21893116598", "rocm"),
        ("http://cache.example.net:3142/HTTPS///repo.radeon.com/rocm/apt/7.2", "rocm"),
        ("https://mirror.example.net/rocm/packages/ubuntu2404", "rocm"),
        ("https://repo.radeon.com/amd-container-toolkit/apt", "other"),
        ("https://ppa.launchpadcontent.net/graphics-drivers/ppa/ubuntu", "other"),
        ("https://notradeon.com/debian", "other"),
        ("http://archive.ubuntu.com/ubuntu", "other"),
        ("https://download.docker.com/linux/ubuntu", "docker"),
        ("https://mirrors.example.org/docker-ce/linux/ubuntu", "docker"),
    ],
)
def test_what_an_archive_is(uri, kind):
    assert Source("/f", 1, uri, "noble").kind == kind


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Armoured keys with their fingerprints: valid, expired, and valid with an expired subkey for signing."""
    found = {}
    home = tmp_path_factory.mktemp("gnupg")
    home.chmod(0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]

    def run(*words: str) -> str:
        return subprocess.run([*gpg, *words], check=True, capture_output=True, text=True).stdout

    old = ["--faked-system-time", "20200101T000000"]
    try:
        for name in ("valid", "expired", "subkey"):
            until = "1y" if name == "expired" else "never"
            run(*old, "--quick-gen-key", name, "ed25519", "cert,sign", until)
            listing = run("--with-colons", "-k", name)
            fingerprint = next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr"))
            if name == "subkey":
                run(*old, "--quick-add-key", fingerprint, "ed25519", "sign", "1y")
            found[name] = (run("--armor", "--export", fingerprint), fingerprint)
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)
    return found


def docker(
    tmp_path: Path, keys: dict[str, tuple[str, str]], key: str = "valid", file: str = "docker.asc"
) -> dict[str, str]:
    return {f"etc/apt/keyrings/{file}": keys[key][0]}


def settings(keys, key: str = "valid", **data):
    return parse("mini", {"docker_source": "docker", "docker_key_fingerprint": keys[key][1], **data})


def spellings(root: Path, key: str) -> dict[str, dict[str, str]]:
    """The same source of Docker's as its pages, add-apt-repository and older pages write it."""
    ring = f"{root}/etc/apt/keyrings/docker.asc"
    embedded = "\n" + "\n".join(f" {line or '.'}" for line in key.splitlines())
    return {
        "list": {f"{PARTS}/docker.list": f"deb [arch=amd64 signed-by={ring}] {DOCKER} noble stable\n"},
        "deb822": {f"{PARTS}/docker.sources": deb822(DOCKER, components="stable", Signed_By=ring)},
        "embedded": {f"{PARTS}/docker.sources": deb822(DOCKER, components="stable", Signed_By=embedded)},
        "all keys": {f"{PARTS}/docker.list": f"deb {DOCKER} noble stable\n", "etc/apt/trusted.gpg.d/docker.asc": key},
    }


@pytest.mark.parametrize("spelling", ["list", "deb822", "embedded", "all keys"])
def test_dockers_source_of_the_owners_is_used_as_it_is(look, keys, tmp_path, spelling):
    """Tried against apt: a second entry with another key would make every apt call of the host fail."""
    report = look(**docker(tmp_path, keys), **spellings(tmp_path, keys["valid"][0])[spelling])
    (source,) = report.apt.sources
    assert keys["valid"][1] in source.keys
    assert packages.usable_docker_source(settings(keys), report) == source
    assert not list(packages.failed(settings(keys), report))


@pytest.mark.parametrize(
    ("source", "key", "why"),
    [
        ("deb [signed-by=RING] https://download.docker.com/linux/ubuntu jammy stable", "valid", "its suite is jammy"),
        ("deb [signed-by=RING] https://download.docker.com/linux/ubuntu noble test", "valid", "component stable"),
        ("deb [arch=arm64 signed-by=RING] https://download.docker.com/linux/ubuntu noble stable", "valid", "arm64"),
        ("deb [signed-by=RING] https://download.docker.com/linux/ubuntu noble stable", "expired", "its key is absent"),
        ("deb [signed-by=RING] https://download.docker.com/linux/ubuntu noble stable", "subkey", "its key is absent"),
        ("deb [signed-by=/none.gpg] https://download.docker.com/linux/ubuntu noble stable", "valid", "key is absent"),
    ],
)
def test_a_source_of_dockers_that_will_not_do_is_refused_by_its_file(look, keys, tmp_path, source, key, why):
    line = source.replace("RING", f"{tmp_path}/etc/apt/keyrings/docker.asc")
    report = look(**docker(tmp_path, keys, key), **{f"{PARTS}/docker.list": f"{line}\n"})
    assert packages.usable_docker_source(settings(keys, key), report) is None
    (failed,) = packages.failed(settings(keys, key), report)
    assert failed.check == "Docker apt sources"
    assert "/etc/apt/sources.list.d/docker.list" in failed.found and why in failed.found


def test_a_second_entry_that_an_earlier_deploy_wrote_is_removed_and_not_refused(look, keys, tmp_path):
    ours = deb822(DOCKER, components="stable", Signed_By=f"{tmp_path}{packages.DOCKER_KEYRING}")
    both = {**spellings(tmp_path, keys["valid"][0])["list"], packages.DOCKER_SOURCE.lstrip("/"): ours}
    report = look(**docker(tmp_path, keys), **both)
    assert packages.DOCKER_KEYRING in report.apt.conflict
    assert packages.usable_docker_source(settings(keys), report)
    assert not list(packages.failed(settings(keys), report))
    theirs = {f"{PARTS}/more.list": f"deb [signed-by=/other.gpg] {DOCKER} noble stable\n"}
    (tmp_path / packages.DOCKER_SOURCE.lstrip("/")).unlink()
    (failed,) = packages.failed(settings(keys), look(**theirs))
    assert failed.check == "apt sources" and "Conflicting values" in failed.found


def test_amds_installer_is_named_and_its_release_can_be_adopted(look):
    """The files that amdgpu-install writes for ROCm 7.2, under any key."""
    ring = "[arch=amd64,i386 signed-by=/etc/apt/keyrings/rocm.gpg]"
    files = {
        f"{PARTS}/amdgpu.list": f"deb {ring} https://repo.radeon.com/amdgpu/30.30/ubuntu noble main\n",
        f"{PARTS}/rocm.list": f"deb {ring} {AMD} noble main\n"
        f"deb {ring} https://repo.radeon.com/graphics/7.2/ubuntu noble main\n",
        f"{PARTS}/amdgpu-proprietary.list": "#deb https://repo.radeon.com/amdgpu/7.2/ubuntu noble proprietary\n",
        "etc/apt/preferences.d/rocm-pin-600": "# AMD\nPackage: *\nPin: release o=repo.radeon.com\nPin-Priority: 600\n",
        "etc/apt/preferences.d/other": "Package: firefox\nPin: release o=LP\nPin-Priority: 1\n",
    }
    report = look(**files)
    found = packages.equivalent_files(parse("mini", {}), report)
    assert [file.rpartition("/")[2] for file in found] == ["amdgpu.list", "rocm.list"]
    (failed,) = packages.failed(parse("mini", {}), report)
    assert failed.check == "ROCm apt sources" and "adopt: true" in failed.todo
    assert {file.rpartition("/")[2]: text for file, text in report.apt.pins.items()} == {
        "rocm-pin-600": ("Package: *; Pin: release o=repo.radeon.com; Pin-Priority: 600",)
    }
    other = parse("mini", {"rocm_channel": "7.2.4"})
    assert packages.equivalent_files(other, report) == ()
    (failed,) = packages.failed(other, report)
    assert "adopt" not in failed.todo and "remove or disable" in failed.todo


def test_a_file_with_something_else_in_it_is_not_adopted(look):
    report = look(
        **{"etc/apt/sources.list": f"deb {AMD} noble main\ndeb http://archive.example.org/ubuntu noble main\n"}
    )
    assert len(packages.foreign_rocm_sources(parse("mini", {}), report)) == 1
    assert packages.equivalent_files(parse("mini", {}), report) == ()


def test_the_mirror_of_the_inventory_is_amds_archive_before_apt_has_read_it(look):
    data = {"rocm_mirror": "https://mirror.example.net/radeon"}
    source = deb822("http://mirror.example.net/radeon/rocm/apt/7.2/")
    report = look(**{f"{PARTS}/company.sources": source})
    assert packages.equivalent_files(parse("mini", data), report) == ("/etc/apt/sources.list.d/company.sources",)


@pytest.mark.skipif(os.getuid() != 0, reason="asks dpkg of this machine")
def test_the_package_that_a_file_belongs_to_is_named(look, tmp_path):
    fake = tmp_path / "programs"
    fake.mkdir()
    (fake / "dpkg-query").write_text('#!/bin/sh\ncase "$1" in -S) echo "amdgpu-install: $2";; esac\n')
    (fake / "dpkg-query").chmod(0o755)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PATH", f"{fake}:{os.environ['PATH']}")
        report = look(**{f"{PARTS}/rocm.list": f"deb {AMD} noble main\n"})
    assert report.apt.sources[0].package == "amdgpu-install"
