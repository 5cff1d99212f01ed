"""The lab's image cache: hashing of inputs, atomic results, space check, the build command."""

import fnmatch
import shutil
import socket
import subprocess
import threading
import time

import pytest

from ojai import systems
from ojai.lab import image, packages, suites
from ojai.lab.errors import LabError
from ojai.lab.suites import SUITES
from ojai.settings import parse


def test_digest_changes_with_content_name_mode_and_words(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    file = folder / "a"
    file.write_text("one")
    seen = {image.digest_of([folder])}
    file.write_text("two")
    seen.add(image.digest_of([folder]))
    file.chmod(0o755)
    seen.add(image.digest_of([folder]))
    file.rename(folder / "b")
    seen.add(image.digest_of([folder]))
    seen.add(image.digest_of([folder], "word"))
    assert len(seen) == 5
    assert image.digest_of([folder], "word") == image.digest_of([folder], "word")


def test_digest_does_not_depend_on_where_the_checkout_is(tmp_path):
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("same")
    assert image.digest_of([tmp_path / "x"]) == image.digest_of([tmp_path / "y"])


def test_failed_build_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), image.fresh(tmp_path, "thing") as work:
        (work / "half").write_text("done")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_left_over_of_a_killed_build_is_cleared_away(tmp_path):
    (tmp_path / ".thing.killed").mkdir()
    with image.fresh(tmp_path, "thing") as work:
        (work / "file").write_text("whole")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["thing"]
    assert (tmp_path / "thing" / "file").read_text() == "whole"


