"""Locked versions, installed, refused and told by the real apt, in a root of its own, from archives that move on."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from apt_root import AptRoot, pytestmark  # noqa: F401
from pyinfra.context import ctx_host, ctx_state
from test_apt_for_real import AMD, refused, source

from ojai.facts.lock import ResolvedPackages
from ojai.facts.report import HostReport
from ojai.facts.report.engine import Engine
from ojai.operations import apt, files, release
from ojai.preflight import lock as preflight
from ojai.preflight import packages
from ojai.roles.versions import DROP_IN, drop_in_text, pins_text
from ojai.settings import parse
from ojai.settings.lock import Lock, profile_hash, protected

OLD, NEW = "1.0.0.70200-43~24.04", "1.0.0.70200-44~24.04"
VERSIONS = {"docker.io": "26.1-1", "containerd": "1.7-1"}
PINS = "etc/apt/preferences.d/ojai-lock"


def publish(host: AptRoot, *versions: tuple[str, str, str, str]) -> None:
    """Both archives, with these packages (archive, name, version, what it needs) and no others."""
    for path in ("ubuntu", AMD):
        shutil.rmtree(host.pool(path), ignore_errors=True)
        for archive, name, version, needs in versions:
            if archive == path:
                host.deb(host.pool(path), name, version, **({"Depends": needs} if needs else {}))
        host.archive(path, {"ubuntu": "Ubuntu", AMD: "repo.radeon.com"}[path])


FIRST = (
    ("ubuntu", "docker.io", "26.1-1", "containerd, libc"), ("ubuntu", "containerd", "1.7-1", ""),
    ("ubuntu", "libc", "2.39-1", ""), (AMD, "rocminfo", OLD, "rocm-core"),
    (AMD, "rocm-core", "7.2.0.70200-43~24.04", ""),
    ("ubuntu", "linux-oem-6.17", "6.17.0-1012.12", ""), ("ubuntu", "curl", "1", ""),
)  # fmt: skip
SECOND = (
    ("ubuntu", "docker.io", "28.5-1", "containerd, libc"), ("ubuntu", "containerd", "2.1-1", ""),
    ("ubuntu", "libc", "2.40-1", ""), (AMD, "rocminfo", NEW, "rocm-core"),
    (AMD, "rocm-core", "7.2.0.70200-44~24.04", ""),
    ("ubuntu", "linux-oem-6.17", "6.17.0-1018.18", ""), ("ubuntu", "curl", "1", ""),
)  # fmt: skip


@pytest.fixture
def box(tmp_path) -> AptRoot:
    """A host whose archives have both generations."""
    (tmp_path / "root").mkdir()
    host = AptRoot(tmp_path / "root", tmp_path / "archives")
    host.amd = f"file:{tmp_path}/archives/{AMD}"
    publish(host, *FIRST, *SECOND)
    host.source("ubuntu.sources", source(f"file:{tmp_path}/archives/ubuntu"))
    host.source("ojai-rocm.sources", source(host.amd))
    host.ok("apt-get -q update")
    return host


def lock(**versions: dict[str, str]) -> Lock:
    image = {"digest": f"sha256:{'0' * 64}", "engine": "vllm 0.20.1", "contract": "0" * 64}
    files_ = {"config.json": {"size": 1, "hash": "0" * 40}}
    return Lock.model_validate(
        {
            "ojai": "0.9.0",
            "images": {"vllm/vllm-openai-rocm:v0.20.1": image},
            "models": {"google/gemma-4-E4B-it@main": {"commit": "0" * 40, "files": files_}},
            "packages": {name: {"taken": "20261101T000000Z", "versions": found} for name, found in versions.items()},
            "profiles": {"gemma-4-e4b": profile_hash("gemma-4-e4b")},
        }
    )


LOCK = lock(docker=VERSIONS, **{"rocm 7.2": {"rocminfo": OLD, "rocm-core": "7.2.0.70200-43~24.04"}})


def pin(box: AptRoot, found: dict[str, str]) -> None:
    assert box.apply(files.text_file, path=f"{box.root}/{PINS}", text=pins_text(found))


def look(box: AptRoot, settings: Any):
    report = box.get_fact(
        HostReport,
        engine_packages=("docker.io",),
        rocm_packages=("rocminfo",),
        rocm_archive=box.amd,
        **preflight.fact_arguments(settings),
    )
    return report, [str(one) for one in preflight.failed(settings, report)], list(preflight.remarks(settings, report))


def foretold(settings: Any, report: Any) -> list[str]:
    """What keeps packages from being installed; the source of this test is not where ojai's is."""
    found = packages.failed(settings, replace(report, rocm_trees=()))
    return [str(one) for one in found if one.check != "ROCm apt sources"]