def test_lock_lets_one_builder_in(tmp_path):
    order = []
    inside = threading.Event()

    def other():
        inside.wait()
        with image.locked(tmp_path, "thing"):
            order.append("second")

    thread = threading.Thread(target=other)
    thread.start()
    with image.locked(tmp_path, "thing"):
        inside.set()
        thread.join(0.3)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_too_little_disk_is_told_before_anything_is_built(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    image.need_space(tmp_path, free // 2)
    with pytest.raises(LabError, match="OJAI_LAB_CACHE"):
        image.need_space(tmp_path, free * 2)


def test_cache_folder_is_a_setting(tmp_path, monkeypatch):
    monkeypatch.setenv("OJAI_LAB_CACHE", str(tmp_path))
    assert image.cache_root() == tmp_path
    monkeypatch.delenv("OJAI_LAB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert image.cache_root() == tmp_path / "xdg" / "ojai-lab"


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_only_the_suite_is_named_never_a_mirror(tmp_path, suite):
    argv = image.disk_argv(tmp_path, suite)
    assert argv[-2:] == [suite.name, "/dev/null"]
    assert not [word for word in argv if "://" in word]
    assert bool([word for word in argv if "Check-Valid-Until" in word]) == (suite.name == "forky")
    assert ("--components=main,universe" in argv) == (suite.name == "noble")


def test_a_suite_of_ubuntu_is_the_system_that_the_defaults_are_for():
    noble, facts = SUITES["noble"], systems.reference()
    assert noble.inventory == {}
    assert (noble.name, noble.kernel, noble.docker) == (facts.codename, facts.kernel_package, facts.docker_packages)


@pytest.mark.parametrize("suite", [one for one in SUITES.values() if one.vendor == "debian"], ids=lambda one: one.name)
def test_a_suite_of_debian_says_what_differs_and_boots_the_kernel_that_is_installed(suite):
    found = parse("lab", suite.inventory)
    assert found.kernel_package == suite.kernel in suite.preseed
    assert set(found.docker_packages or ["docker.io"]) == set(suite.docker) <= set(suite.preseed)
    # Of one version GRUB boots the cloud kernel before the ordinary one.
    assert suite.stock != suite.name


def test_ubuntus_own_is_chosen_on_an_ubuntu_whose_archive_answers(monkeypatch, tmp_path):
    monkeypatch.setattr(suites, "reachable", lambda: True)
    keys = tmp_path / "keys"
    monkeypatch.setitem(packages.KEYRINGS, "ubuntu", (keys, "ubuntu-keyring"))
    assert suites.chosen(None).name == "trixie"
    keys.touch()
    assert (suites.chosen(None).name, suites.chosen("forky").name) == ("noble", "forky")
    monkeypatch.setattr(suites, "reachable", lambda: False)
    assert suites.chosen(None).name == "trixie"
    with pytest.raises(LabError, match="there is no suite 'sid'"):
        suites.of("sid")


def test_an_archive_that_does_not_answer_is_given_up_after_a_moment():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        assert not suites.reachable(address, timeout=0.3)
        assert time.monotonic() - began < 5
    assert not suites.reachable(address)


def test_an_engine_that_a_suite_cannot_have_is_refused():
    with pytest.raises(LabError, match="bookworm has no Docker with containerd's image store"):
        image.settings(SUITES["bookworm"], "containerd", ())
    assert image.settings(SUITES["trixie"], "containerd", ())["LAB_ENGINE_SUITE"] == "forky"
    assert image.settings(SUITES["trixie"], "overlay2", ())["LAB_ENGINE_SUITE"] == ""


def test_shell_scripts_parse():
    for script in (*image.GUEST.glob("*.sh"), image.HERE / "container.sh"):
        subprocess.run(["sh", "-n", script], check=True)


def test_guest_says_it_is_ubuntu_24_04_and_that_it_is_a_stand_in():
    lines = (image.GUEST / "root/etc/os-release").read_text().splitlines()
    release = {key: value.strip('"') for key, _, value in (line.partition("=") for line in lines)}
    assert (release["ID"], release["VERSION_ID"], release["VERSION_CODENAME"]) == ("ubuntu", "24.04", "noble")
    assert "stand-in" in release["VARIANT"]


def test_guest_does_not_exclude_a_module_that_amdgpu_needs():
    excluded = (image.GUEST / "root/etc/dpkg/dpkg.cfg.d/ojai-lab").read_text()
    patterns = [
        line.partition("=")[2] for line in excluded.splitlines() if line.startswith("path-exclude=/lib/modules")
    ]
    needed = (
        "drivers/gpu/drm/amd/amdgpu/amdgpu.ko.xz",
        "drivers/gpu/drm/vgem/vgem.ko.xz",
        "drivers/gpu/drm/ttm/ttm.ko.xz",
        "drivers/gpu/drm/display/drm_display_helper.ko.xz",
        "drivers/media/cec/core/cec.ko.xz",
        "drivers/media/rc/rc-core.ko.xz",
        "drivers/platform/x86/wmi.ko.xz",
        "drivers/acpi/video.ko.xz",
        "drivers/i2c/algos/i2c-algo-bit.ko.xz",
        "drivers/input/evdev.ko.xz",
        "drivers/net/virtio_net.ko.xz",
        "drivers/net/veth.ko.xz",
        "net/bridge/bridge.ko.xz",
        "fs/overlayfs/overlay.ko.xz",
        "drivers/firmware/qemu_fw_cfg.ko.xz",
    )
    for module in needed:
        path = f"/lib/modules/6.12.0-amd64/kernel/{module}"
        assert not [pattern for pattern in patterns if fnmatch.fnmatch(path, pattern)], module
    assert any(fnmatch.fnmatch("/lib/modules/6.12.0-amd64/kernel/sound/soundcore.ko.xz", each) for each in patterns)


def test_prune_removes_only_bases_that_no_disk_needs(tmp_path):
    disk = tmp_path / "disk.qcow2"
    disk.touch()
    gone = tmp_path / "gone"
    for name, user in (("base-used", disk), ("base-old", gone), ("base-new", gone), ("basement-x", gone)):
        (tmp_path / name).mkdir()
        image.claim(tmp_path / name, user)
    (tmp_path / "base-unknown").mkdir()
    image.prune(tmp_path, "base-new", "base-")
    assert (tmp_path / "basement-x").exists()
    assert sorted(item.name for item in tmp_path.glob("base-*")) == ["base-new", "base-unknown", "base-used"]