def settings() -> Any:
    return parse("mini", {"rocm_packages": ["rocminfo"]}).locked(LOCK)


DOCKER = {"names": ["docker.io"], "versions": VERSIONS, "snapshot": "20261101T000000Z"}


def test_the_locked_versions_are_installed_and_what_they_need_too_and_again_nothing(box):
    pin(box, VERSIONS)
    assert box.apply(apt.packages, **DOCKER)
    assert box.versions() == {"docker.io": "26.1-1", "containerd": "1.7-1", "libc": "2.40-1"}
    # What came along is recorded as that, and apt knows that nobody asked for it.
    assert box.noted("packages") == ["docker.io"] and box.noted("dependencies") == ["containerd", "libc"]
    assert box.ok("apt-mark showmanual").split() == ["docker.io"]
    assert not box.apply(apt.packages, **DOCKER)


def test_an_upgrade_by_hand_leaves_them_and_takes_the_rest(box):
    pin(box, VERSIONS)
    assert box.apply(apt.packages, **DOCKER)
    box.ok("apt-get -q -y --allow-downgrades install libc=2.39-1")
    box.ok("apt-get -q -y upgrade")
    assert box.versions() == {"docker.io": "26.1-1", "containerd": "1.7-1", "libc": "2.40-1"}


def test_a_lock_that_has_moved_replaces_them_and_the_way_back_is_known(box, monkeypatch):
    pin(box, VERSIONS)
    assert box.apply(apt.packages, **DOCKER)
    moved = {"docker.io": "28.5-1", "containerd": "2.1-1"}
    pin(box, moved)
    monkeypatch.setattr(apt, "moved", {})
    monkeypatch.setattr(release, "moved", apt.moved)
    box.state.is_executing = True
    assert box.apply(apt.packages, **{**DOCKER, "versions": moved})
    assert {"docker.io": "28.5-1", "containerd": "2.1-1"}.items() <= box.versions().items()
    said: list[str] = []
    monkeypatch.setattr(release, "complain", lambda host, message: said.append(message))
    release._say_moved(box)
    (line,) = said
    assert line.endswith("sudo apt-get install --allow-downgrades containerd=1.7-1 docker.io=26.1-1")
    # Ours to begin with: nothing of the owner's to give back at removal.
    assert box.noted("replaced") == []


def test_rocm_is_put_back_to_the_lock_though_its_archive_has_a_newer_one(box):
    words = {"names": ["rocminfo"], "origin": box.amd}
    assert box.apply(apt.packages, **words)
    assert box.versions()["rocminfo"] == NEW
    versions = LOCK.packages["rocm 7.2"].versions
    pin(box, versions)
    assert box.apply(apt.packages, **words, versions=versions, snapshot="20261101T000000Z")
    assert versions.items() <= box.versions().items()
    assert not box.apply(apt.packages, **words, versions=versions, snapshot="20261101T000000Z")


def test_an_archive_that_has_moved_on_is_refused_while_looking_by_name(box):
    publish(box, *SECOND)
    box.ok("apt-get -q update")
    report, failed, _ = look(box, settings())
    assert report.apt.versions["docker.io"] == ("28.5-1",)
    said = "\n".join(failed)
    for name, found, wanted in (("docker.io", "28.5-1", "26.1-1"), ("rocminfo", NEW, OLD)):
        assert (
            f"locked package: found {name} {found} at file:{box.archives}/" in said
            and f"expected {name} {wanted}, as" in said
        )
        assert f"`ojai lock --upgrade INVENTORY {name}`" in said
    # Only Ubuntu's archive has snapshots.
    assert [" and no snapshot of 20261101T000000Z that has" in line for line in failed if "rocm" in line] == [False] * 2
    assert [" and no snapshot of 20261101T000000Z that has" in line for line in failed if "docker.io" in line] == [True]


def test_a_pocket_that_never_moves_hides_no_archive_that_has(box):
    publish(box, *SECOND, ("ubuntu", "docker.io", "24.0-1", ""))
    box.ok("apt-get -q update")
    _, failed, said = look(box, settings())
    assert any("locked package: found docker.io 28.5-1, 24.0-1 at" in one for one in failed)
    assert "docker.io 28.5-1 (locked: 26.1-1)" in said[0]


def test_ubuntu_s_packages_by_names_of_rocm_s_are_not_newer(box):
    publish(box, *FIRST, ("ubuntu", "rocminfo", "6.1.2-2", ""))
    box.ok("apt-get -q update")
    report, failed, said = look(box, settings())
    assert report.apt.versions["rocminfo"] == ("6.1.2-2", OLD) and failed == []
    assert not any("newer in the archives" in line for line in said)


def test_if_it_moves_after_that_the_installation_fails_and_installs_nothing_else(box):
    pin(box, VERSIONS)
    publish(box, *SECOND)  # apt has not read it anew
    with ctx_state.use(box.state), ctx_host.use(box):
        said = refused(box, apt.packages, **DOCKER)
    assert f"Version '26.1-1' for 'docker.io' was not found at file:{box.archives}/ubuntu" in said
    assert "ojai lock --upgrade" in said
    assert box.versions() == {}


def test_a_dependency_that_the_archive_has_no_more_is_told_before_anything_is_installed(box):
    pin(box, VERSIONS)
    publish(box, FIRST[0], *SECOND[1:3])
    box.ok("apt-get -q update")
    with ctx_state.use(box.state), ctx_host.use(box):
        said = refused(box, apt.packages, **DOCKER)
    assert f"Version '1.7-1' for 'containerd' was not found at file:{box.archives}/ubuntu" in said
    assert box.versions() == {}


def test_pins_of_the_lock_before_do_not_keep_it_from_being_moved(box):
    """As AMD's packages do, rocminfo needs just its own rocm-core; and both generations are in the archive."""
    old, new = ({"rocminfo": version, "rocm-core": version.replace("1.0.0", "7.2.0")} for version in (OLD, NEW))
    both = [
        (AMD, name, found[name], f"rocm-core (= {found['rocm-core']})" if name == "rocminfo" else "")
        for found in (old, new) for name in found
    ]  # fmt: skip
    publish(box, *FIRST[:3], *both)
    box.ok("apt-get -q update")
    words = {"names": ["rocminfo"], "origin": box.amd, "snapshot": "20261101T000000Z"}
    rocm_pin = box.root / "etc/apt/preferences.d/ojai-rocm-pin-600"
    rocm_pin.write_text("Package: *\nPin: release o=repo.radeon.com\nPin-Priority: 600\n")
    pin(box, old)
    assert box.apply(apt.packages, **words, versions=old)
    assert box.versions() == old
    asked = {"families": {"rocm 7.2": ("rocminfo",)}, "names": "^rocm", "asked": ("rocminfo",), "mark": ".70200-"}
    found = box.get_fact(ResolvedPackages, **asked)
    assert found.candidates == {"rocm 7.2": new}
    assert found.since.keys() == old.keys() and all(abs(moment - time.time()) < 600 for moment in found.since.values())
    moved = parse("mini", {"rocm_packages": ["rocminfo"]}).locked(lock(**{"rocm 7.2": new}))
    report, failed, _ = look(box, moved)
    assert failed == [] and report.apt.candidates == {"rocminfo": NEW} and report.apt.refusals == {}
    assert foretold(moved, report) == []
    pin(box, new)
    assert box.apply(apt.packages, **words, versions=new)
    assert box.versions() == new


def test_lists_without_the_locked_rocm_are_no_reason_to_refuse(box):
    publish(box, *FIRST)
    box.ok("apt-get -q update")
    new = {"rocminfo": NEW, "rocm-core": "7.2.0.70200-44~24.04"}
    moved = parse("mini", {"rocm_packages": ["rocminfo"]}).locked(lock(**{"rocm 7.2": new}))
    report, failed, _ = look(box, moved)
    assert failed == [] and report.apt.refusals == {} and report.apt.offers == {"rocminfo": NEW}
    assert foretold(moved, report) == []


def test_what_was_unknown_before_an_archive_was_is_said_once_it_is_known(box, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(apt, "say", lambda host, message: said.append(message))
    versions = LOCK.packages["rocm 7.2"].versions
    pin(box, versions)
    assert box.apply(apt.packages, names=["rocminfo"], origin=box.amd, versions=versions, snapshot="20261101T000000Z")
    assert said == [
        f"lock: newer in the archives: rocminfo {NEW} (locked: {OLD}), rocm-core 7.2.0.70200-44~24.04 (locked: "
        "7.2.0.70200-43~24.04); `ojai lock --upgrade INVENTORY` moves to it"
    ]


def test_lists_that_are_older_than_the_lock_are_read_anew(box):
    publish(box, *FIRST)
    box.ok("apt-get -q update")
    moved = {"docker.io": "28.5-1", "containerd": "2.1-1"}
    newer = parse("mini", {"rocm_packages": ["rocminfo"]}).locked(lock(docker=moved))
    publish(box, *SECOND)
    assert look(box, newer)[1] == []
    pin(box, moved)
    assert box.apply(apt.packages, names=["docker.io"], versions=moved, snapshot="20261101T000000Z")
    assert moved.items() <= box.versions().items()


def test_before_amd_s_archive_is_known_ubuntu_s_package_of_the_same_name_says_nothing(box):
    report, failed, _ = look(box, settings())
    assert failed == []
    bare = replace(report.apt, versions={**report.apt.versions, "rocminfo": ("6.1.2-2",)}, offers={})
    assert list(preflight.failed(settings(), replace(report, apt=bare))) == []
    known = replace(bare, versions={**bare.versions, "rocminfo": ("6.1.2-2", NEW)}, offers={"rocminfo": NEW})
    assert [f"rocminfo {NEW}" in str(one) for one in preflight.failed(settings(), replace(report, apt=known))] == [True]


def test_what_is_newer_is_said_and_a_newer_one_that_is_installed_is_refused(box):
    report, failed, said = look(box, settings())
    assert failed == []
    assert "docker.io 28.5-1 (locked: 26.1-1)" in said[0] and f"rocminfo {NEW} (locked: {OLD})" in said[0]
    box.ok("apt-get -q -y install docker.io rocminfo")
    assert look(box, settings())[1] == []  # an engine of the owner's is no business of the lock
    box.ok("apt-get -q -y remove docker.io containerd")
    assert box.apply(apt.packages, names=["docker.io"])
    _, (failed,), _ = look(box, settings())
    assert failed.startswith("newer package: found docker.io 28.5-1, containerd 2.1-1; expected docker.io 26.1-1")
    assert "sudo apt-get install --allow-downgrades docker.io=26.1-1 containerd=1.7-1" in failed
    # ROCm is not in that list: the deploy replaces it.
    assert "rocminfo" not in failed and report.apt.offers["rocminfo"] == OLD


def test_an_engine_of_the_owner_s_is_neither_pinned_nor_judged():
    theirs = Engine(packages={"docker.io": "28.5-1"}, dockerd=object(), noted=frozenset())
    assert preflight.versions(settings(), Engine()).keys() == {"docker.io", "containerd", "rocminfo", "rocm-core"}
    assert preflight.versions(settings(), theirs).keys() == {"rocminfo", "rocm-core"}


def test_what_a_host_has_and_what_apt_would_install_is_resolved_without_its_caches(box):
    names = "^(" + "|".join(name for names in protected().values() for name in names) + ")"
    asked = {"docker": ("docker.io",), "rocm 7.2": ("rocminfo",), "kernel": ("linux-oem-6.17",)}
    words = {"families": asked, "names": names, "asked": ("docker.io", "rocminfo"), "mark": ".70200-"}
    box.ok("apt-get -q -y install docker.io=26.1-1 containerd=1.7-1 rocminfo")
    before = sorted(path.name for path in (box.root / "var/cache/apt").iterdir())
    found = box.get_fact(ResolvedPackages, **words)
    assert found.closure(["docker.io"]) == VERSIONS  # not libc, which nobody asked for
    assert found.closure(["rocminfo"]) == {"rocminfo": NEW, "rocm-core": "7.2.0.70200-44~24.04"}
    assert found.closure(["linux-oem-6.17"]) == {}
    assert found.candidates["docker"]["docker.io"] == "28.5-1" and found.candidates["docker"]["containerd"] == "2.1-1"
    assert found.candidates["kernel"] == {"linux-oem-6.17": "6.17.0-1018.18"}
    assert sorted(path.name for path in (box.root / "var/cache/apt").iterdir()) == before


def test_apt_reads_the_drop_in_beside_the_owner_s_list(tmp_path, box):
    parts = tmp_path / "parts"
    parts.mkdir()
    (parts / "50unattended-upgrades").write_text('Unattended-Upgrade::Package-Blacklist {\n  "owner-s";\n};\n')
    (parts / Path(DROP_IN).name).write_text(drop_in_text(list(protected())))
    config = tmp_path / "both.conf"
    config.write_text("".join(path.read_text() for path in sorted(parts.iterdir())))
    shown = box.ok(f"apt-config -c {config} dump Unattended-Upgrade::Package-Blacklist")
    assert '"owner-s";' in shown
    for names in protected().values():
        assert all(f'"{name}";' in shown for name in names)
